"""Master weights: what a 16-bit parameter and its residual stand for, and one kind of residual as another."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from adamantine.torch.storage import codecs
from adamantine.torch.storage import layout as storage
from adamantine.torch.storage.change import WEIGHTS, Account
from adamantine.torch.storage.layout import RESIDUAL, residual_dtype
from adamantine.torch.storage.transfer import Transfer, pieces


def recode_weights(p: Tensor, name: str, transfer: Transfer, entry: dict[str, Any], account: Account) -> None:
    """The master weight of one parameter in another format; θ moves by a unit of its last place at most.

    From and to formats without a residual, θ is what it was; the residual that goes is the loss. A residual
    that is needed and was not there starts at zero, with the next step.
    """
    old, new = transfer.saved.weights_of(p), transfer.live.weights_of(p)
    residual = entry.get(RESIDUAL)
    if old == new or residual is None:
        return
    tally = account.tally(WEIGHTS, old, new)
    flat, left = storage.real(p.detach()).reshape(-1), storage.real(residual).reshape(-1)
    dtype = residual_dtype(p, transfer.live)
    made = torch.empty(flat.shape, dtype=dtype, device=p.device)
    for run in pieces(flat.numel(), p.device):
        theta = flat[run.here]
        before = codecs.join(theta, left[run.here])
        if dtype is None:
            tally.measure(name, before, theta.float())
            continue
        phases = torch.full_like(before, codecs.NEAREST, dtype=torch.int32)
        short, rest = codecs.split_off(before, new, theta.dtype, phases)
        flat[run.here] = short
        made[run.here] = rest
        tally.measure(name, before, codecs.join(short, rest))
    del entry[RESIDUAL]
    kept = []
    if dtype is not None:
        storage.real(p.detach()).copy_(flat.view(storage.real(p).shape))
        entry[RESIDUAL] = torch.empty_like(p, dtype=dtype, requires_grad=False)
        storage.real(entry[RESIDUAL]).copy_(made.view(storage.real(p).shape))
        kept = [entry[RESIDUAL]]
    tally.count([p, residual], [p, *kept])
