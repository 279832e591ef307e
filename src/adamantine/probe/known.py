"""Reading the decay of a class whose formula is known: torch's and adamantine's own."""

from __future__ import annotations

from typing import Any

import torch

from adamantine.probe.behaviour import Behaviour
from adamantine.rules.decay import NEED_PEAK, coefficients
from adamantine.schedules import peak_lr
from adamantine.torch.optimizer import Optimizer as AdamantineOptimizer

#: torch's classes in whose step L2 or decoupled decay is written down, and what an `Adam` without the flag
#: of torch 2.7 does. The group's own ``decoupled_weight_decay`` goes before it: a checkpoint may change it.
_TORCH: dict[str, str] = {
    "SGD": "l2",
    "ASGD": "l2",
    "Adadelta": "l2",
    "Adafactor": "decoupled",
    "Adagrad": "l2",
    "Adam": "l2",
    "AdamW": "decoupled",
    "Adamax": "l2",
    "LBFGS": "none",
    "Muon": "decoupled",
    "NAdam": "l2",
    "RAdam": "l2",
    "RMSprop": "l2",
    "Rprop": "none",
    "SparseAdam": "none",
}

#: Steps in the unit of the gradient; every other known rule divides by the gradient's size. LBFGS does
#: neither: its line search decides.
_NOT_ADAPTIVE = frozenset({"SGD", "SGDW", "ASGD"})


def read(optimizer: torch.optim.Optimizer, group: dict[str, Any]) -> Behaviour | None:
    """What the class and its group say, or None for a class that is not known by heart.

    A subclass is known only while it overrides no method but ``__init__``: with its own ``step`` it is
    another optimizer.
    """
    base = _known_base(type(optimizer))
    if base is None:
        return None
    adaptive = None if base.__name__ == "LBFGS" else base.__name__ not in _NOT_ADAPTIVE
    weight_decay = float(group.get("weight_decay") or 0.0)
    mode = _mode(base, group)
    if base.__name__ == "ASGD" and weight_decay == 0.0 and group["lambd"]:
        shrink = float(group["lr"]) * float(group["lambd"])
        evidence = (
            f"torch.optim.ASGD: weight_decay=0, yet lambd={group['lambd']:g} takes lr·lambd = {shrink:g}"
        )
        return Behaviour("other", False, shrink, "before", 1, "class", evidence)
    if weight_decay == 0.0 or mode == "none":
        said = "has no weight_decay" if "weight_decay" not in group else f"weight_decay={weight_decay:g}"
        if weight_decay:
            said = f"decay='none', so weight_decay={weight_decay:g} is not used"
        return Behaviour("none", adaptive, 0.0, "unclear", None, "class", f"{_name(base)}: {said}")
    if mode == "l2":
        return _l2(base, group, weight_decay, bool(adaptive))
    return _shrinking(base, group, mode, weight_decay, bool(adaptive))


def _l2(base: type, group: dict[str, Any], weight_decay: float, adaptive: bool) -> Behaviour:
    lr = float(group["lr"])
    if adaptive:
        evidence = (
            f"{_name(base)} adds {weight_decay:g}·θ to the gradient, and divides both by its running size"
        )
        return Behaviour("l2", True, None, "unclear", None, "class", evidence)
    # the buffer repeats what enters it: Σ μᵏ (1 - τ) in the long run
    momentum = float(group.get("momentum", 0.0))
    gain = (1.0 - float(group.get("dampening", 0.0))) / (1.0 - momentum) if momentum else 1.0
    evidence = f"{_name(base)} adds {weight_decay:g}·θ to the gradient; lr·λ = {lr * weight_decay:g} per step"
    if momentum:
        evidence += f", {lr * weight_decay * gain:g} once momentum {momentum:g} has built up"
    else:
        evidence += ", the same number as decoupled decay without momentum"
    shrink = lr * weight_decay * gain
    if base.__name__ == "ASGD":
        shrink += lr * float(group["lambd"])
        evidence += f"; its lambd={group['lambd']:g} shrinks by another lr·lambd"
    return Behaviour("l2", False, shrink, "unclear", 1, "class", evidence)


def _shrinking(
    base: type, group: dict[str, Any], mode: str, weight_decay: float, adaptive: bool
) -> Behaviour:
    lr = float(group["lr"])
    peak = peak_lr(group) if mode in NEED_PEAK else None
    shrink = 1.0 - float(coefficients(mode, lr=lr, weight_decay=weight_decay, peak_lr=peak).shrink)
    formula = {
        "decoupled": "lr·λ",
        "cautious": "lr·λ where the step shrinks the weight too",
        "independent": f"(lr/{peak:g})·λ" if peak else "0",
        "corrected": f"(lr²/{peak:g})·λ" if peak else "0",
    }[mode]
    numbers = f"{shrink:g} per step at lr={lr:g}, λ={weight_decay:g}"
    return Behaviour(
        mode,  # type: ignore[arg-type]
        adaptive,
        shrink,
        "before",
        2 if mode == "corrected" else 1,
        "class",
        f"{_name(base)} shrinks the weight by {formula} = {numbers}",
    )


def _mode(base: type, group: dict[str, Any]) -> str:
    if issubclass(base, AdamantineOptimizer):
        return str(group["decay"])
    if "decoupled_weight_decay" in group:
        return "decoupled" if group["decoupled_weight_decay"] else "l2"
    return _TORCH[base.__name__]


def _known_base(cls: type) -> type | None:
    """The known class that ``cls`` is, or differs from by nothing that matters to a step."""
    for base in cls.__mro__:
        ours = base.__module__ == "adamantine.torch.optimizers"
        theirs = f"{base.__module__}.".startswith("torch.optim.") and base.__name__ in _TORCH
        if ours or theirs:
            return base
        if any(callable(getattr(base, name, None)) for name in vars(base) if not _is_harmless(name)):
            return None
    return None


def _is_harmless(name: str) -> bool:
    return name in {"__init__", "__module__", "__doc__", "__class__", "__qualname__", "__firstlineno__"} or (
        name.startswith("__") and name not in {"__getattribute__", "__getattr__", "__setattr__"}
    )


def _name(cls: type) -> str:
    return f"{'adamantine' if cls.__module__.startswith('adamantine') else 'torch.optim'}.{cls.__name__}"
