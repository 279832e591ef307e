"""Other implementations of AdamW, one small adapter each.

None is required and none is installed from here. A peer's own defaults stay as they are, but for the learning
rate, the weight decay, and what makes it the same algorithm.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch.nn import Parameter

from adamantine.bench.errors import BenchError
from adamantine.bench.formats import BITSANDBYTES, TORCHAO_4, TORCHAO_8, TORCHAO_FP8

#: Small, so that parameters move little over thousands of steps. No speed depends on them.
LR, WEIGHT_DECAY = 1e-4, 0.01

Make = Callable[[list[Parameter]], Any]  # parameters → something with torch's step() and zero_grad()


@dataclass(frozen=True)
class Peer:
    """One contestant. ``module`` is looked for, never imported before the peer is built."""

    key: str  # for --peers
    name: str
    module: str
    distribution: str
    make: Make

    @property
    def installed(self) -> bool:
        return find_spec(self.module) is not None

    @property
    def version(self) -> str:
        return importlib.metadata.version(self.distribution)


def _torch(fused: bool | None = None, foreach: bool | None = None) -> Make:
    return partial(torch.optim.AdamW, lr=LR, weight_decay=WEIGHT_DECAY, fused=fused, foreach=foreach)


def _compiled(params: list[Parameter]) -> Any:
    optimizer = torch.optim.AdamW(params, lr=LR, weight_decay=WEIGHT_DECAY)
    vars(optimizer)["step"] = torch.compile(optimizer.step)
    return optimizer


def _deepspeed(params: list[Parameter]) -> Any:
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    module = import_module("deepspeed.ops.adam")
    return module.DeepSpeedCPUAdam(params, lr=LR, weight_decay=WEIGHT_DECAY, adamw_mode=True)


def _optimi(params: list[Parameter]) -> Any:
    hyper = {"lr": LR, "weight_decay": WEIGHT_DECAY, "betas": (0.9, 0.999), "eps": 1e-8}
    return import_module("optimi").AdamW(params, **hyper)


def _pytorch_optimizer(params: list[Parameter]) -> Any:
    # Its AdamW is torch's. This is AdamW with a bounded update, in its own code.
    return import_module("pytorch_optimizer").StableAdamW(
        params, lr=LR, weight_decay=WEIGHT_DECAY, betas=(0.9, 0.999), kahan_sum=False
    )


def _schedulefree(params: list[Parameter]) -> Any:
    optimizer = import_module("schedulefree").AdamWScheduleFree(params, lr=LR, weight_decay=WEIGHT_DECAY)
    optimizer.train()
    return optimizer


def _bitsandbytes(params: list[Parameter]) -> Any:
    return import_module("bitsandbytes").optim.AdamW8bit(params, lr=LR, weight_decay=WEIGHT_DECAY)


def _torchao(name: str) -> Make:
    def make(params: list[Parameter]) -> Any:
        logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
        return getattr(import_module("torchao.optim"), name)(params, lr=LR, weight_decay=WEIGHT_DECAY)

    return make


PEERS: dict[str, Peer] = {
    peer.key: peer
    for peer in (
        Peer("fused", "torch fused", "torch", "torch", _torch(fused=True)),
        Peer("default", "torch default", "torch", "torch", _torch()),
        Peer("foreach", "torch foreach", "torch", "torch", _torch(foreach=True)),
        Peer("deepspeed", "DeepSpeed CPUAdam", "deepspeed", "deepspeed", _deepspeed),
        Peer("optimi", "optimi", "optimi", "torch-optimi", _optimi),
        Peer(
            "pytorch_optimizer",
            "pytorch_optimizer",
            "pytorch_optimizer",
            "pytorch_optimizer",
            _pytorch_optimizer,
        ),
        Peer("schedulefree", "schedulefree", "schedulefree", "schedulefree", _schedulefree),
        Peer("bitsandbytes", BITSANDBYTES, "bitsandbytes", "bitsandbytes", _bitsandbytes),
        Peer("torchao8", TORCHAO_8, "torchao", "torchao", _torchao("AdamW8bit")),
        Peer("torchao4", TORCHAO_4, "torchao", "torchao", _torchao("AdamW4bit")),
        Peer("torchaofp8", TORCHAO_FP8, "torchao", "torchao", _torchao("AdamWFp8")),
        Peer("compile", "torch.compile(step)", "torch", "torch", _compiled),
    )
}
ON_REQUEST = ("compile",)  # minutes of compilation


def chosen(keys: tuple[str, ...]) -> tuple[Peer, ...]:
    """The peers of these keys; where none is named, all that need no asking for.

    Raises:
        BenchError: there is no such peer.
    """
    for key in keys:
        if key not in PEERS:
            raise BenchError(f"--peers {key!r}: there are {', '.join(PEERS)}")
    wanted = keys or tuple(key for key in PEERS if key not in ON_REQUEST)
    return tuple(peer for peer in PEERS.values() if peer.key in wanted)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """What peers print and warn of while they are built is not for the user of a benchmark."""
    silence = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(silence), contextlib.redirect_stderr(silence):
        warnings.simplefilter("ignore")
        yield
