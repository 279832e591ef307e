"""The instrument: the same tensor, the same gradients, the same noise, once with decay and once without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from adamantine.probe.quiet import undisturbed
from adamantine.probe.sandbox import Factory, decay_key
from adamantine.probe.stepping import make_ready, take_step

#: Long enough for RAdam to begin to divide (step 6 at the usual β₂) and for momentum to show.
STEPS = 8
#: For optimizers that only look on at first (AdaShift, ten steps).
PATIENT_STEPS = 24
#: Before decay is said never to act: some classes decay every ten or every hundred steps.
LAZY_STEPS = 128


class Hand(Protocol):
    """A hypothesis: what we do by hand around a step without decay, to be compared with a step with it."""

    def gradient(self, grad: Tensor, theta: Tensor) -> Tensor:
        """The gradient to give."""
        ...

    def before(self, theta: Tensor, t: int) -> None:
        """Change θ in place before step ``t``."""
        ...

    def after(self, theta: Tensor, old: Tensor, t: int) -> None:
        """Change θ in place after step ``t``, which began at ``old``."""
        ...


class Rest:
    """No hypothesis: the optimizer alone."""

    def gradient(self, grad: Tensor, theta: Tensor) -> Tensor:
        return grad

    def before(self, theta: Tensor, t: int) -> None: ...

    def after(self, theta: Tensor, old: Tensor, t: int) -> None: ...


@dataclass(frozen=True)
class Rig:
    """Runs of one optimizer over one small tensor.

    Weights lie in ±[0.5, 2]; gradients have sizes from 0.1 to 10 that stay with their element, with a sign of
    their own that now and then turns. Signs of weights and gradients are independent.
    """

    factory: Factory
    shape: tuple[int, ...] = (8, 8)
    dtype: torch.dtype = torch.float64
    device: str = "cpu"
    lr: float | None = None  # in place of the group's
    steps: int = STEPS

    @property
    def theta(self) -> Tensor:
        """Where every run starts."""
        generator = torch.Generator().manual_seed(1)
        size = torch.rand(self.shape, generator=generator, dtype=torch.float64) * 1.5 + 0.5
        return (size * _signs(self.shape, generator)).to(self.dtype)

    def gradients(self, scale: float = 1.0, steps: int | None = None) -> list[Tensor]:
        """The gradient of each step; zeros for ``scale`` 0. ``steps`` None takes the rig's."""
        generator = torch.Generator().manual_seed(2)
        size = 10.0 ** (torch.rand(self.shape, generator=generator, dtype=torch.float64) * 2.0 - 1.0)
        signs = _signs(self.shape, generator)
        grads = []
        for _ in range(self.steps if steps is None else steps):
            turned = torch.where(torch.rand(self.shape, generator=generator) < 0.15, -1.0, 1.0)
            wobble = 0.75 + 0.5 * torch.rand(self.shape, generator=generator, dtype=torch.float64)
            grads.append((scale * size * signs * turned * wobble).to(self.dtype))
        return grads

    def run(
        self,
        weight_decay: float | None,
        gradients: Sequence[Tensor],
        *,
        hand: Hand | None = None,
        lrs: Sequence[float] | None = None,
    ) -> Tensor:
        """θ before and after every step, in float64: shape (steps + 1, elements).

        Args:
            weight_decay: λ; None leaves the factory's own.
            gradients: one per step.
            hand: what is done by hand around each step.
            lrs: the lr of each step, set in the group as a scheduler does.
        """
        hand = hand or Rest()
        with undisturbed(seed=0):
            theta = torch.nn.Parameter(self.theta.to(self.device))
            path = [theta.detach().double().cpu().flatten().clone()]
            overrides: dict[str, Any] = {} if weight_decay is None else {"weight_decay": weight_decay}
            if self.lr is not None:
                overrides["lr"] = self.lr
            optimizer = self.factory([theta], **overrides)
            make_ready(optimizer)
            for t, grad in enumerate(gradients):
                if lrs is not None:
                    set_lr(optimizer, lrs[t])
                old = theta.detach().clone()
                with torch.no_grad():
                    given = hand.gradient(grad.to(self.device), old)
                    hand.before(theta, t)
                take_step(optimizer, [theta], [given])
                with torch.no_grad():
                    hand.after(theta, old, t)
                path.append(theta.detach().double().cpu().flatten().clone())
        return torch.stack(path)

    def group(self) -> dict[str, Any]:
        """The hyperparameters that the factory gives its one group."""
        with undisturbed(seed=0):
            theta = torch.nn.Parameter(self.theta.to(self.device))
            overrides = {} if self.lr is None else {"lr": self.lr}
            groups = self.factory([theta], **overrides).param_groups
        return {name: value for name, value in groups[0].items() if name != "params"}


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """As torch's schedulers do it: into the tensor, if it is one."""
    for group in optimizer.param_groups:
        if isinstance(group.get("lr"), Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr


def stated_decay(group: dict[str, Any]) -> float | None:
    """λ of a group; None without such a key."""
    value = group.get(decay_key(group))
    return None if value is None else float(value)


def _signs(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.where(torch.rand(shape, generator=generator) < 0.5, -1.0, 1.0).double()
