"""Every check can fail, and can be passed: a class that breaks just this, beside one that does not."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import MethodType
from typing import Any

import pytest
import torch
from torch import Tensor

from adamantine.testing import Outcome, check_optimizer
from adamantine.testing.registry import CHECKS

if "bugs_of_the_kit" not in sys.modules:
    _spec = importlib.util.spec_from_file_location("bugs_of_the_kit", Path(__file__).with_name("bugs.py"))
    sys.modules[_spec.name] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules[_spec.name])
bugs = sys.modules["bugs_of_the_kit"]
Base = bugs.Base


def _refusing(condition: Any) -> Any:
    """A step that does not take some parameters."""

    def update(self: Any, p: Tensor, g: Tensor, group: dict[str, Any]) -> None:
        if condition(p):
            raise ValueError("not these")
        Base.update(self, p, g, group)

    return update


def _clipped_by_value(self: Any, p: Tensor, g: Tensor, group: dict[str, Any]) -> Tensor:
    return Base.direction(self, p, g.clamp(-1, 1), group)


def _betas_of_the_defaults(self: Any, p: Tensor, g: Tensor, group: dict[str, Any]) -> Tensor:
    return Base.direction(self, p, g, {**group, "betas": self.defaults["betas"]})


def _gradient_as_if_contiguous(self: Any, p: Tensor, g: Tensor, group: dict[str, Any]) -> Tensor:
    return Base.direction(self, p, torch.as_strided(g, g.shape, p.contiguous().stride()), group)


def _by_another_thread_count(self: Any, p: Tensor, g: Tensor, group: dict[str, Any]) -> Tensor:
    return Base.direction(self, p, g * (1 + 1e-3 * torch.get_num_threads()), group)


def _freezing(self: Any, p: Tensor, g: Tensor, group: dict[str, Any]) -> None:
    Base.update(self, p, g, group)
    p.requires_grad_(False)


def _lr_is_a_number(self: Any, params: Any, lr: float = 1e-3, weight_decay: float = 1e-2) -> None:
    if not isinstance(lr, float):
        raise TypeError("lr must be a float")
    Base.__init__(self, params, lr=lr, weight_decay=weight_decay)


class ClipsByTheNorm(Base):
    """Of all gradients together, inside the step."""

    def step(self, closure: Any = None) -> Any:
        given = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        grads = [p.grad for p in given]
        norm = torch.stack([g.norm() for g in grads]).norm()
        for p in given:
            p.grad = p.grad / norm
        loss = Base.step(self, closure)
        for p, g in zip(given, grads, strict=True):
            p.grad = g
        return loss


class MaximizesNothing(Base):
    def __init__(self, params: Any, lr: float = 1e-3, maximize: bool = False) -> None:
        super().__init__(params, lr=lr)


class StepOfTheObject(Base):
    """Where torch's wrapping of the class's step does not reach."""

    def __init__(self, params: Any, lr: float = 1e-3) -> None:
        self.step = MethodType(Base.step.__wrapped__ if hasattr(Base.step, "hooked") else Base.step, self)
        super().__init__(params, lr=lr)


class WithAnObject(Base):
    """State that weights_only does not load."""

    def direction(self, p: Tensor, g: Tensor, group: dict[str, Any]) -> Tensor:
        direction = super().direction(p, g, group)
        self.state[p]["path"] = Path("here")
        return direction


class NoBetas(Base):
    def __init__(self, params: Any, lr: float = 1e-3) -> None:
        torch.optim.Optimizer.__init__(self, params, {"lr": lr})

    def direction(self, p: Tensor, g: Tensor, group: dict[str, Any]) -> Tensor:
        return g

    def update(self, p: Tensor, g: Tensor, group: dict[str, Any]) -> None:
        p.sub_(group["lr"] * g)


class Unpickled(Base):
    def __getstate__(self) -> dict[str, Any]:
        raise TypeError("no copies")


class Anything(Base):
    """Takes whatever it is given."""

    def __init__(self, params: Any, lr: float = 1e-3, weight_decay: float = 1e-2) -> None:
        torch.optim.Optimizer.__init__(
            self, params, {"lr": lr, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": weight_decay}
        )


class WithoutSetToNone(Base):
    def zero_grad(self) -> None:
        super().zero_grad()


class Skipping(Base):
    """Leaves out what is not finite."""

    def update(self, p: Tensor, g: Tensor, group: dict[str, Any]) -> None:
        if g.isfinite().all():
            super().update(p, g, group)


class Scaling(Base):
    """Says that it unscales gradients itself, as fused steps do, and does not."""

    _step_supports_amp_scaling = True


class NotTorchs:
    """Steps like an optimizer and is none."""

    def __init__(self, params: Any, lr: float = 1e-3) -> None:
        self.param_groups = [{"params": list(params), "lr": lr}]
        self.state: dict[Any, Any] = {}

    def step(self) -> None:
        for p in self.param_groups[0]["params"]:
            p.data -= self.param_groups[0]["lr"] * p.grad


def named(**members: Any) -> type:
    return bugs.named("AdamW", **members)


#: Check → a class that breaks it, beside those of `bugs.BUGS`.
BROKEN: dict[str, type] = {
    "scale-invariance": named(direction=_clipped_by_value),
    "maximize": MaximizesNothing,
    "group-betas": named(direction=_betas_of_the_defaults),
    "independence": bugs.named("AdamW", ClipsByTheNorm),
    "non-contiguous-gradient": named(direction=_gradient_as_if_contiguous),
    "under-no-grad": named(update=_freezing),
    "step-hooks": StepOfTheObject,
    "state-is-safe": WithAnObject,
    "mode-flip": torch.optim.Adam,
}

#: Check → a class that cannot do it, and one that can.
CAPABILITIES: dict[str, tuple[type, type]] = {
    "one-cycle": (NoBetas, bugs.AdamW),
    "tensor-lr": (named(__init__=_lr_is_a_number), bugs.AdamW),
    "nan-gradient": (bugs.AdamW, Skipping),
    "pickle": (Unpickled, bugs.AdamW),
    "scalar": (named(update=_refusing(lambda p: p.dim() == 0)), bugs.AdamW),
    "vector": (named(update=_refusing(lambda p: p.dim() == 1)), bugs.AdamW),
    "zero-size": (named(update=_refusing(lambda p: p.numel() == 0)), bugs.AdamW),
    "complex": (bugs.AdamW, torch.optim.AdamW),  # of g·g where |g|² is meant
    "bfloat16": (named(update=_refusing(lambda p: p.dtype == torch.bfloat16)), bugs.AdamW),
    "is-optimizer": (NotTorchs, bugs.AdamW),
    "threads": (named(direction=_by_another_thread_count), torch.optim.SGD),
    "zero-grad": (WithoutSetToNone, bugs.AdamW),
    "refuses-nonsense": (Anything, torch.optim.AdamW),
    "grad-scaler": (bugs.named("SGD", NoBetas, _step_supports_amp_scaling=True), torch.optim.SGD),
}


def test_no_check_is_left_out():
    caught = {check for _, checks, _ in bugs.BUGS.values() for check in checks}
    assert caught | set(BROKEN) | set(CAPABILITIES) == set(CHECKS)
    assert {name for name, check in CHECKS.items() if check.by == "nobody"} == set(CAPABILITIES)


@pytest.mark.parametrize("name", BROKEN)
def test_violated(name):
    result = check_optimizer(BROKEN[name], only=[name])[name]
    assert result.outcome is Outcome.VIOLATED, result
    assert not result.inherited
    assert result.example is not None
    assert result.example.raised or result.example.output.endswith("False\n")


def test_a_decay_of_no_known_kind_breaks_a_promise_of_decoupled_decay():
    """torch_optimizer's SGDW takes lr·λ off every weight, not lr·λ·θ (jettify/pytorch-optimizer #454)."""

    def update(self: Any, p: Tensor, g: Tensor, group: dict[str, Any]) -> None:
        p.sub_(group["lr"] * (g + group["weight_decay"]))

    SGDW, Plain = (bugs.named(name, update=update) for name in ("SGDW", "Plain"))
    result = check_optimizer(SGDW, only=["decay-mode"])["decay-mode"]
    assert result.outcome is Outcome.VIOLATED, result
    assert result.example is not None
    assert check_optimizer(Plain, only=["decay-mode"])["decay-mode"].outcome is Outcome.NO


@pytest.mark.parametrize("name", CAPABILITIES)
def test_cannot_and_can(name):
    cannot, can = (check_optimizer(cls, only=[name])[name] for cls in CAPABILITIES[name])
    assert (cannot.outcome, can.outcome) == (Outcome.NO, Outcome.YES), (cannot, can)
