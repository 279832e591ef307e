"""Optimizers as they are found in the wild, small: each decays in a way that its signature does not say."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class Odd(torch.optim.Optimizer):
    """Adam without decay; subclasses add theirs."""

    def __init__(self, params: Any, lr: float = 1e-3, weight_decay: float = 0.0, **more: Any) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, **more})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.update(p, p.grad.clone(), group, self.state[p])

    def update(self, p: Tensor, g: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
        p.sub_(group["lr"] * direction(g, state))


def direction(g: Tensor, state: dict[str, Any]) -> Tensor:
    """Adam's, with the usual constants."""
    state["t"] = state.get("t", 0) + 1
    state["m"] = 0.9 * state.get("m", torch.zeros_like(g)) + 0.1 * g
    state["v"] = 0.999 * state.get("v", torch.zeros_like(g)) + 0.001 * g * g
    m, v = state["m"] / (1 - 0.9 ** state["t"]), state["v"] / (1 - 0.999 ** state["t"])
    return m / (v.sqrt() + 1e-8)


class DecayAfter(Odd):
    """(1 - lr·λ)(θ - lr·u)."""

    def update(self, p: Tensor, g: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
        super().update(p, g, group, state)
        p.mul_(1 - group["lr"] * group["weight_decay"])


class Beside(Odd):
    """θ - lr(u + λθ), as optax.adamw writes it."""

    def update(self, p: Tensor, g: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
        p.sub_(group["lr"] * (direction(g, state) + group["weight_decay"] * p))


class Coupled(Odd):
    """L2 under the name of weight decay."""

    def update(self, p: Tensor, g: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
        super().update(p, g + group["weight_decay"] * p, group, state)


class CoupledLion(Odd):
    """bitsandbytes #1992: on some backends Lion's decay went through the sign."""

    def update(self, p: Tensor, g: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
        g = g + group["weight_decay"] * p
        m = state.get("m", torch.zeros_like(p))
        p.sub_(group["lr"] * (0.9 * m + 0.1 * g).sign())
        state["m"] = 0.99 * m + 0.01 * g


class Fixed(Odd):
    """λ of the weight at every step, also at lr = 0 (pytorch_optimizer's fixed_decay)."""

    def update(self, p: Tensor, g: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
        p.mul_(1 - group["weight_decay"])
        super().update(p, g, group, state)


class Ignored(Odd):
    """pytorch_optimizer #517: SignSGD took weight_decay and did not use it."""


class Independent(Odd):
    """Follows the schedule, not the lr's size; takes the constructor's lr for the peak, as many do."""

    def __init__(self, params: Any, lr: float = 1e-3, weight_decay: float = 0.0) -> None:
        super().__init__(params, lr, weight_decay, max_lr=lr)

    def update(self, p: Tensor, g: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
        p.mul_(1 - group["lr"] / group["max_lr"] * group["weight_decay"])
        super().update(p, g, group, state)


class Corrected(Independent):
    """AdamC: lr²/peak."""

    def update(self, p: Tensor, g: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
        p.mul_(1 - group["lr"] ** 2 / group["max_lr"] * group["weight_decay"])
        p.sub_(group["lr"] * direction(g, state))


class Cautious(Odd):
    """Decays only where the step shrinks the weight; ``strict`` not where the step is 0."""

    strict = False

    def update(self, p: Tensor, g: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
        u = direction(g, state)
        mask = u * p > 0 if self.strict else u * p >= 0
        p.sub_(group["lr"] * (u + group["weight_decay"] * p * mask))


class StrictlyCautious(Cautious):
    strict = True


class SquaredRate(Odd):
    """lr²·λ: the decay was put inside of what is multiplied by lr a second time."""

    def update(self, p: Tensor, g: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
        p.mul_(1 - group["lr"] ** 2 * group["weight_decay"])
        super().update(p, g, group, state)


class RootOfDecay(Odd):
    """lr·√λ: of no known mode."""

    def update(self, p: Tensor, g: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
        p.mul_(1 - group["lr"] * group["weight_decay"] ** 0.5)
        super().update(p, g, group, state)


class ConstantPull(Odd):
    """torch_optimizer.SGDW: subtracts lr·λ itself where lr·λ·θ was meant."""

    def update(self, p: Tensor, g: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
        super().update(p, g, group, state)
        p.sub_(group["lr"] * group["weight_decay"])


class ThroughMomentum(Odd):
    """NovoGrad: λθ joins the momentum after the division by √v."""

    def update(self, p: Tensor, g: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
        norm = state["v"] = 0.95 * state.get("v", g.norm()) + 0.05 * g.norm()
        state["m"] = (
            0.95 * state.get("m", torch.zeros_like(g)) + g / (norm + 1e-8) + group["weight_decay"] * p
        )
        p.sub_(group["lr"] * state["m"])


class StableDecay(Odd):
    """AdamS: lr·λ divided by the gradients' overall size, the same for all weights of a tensor."""

    def update(self, p: Tensor, g: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
        u = direction(g, state)
        size = (state["v"] / (1 - 0.999 ** state["t"])).mean().sqrt() + 1e-8
        p.mul_(1 - group["lr"] * group["weight_decay"] / size).sub_(group["lr"] * u)


class Averaged(Odd):
    """Lookahead: every fifth step goes back half the way to where the five began."""

    def update(self, p: Tensor, g: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
        slow = state.setdefault("slow", p.clone())
        p.mul_(1 - group["lr"] * group["weight_decay"]).sub_(group["lr"] * direction(g, state))
        if state["t"] % 5 == 0:
            slow.lerp_(p, 0.5)
            p.copy_(slow)


class TrustRatio(Odd):
    """LAMB: λθ is rescaled together with the step."""

    def update(self, p: Tensor, g: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
        u = direction(g, state) + group["weight_decay"] * p
        p.sub_(group["lr"] * p.norm() / u.norm() * u)


class Lars(Odd):
    """L2 and gradient, scaled together to a share of the weight's norm; vectors are left out of both."""

    def update(self, p: Tensor, g: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
        if p.ndim > 1:
            g = g + group["weight_decay"] * p
            g = 1e-3 * p.norm() / g.norm() * g
        state["m"] = 0.9 * state.get("m", torch.zeros_like(g)) + g
        p.sub_(group["lr"] * state["m"])


class MomentumL2(Odd):
    """SGD with momentum and L2."""

    def update(self, p: Tensor, g: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
        state["m"] = 0.9 * state.get("m", torch.zeros_like(g)) + g + group["weight_decay"] * p
        p.sub_(group["lr"] * state["m"])


class MomentumDecoupled(Odd):
    """SGDW."""

    def update(self, p: Tensor, g: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
        state["m"] = 0.9 * state.get("m", torch.zeros_like(g)) + g
        p.mul_(1 - group["lr"] * group["weight_decay"]).sub_(group["lr"] * state["m"])


class HiddenDecay(Odd):
    """Shrinks by a constant of its own, with weight_decay 0 too."""

    def update(self, p: Tensor, g: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
        p.mul_(0.999)
        super().update(p, g, group, state)


class Grows(Odd):
    """heavyball.NAdam: adds λθ to the gradient, and takes it off the finished step again."""

    def update(self, p: Tensor, g: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
        pull = group["weight_decay"] * p
        p.sub_(group["lr"] * (direction(g + pull, state) - pull))


class NowAndThen(Odd):
    """Decay at every few steps, for all of them at once."""

    def __init__(self, params: Any, lr: float = 1e-3, weight_decay: float = 0.0, every: int = 4) -> None:
        super().__init__(params, lr, weight_decay, every=every)

    def update(self, p: Tensor, g: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
        super().update(p, g, group, state)
        if state["t"] % group["every"] == 0:
            p.mul_(1 - group["every"] * group["lr"] * group["weight_decay"])


class FlippedL2(Odd):
    """L2 added before the gradient is turned around for ``maximize``: it drives weights away from 0."""

    def update(self, p: Tensor, g: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
        p.add_(group["lr"] * (g + group["weight_decay"] * p))


class PlainAfter(Odd):
    """SGD without momentum that shrinks after the step: the one such order that is not L2."""

    def update(self, p: Tensor, g: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
        p.sub_(group["lr"] * g).mul_(1 - group["lr"] * group["weight_decay"])


class OwnRate(Odd):
    """Has no lr in its group and steps by its own (transformers.Adafactor with relative_step)."""

    def __init__(self, params: Any, lr: float | None = None, weight_decay: float = 0.0) -> None:
        if lr is not None:
            raise ValueError("this optimizer chooses its own lr")
        super().__init__(params, None, weight_decay)  # type: ignore[arg-type]

    def update(self, p: Tensor, g: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
        p.mul_(1 - 0.01 * group["weight_decay"]).sub_(0.01 * direction(g, state))


class Noise(Odd):
    """Steps of an unrepeatable size: nothing can be said about its decay."""

    def update(self, p: Tensor, g: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
        source = random.SystemRandom()
        p.add_(torch.tensor([source.gauss(0.0, 0.1) for _ in range(p.numel())]).reshape(p.shape).to(p))


class SeededNoise(Odd):
    """Langevin dynamics: noise from torch's generator, which the dry run repeats, and decoupled decay."""

    def update(self, p: Tensor, g: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
        p.mul_(1 - group["lr"] * group["weight_decay"])
        p.sub_(group["lr"] * direction(g, state)).add_(torch.randn_like(p), alpha=1e-3)


class OwnShapesOnly(Odd):
    """Knows its tensors by identity, and leaves all others alone."""

    def __init__(self, params: Any, lr: float = 1e-3, weight_decay: float = 0.0) -> None:
        super().__init__(params, lr, weight_decay)
        self.shape = torch.Size([3])

    def update(self, p: Tensor, g: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
        if p.shape == self.shape:
            super().update(p, g, group, state)


class Raises(Odd):
    """Cannot step."""

    def update(self, p: Tensor, g: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
        raise RuntimeError("no kernel for this device")


class Single(Beside):
    """Refuses float64, as 8-bit optimizers do."""

    def update(self, p: Tensor, g: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
        if p.dtype == torch.float64:
            raise ValueError("float64 is not supported")
        super().update(p, g, group, state)


class Inside(Coupled):
    """Computes in float32 whatever the parameter is."""

    def update(self, p: Tensor, g: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
        single = p.float()
        super().update(single, g.float(), group, state)
        p.copy_(single)


class Needs(Odd):
    """Has an argument that is in no group, and state from the constructor, and keeps its parameters."""

    def __init__(self, params: Any, model: object, lr: float = 1e-3, weight_decay: float = 0.0) -> None:
        super().__init__(params, lr, weight_decay)
        self.model = model
        self.all = [p for group in self.param_groups for p in group["params"]]
        for p in self.all:
            self.state[p]["sum"] = torch.zeros_like(p)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:
        group = self.param_groups[0]
        for p in self.all:
            if p.grad is not None:
                total = self.state[p]["sum"].add_(p.grad**2)
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.sub_(group["lr"] * p.grad / (total.sqrt() + 1e-8))


class WantsClosure(DecayAfter):
    """As SAM and LBFGS do."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:
        if closure is None:
            raise RuntimeError("this optimizer needs a closure")
        closure()
        super().step()


class TrainMode(DecayAfter):
    """schedulefree: a step in evaluation mode is an error."""

    training = False

    def train(self) -> None:
        self.training = True

    def update(self, p: Tensor, g: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
        if not self.training:
            raise RuntimeError("not in train mode")
        super().update(p, g, group, state)


class Late(DecayAfter):
    """Looks on for ten steps (AdaShift)."""

    def update(self, p: Tensor, g: Tensor, group: dict[str, Any], state: dict[str, Any]) -> None:
        state["seen"] = state.get("seen", 0) + 1
        if state["seen"] > 10:
            super().update(p, g, group, state)


class OtherKey(torch.optim.Optimizer):
    """Keeps λ as ``wd``."""

    def __init__(self, params: Any, lr: float = 1e-3, wd: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "wd": wd})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                p.mul_(1 - group["lr"] * group["wd"]).sub_(group["lr"] * direction(p.grad, self.state[p]))
