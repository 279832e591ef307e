"""Gains and normalizations of unknown classes, known by what they do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from adamantine.audit import audit
from adamantine.audit.gains import gain


class Base(nn.Module):
    """Names nothing: neither class nor attribute tells a gain."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(shape))
        self.calls = 0


class PerHead(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.w * nn.functional.normalize(x, dim=-1, eps=1e-6)


class Gated(Base):
    def __init__(self, *shape: int) -> None:
        super().__init__(*shape)
        nn.init.zeros_(self.w)
        self.b = nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.w * x + self.b


class Mixing(Base):
    def forward(self, x: Tensor) -> Tensor:
        return x @ self.w


class Added(Base):
    def forward(self, x: Tensor) -> Tensor:
        return x + self.w


class OnePlus(Base):
    """As Gemma's RMSNorm: the gain is 1 + w."""

    def forward(self, x: Tensor) -> Tensor:
        return (1 + self.w) * x / x.square().mean(-1, keepdim=True).add(1e-6).sqrt()


class Raising(Base):
    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("needs a mask")


class Drawing(Base):
    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.w * x * (torch.rand(()) > -1)


@pytest.mark.parametrize(
    ("cls", "shape", "kind"),
    [
        (PerHead, (4, 8), "norm"),
        (PerHead, (8,), "norm"),
        (OnePlus, (4, 8), "norm"),
        (Gated, (4, 8), "scale"),
        (Mixing, (8, 8), None),
        (Added, (4, 8), None),
        (Raising, (4, 8), None),
        (PerHead, (512, 512), None),  # too large to be tried
    ],
)
def test_what_a_module_does_decides(cls: Any, shape: tuple[int, ...], kind: str | None) -> None:
    found = gain(cls(*shape), "w")
    assert (found.kind if found else None) == kind


def test_neither_module_nor_random_state_changes() -> None:
    module = Drawing(4, 8)
    state, before = torch.get_rng_state(), module.w.detach().clone()
    found = gain(module, "w")
    assert found is not None
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(module.w, before)
    assert module.calls == 0
    assert module.training


def test_the_audit_tells_of_a_normalization_that_only_its_deeds_give_away() -> None:
    model = nn.Sequential(PerHead(4, 8), nn.Linear(8, 8, bias=False))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    (finding,) = audit(optimizer, model).findings
    assert (finding.code, finding.parameters) == ("decays-norm", ("0.w",))
