"""From which storage formats into which, for the parameters of one group."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from adamantine.rules import Rule
from adamantine.torch.storage.elements import Run
from adamantine.torch.storage.layout import Formats

Policy = Literal["as saved", "as asked", "as live"]

#: Elements at a time: the codes make a dozen temporaries of this size. A multiple of a block.
PIECE = 2**20


@dataclass(frozen=True)
class Transfer:
    """One group's way from one storage into another.

    Attributes:
        group: with the options under which the state is to be kept.
        rule: of the group.
        saved: how it is stored.
        live: how it is to be stored.
        policy: ``"as saved"`` keeps every slot; ``"as asked"`` converts those for which the options name a
            format, ``"as live"`` also those for which they say None, the parameter's dtype.
        on_host: whether the state is in host memory, wherever the parameter is.
    """

    group: dict[str, Any]
    rule: Rule
    saved: Formats
    live: Formats
    policy: Policy
    on_host: bool = False

    def device(self, p: Tensor) -> torch.device:
        """Where the state of a parameter is."""
        return torch.device("cpu") if self.on_host else p.device


def pieces(n: int, device: torch.device) -> Iterator[Run]:
    """All of n elements."""
    for start in range(0, n, PIECE):
        yield Run(start, min(start + PIECE, n), device)
