"""Public bugs as small optimizer classes, each beside the correct class that it differs from in one place.

Every class is named as its library named it, since the name is the promise that the kit holds it to. `BUGS`
lists with each the checks that must catch it: the one that is meant for it first, then what else the same
mistake breaks.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor


class Base(torch.optim.Optimizer):
    """AdamW in plain steps, in float64's order of Algorithm 2; every bug overrides one part of it."""

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        if not lr >= 0 or not weight_decay >= 0 or not all(0 <= b < 1 for b in betas):
            raise ValueError(f"lr {lr}, weight_decay {weight_decay}, betas {betas}")
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.update(p, p.grad, group)
        return loss

    def update(self, p: Tensor, g: Tensor, group: dict[str, Any]) -> None:
        decay = group["lr"] * group["weight_decay"]
        p.mul_(1 - decay)
        p.sub_(group["lr"] * self.direction(p, g, group))

    def direction(self, p: Tensor, g: Tensor, group: dict[str, Any]) -> Tensor:
        state = self.state[p]
        if not state:
            state.update(step=0, exp_avg=torch.zeros_like(p), exp_avg_sq=torch.zeros_like(p))
        state["step"] += 1
        beta1, beta2 = group["betas"]
        state["exp_avg"].mul_(beta1).add_(g, alpha=1 - beta1)
        state["exp_avg_sq"].mul_(beta2).addcmul_(g, g, value=1 - beta2)
        return self.quotient(state["exp_avg"], state["exp_avg_sq"], state["step"], group)

    def quotient(self, m: Tensor, v: Tensor, t: int, group: dict[str, Any]) -> Tensor:
        beta1, beta2 = group["betas"]
        return (m / (1 - beta1**t)) / ((v / (1 - beta2**t)).sqrt() + group["eps"])

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """By name where both sides have names; copied; in the dtype that was saved."""
        saved = copy.deepcopy(state_dict)
        groups = saved["param_groups"]
        if all("param_names" in group for group in (*groups, *self.param_groups)):
            of_name = {
                name: saved["state"].get(index)
                for group in groups
                for name, index in zip(group["param_names"], group["params"], strict=True)
            }
            mine = self.state_dict()["param_groups"]
            saved["state"] = {
                index: of_name[name]
                for group in mine
                for name, index in zip(group["param_names"], group["params"], strict=True)
                if of_name[name] is not None
            }
            saved["param_groups"] = [
                {**theirs, "params": own["params"], "param_names": own["param_names"]}
                for theirs, own in zip(groups, mine, strict=True)
            ]
        state = saved["state"]
        super().load_state_dict({**saved, "state": {}})
        indices = (index for group in self.state_dict()["param_groups"] for index in group["params"])
        tensors = (p for group in self.param_groups for p in group["params"])
        self.state.update(
            {p: state[index] for index, p in zip(indices, tensors, strict=True) if index in state}
        )


def named(name: str, base: type = Base, **members: Any) -> type:
    """A class of this name, which is what the kit judges it by."""
    return type(name, (base,), {"__module__": __name__, **members})


AdamW = named("AdamW")


class LionBase(Base):
    """Lion (Chen et al. 2023, Algorithm 2), decay decoupled."""

    def __init__(
        self, params: Any, lr: float = 1e-4, betas: Any = (0.9, 0.99), weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, lr, betas, 0.0, weight_decay)

    def direction(self, p: Tensor, g: Tensor, group: dict[str, Any]) -> Tensor:
        m = self.state[p].setdefault("exp_avg", torch.zeros_like(p))
        beta1, beta2 = group["betas"]
        u = (beta1 * m + (1 - beta1) * g).sign()
        m.mul_(beta2).add_(g, alpha=1 - beta2)
        return u


Lion = named("Lion", LionBase)


# --- decay ------------------------------------------------------------------------------------------------


def _coupled(self: Any, p: Tensor, g: Tensor, group: dict[str, Any]) -> None:
    p.sub_(group["lr"] * self.direction(p, g + group["weight_decay"] * p, group))


def _after(self: Any, p: Tensor, g: Tensor, group: dict[str, Any]) -> None:
    p.sub_(group["lr"] * self.direction(p, g, group))
    p.mul_(1 - group["lr"] * group["weight_decay"])


def _undecayed(self: Any, p: Tensor, g: Tensor, group: dict[str, Any]) -> None:
    p.sub_(group["lr"] * self.direction(p, g, group))


def _blind(self: Any, p: Tensor, g: Tensor, group: dict[str, Any]) -> None:
    p.mul_(1 - self.defaults["lr"] * group["weight_decay"])
    p.sub_(group["lr"] * self.direction(p, g, group))


def _fixed(self: Any, p: Tensor, g: Tensor, group: dict[str, Any]) -> None:
    p.mul_(1 - group["weight_decay"])
    p.sub_(group["lr"] * self.direction(p, g, group))


def _decay_of_the_defaults(self: Any, p: Tensor, g: Tensor, group: dict[str, Any]) -> None:
    p.mul_(1 - group["lr"] * self.defaults["weight_decay"])
    p.sub_(group["lr"] * self.direction(p, g, group))


def _into_the_gradient(self: Any, p: Tensor, g: Tensor, group: dict[str, Any]) -> None:
    g.add_(p, alpha=group["weight_decay"])
    p.sub_(group["lr"] * self.direction(p, g, group))


class DefaultZero(Base):
    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)


class SignSGDBase(Base):
    """No formula is known under this name: what is found, is found by the dry run."""

    def direction(self, p: Tensor, g: Tensor, group: dict[str, Any]) -> Tensor:
        return g.sign()


# --- the formula ------------------------------------------------------------------------------------------


def _eps_inside(self: Any, m: Tensor, v: Tensor, t: int, group: dict[str, Any]) -> Tensor:
    beta1, beta2 = group["betas"]
    return (m / (1 - beta1**t)) / (v / (1 - beta2**t) + group["eps"]).sqrt()


def _uncorrected(self: Any, m: Tensor, v: Tensor, t: int, group: dict[str, Any]) -> Tensor:
    return m / (v.sqrt() + group["eps"])


# --- the learning rate, memory, groups --------------------------------------------------------------------


def _moves_at_zero(self: Any, p: Tensor, g: Tensor, group: dict[str, Any]) -> None:
    lr = max(group["lr"], 1e-6)
    p.mul_(1 - lr * group["weight_decay"])
    p.sub_(lr * self.direction(p, g, group))


def _lr_of_the_first_group(self: Any, p: Tensor, g: Tensor, group: dict[str, Any]) -> None:
    lr = self.param_groups[0]["lr"]
    p.mul_(1 - lr * group["weight_decay"])
    p.sub_(lr * self.direction(p, g, group))


def _replaces_data(self: Any, p: Tensor, g: Tensor, group: dict[str, Any]) -> None:
    lr = group["lr"]
    p.data = p.data * (1 - lr * group["weight_decay"]) - lr * self.direction(p, g, group)


def _flat_write(self: Any, p: Tensor, g: Tensor, group: dict[str, Any]) -> None:
    """As a kernel does that takes data_ptr and numel for all there is to know of the weights."""
    lr = group["lr"]
    new = p * (1 - lr * group["weight_decay"]) - lr * self.direction(p, g, group)
    if p.numel():
        torch.as_strided(p, (p.numel(),), (1,), p.storage_offset()).copy_(new.reshape(-1))


class OneCounter(Base):
    """One step count for the optimizer, advanced by every group."""

    steps = 0

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self.steps += 1
            for p in group["params"]:
                if p.grad is not None:
                    self.update(p, p.grad, group)
        return loss

    def quotient(self, m: Tensor, v: Tensor, t: int, group: dict[str, Any]) -> Tensor:
        return super().quotient(m, v, self.steps, group)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "steps": self.steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.steps = state_dict["steps"]
        super().load_state_dict(state_dict)


class CounterOutside(Base):
    """One step count, advanced once per step, in an attribute that no checkpoint has."""

    steps = 0

    def step(self, closure: Any = None) -> Any:
        self.steps += 1
        return super().step(closure)

    def quotient(self, m: Tensor, v: Tensor, t: int, group: dict[str, Any]) -> Tensor:
        return super().quotient(m, v, self.steps, group)


# --- loading ----------------------------------------------------------------------------------------------


class Positional(Base):
    """Copied, and matched by position whatever the names say."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        unnamed = copy.deepcopy(state_dict)
        for group in unnamed["param_groups"]:
            group.pop("param_names", None)
        super().load_state_dict(unnamed)


class Aliasing(Base):
    """Keeps the very tensors of the dictionary that it is given."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        mine = [p for group in self.param_groups for p in group["params"]]
        names = [n for group in self.state_dict()["param_groups"] for n in group.get("param_names", [])]
        theirs = [n for group in state_dict["param_groups"] for n in group.get("param_names", [])]
        for index, p in enumerate(mine):
            place = theirs.index(names[index]) if names and theirs else index
            if place in state_dict["state"]:
                self.state[p] = state_dict["state"][place]


class Wide(Base):
    """Averages in float32 whatever the weights are."""

    def direction(self, p: Tensor, g: Tensor, group: dict[str, Any]) -> Tensor:
        if not self.state[p]:
            wide = torch.promote_types(p.dtype, torch.float32)
            zeros = (torch.zeros_like(p, dtype=wide) for _ in range(2))
            self.state[p].update(step=0, exp_avg=next(zeros), exp_avg_sq=next(zeros))
        return super().direction(p, g, group)


class Narrowing(Wide):
    """… and loses them on loading, to the dtype of the weights."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        for p, entry in self.state.items():
            for key in ("exp_avg", "exp_avg_sq"):
                if key in entry:
                    entry[key] = entry[key].to(p.dtype)


# --- the step itself --------------------------------------------------------------------------------------


class MovesUnused(Base):
    """A parameter without a gradient is taken for one with a zero gradient, and decays."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        return super().step(closure)


class ForgetsTheLoss(Base):
    def step(self, closure: Any = None) -> Any:
        super().step(closure)


class NoGradClosure(Base):
    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = closure() if closure is not None else None
        super().step()
        return loss


class Unseeded(Base):
    """Draws from Python's generator, which no seed of torch reaches."""

    def update(self, p: Tensor, g: Tensor, group: dict[str, Any]) -> None:
        import random

        super().update(p, g, group)
        if group["lr"]:
            p.mul_(1 + 1e-9 * random.random())


class HalfRate(Base):
    """Takes a step at the average of this lr and the last one."""

    def update(self, p: Tensor, g: Tensor, group: dict[str, Any]) -> None:
        lr = group["lr"]
        before = self.state[p].get("lr", lr)
        super().update(p, g, {**group, "lr": (lr + before) / 2 if lr else 0.0})
        self.state[p]["lr"] = lr


#: What the class is called → (the class, the checks that must catch it, where it was seen).
BUGS: dict[str, tuple[type, tuple[str, ...], str]] = {
    "coupled Lion": (named("Lion", LionBase, update=_coupled), ("decay-mode",), "bitsandbytes #1992"),
    "decay after the step": (named("AdamW", update=_after), ("decay-order",), "bitsandbytes #2010"),
    "decay after Lion's step": (
        named("Lion", LionBase, update=_after),
        ("decay-order",),
        "bitsandbytes #2010",
    ),
    "ignored decay": (
        named("SignSGD", SignSGDBase, update=_undecayed),
        ("decay-applied",),
        "pytorch_optimizer #517",
    ),
    "ignored decay in AdamW": (
        named("AdamW", update=_undecayed),
        ("decay-applied",),
        "pytorch_optimizer #517",
    ),
    "AdamW with default 0": (named("AdamW", DefaultZero), ("decay-default",), "HeavyBall #71"),
    "AdamW falls back to L2": (named("AdamW", update=_coupled), ("decay-mode",), "keras #19051"),
    "schedule-blind decay": (
        named("AdamW", update=_blind),
        ("decay-follows-lr", "zero-lr", "zero-lr-later", "dcp-initialisation", "group-lr", "resume"),
        "apex #1849",
    ),
    "fixed decay": (
        named("AdamW", update=_fixed),
        ("decay-follows-lr", "zero-lr", "zero-lr-later", "dcp-initialisation"),
        "apex #1849, mup #1",
    ),
    "decay of the defaults": (
        named("AdamW", update=_decay_of_the_defaults),
        ("group-decay", "decay-live"),
        "pytorch #1402",
    ),
    "decay added into the gradient": (
        named("Adam", DefaultZero, update=_into_the_gradient),
        ("gradients-kept",),
        "a second step on the same gradients decays twice",
    ),
    "ε inside the root": (named("AdamW", quotient=_eps_inside), ("formula",), "TensorFlow's RMSprop"),
    "no bias correction": (named("AdamW", quotient=_uncorrected), ("formula",), "BertAdam"),
    "moves at lr = 0": (
        named("AdamW", update=_moves_at_zero),
        ("zero-lr", "zero-lr-later", "dcp-initialisation"),
        "torch.distributed.checkpoint",
    ),
    "lr of the first group": (
        named("AdamW", update=_lr_of_the_first_group),
        ("group-lr",),
        "layer-wise rates without effect",
    ),
    "lr of the step before": (
        named("AdamW", HalfRate),
        ("lr-schedule",),
        "warm-ups of one's own",
    ),
    "new memory for the weights": (
        named("AdamW", update=_replaces_data),
        ("storage-kept",),
        "p.data = p.data - update",
    ),
    "writes as if contiguous": (named("AdamW", update=_flat_write), ("non-contiguous",), "own kernels"),
    "one step count for all groups": (
        named("AdamW", OneCounter),
        ("group-independence", "add-param-group", "deepcopy"),
        "counts in the optimizer",
    ),
    "step count in no checkpoint": (
        named("AdamW", CounterOutside),
        ("resume", "state-is-safe", "add-param-group", "deepcopy"),
        "counts in the optimizer",
    ),
    "positional loading": (named("AdamW", Positional), ("named-order",), "pytorch #1489, #3852"),
    "loaded snapshot written to": (named("AdamW", Aliasing), ("snapshot-kept",), "torch.optim.Optimizer"),
    "state dtype lost on loading": (named("AdamW", Narrowing), ("state-dtype",), "pytorch #43706"),
    "decays what has no gradient": (named("AdamW", MovesUnused), ("none-gradient",), "frozen layers decay"),
    "forgets the loss": (named("AdamW", ForgetsTheLoss), ("closure",), "step(closure)"),
    "closure without gradients": (named("AdamW", NoGradClosure), ("closure",), "step(closure)"),
    "random numbers of its own": (named("AdamW", Unseeded), ("deterministic",), "seeds without effect"),
}

#: The correct ones that the bugs differ from.
CORRECT: dict[str, type] = {
    "AdamW": AdamW,
    "Lion": Lion,
    "SignSGD": named("SignSGD", SignSGDBase),
    "Adam with L2": named("Adam", DefaultZero, update=_coupled),
    "AdamW with wide averages": named("AdamW", Wide),
}
