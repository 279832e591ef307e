"""What is searched: lr and the decay's strength, in coordinates that a sampler can treat one by one.

With decoupled decay the weights forget with γ = lr·λ per step (at the peak of the schedule) and remember
τ = 1/γ steps. An lr that changes changes γ with it, so the good settings lie along a slanted valley of the
(log lr, log λ) plane; in (log lr, log γ) it stands upright. How much of that one sees is measured in
docs/tune.md. With L2 decay γ means nothing, and independent decay is γ already: there λ is searched as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from adamantine.report.numbers import setting
from adamantine.rules.decay import timescale
from adamantine.study import ranges
from adamantine.study.errors import StudyError
from adamantine.study.methods import Spec

Coordinates = Literal["gamma", "lambda"]
COORDINATES: tuple[Coordinates, ...] = ("gamma", "lambda")
Range = tuple[float, float]

#: Modes whose shrinking per step is lr·λ, so that γ is a coordinate of its own.
PRODUCT = ("decoupled", "corrected", "cautious")
RIM = 0.05  # of a range in decades: a best value so close to an end may be better outside
WIDER = 0.5  # decades by which a range grows at least, a quarter of it at most


@dataclass(frozen=True)
class Setting:
    """What an optimizer is given, to four significant digits: what is pasted is what was trained."""

    lr: float
    weight_decay: float


@dataclass(frozen=True)
class Units:
    """A setting's decay in all units; ``None`` where a unit does not exist for the mode or at no decay.

    ``gamma``: the fraction that a step at the peak lr takes off a weight. ``steps``, ``epochs``: 1/γ, how
    long the weights remember an update.
    """

    weight_decay: float
    gamma: float | None
    steps: float | None
    epochs: float | None


@dataclass(frozen=True)
class Space:
    """The ranges of one method; ``strength`` is a range of γ or λ, as ``axis`` says, ``None`` without decay.

    >>> space = Space(mode="decoupled", axis="gamma", lr=(1e-3, 1e-1), strength=(1e-4, 1e-2))
    >>> space.setting({"lr": 0.01, "gamma": 1e-3})
    Setting(lr=0.01, weight_decay=0.1)
    >>> space.params(Setting(lr=0.01, weight_decay=0.1))
    {'lr': 0.01, 'gamma': 0.001}
    """

    mode: str
    axis: Literal["gamma", "weight_decay"]
    lr: Range
    strength: Range | None
    zero: bool = False  # no decay at all is a choice as well

    def axes(self) -> dict[str, Range]:
        """The range of each continuous parameter by its name."""
        return {"lr": self.lr} | ({self.axis: self.strength} if self.strength else {})

    def suggest(self, trial: Any) -> None:
        """Has an Optuna trial draw its parameters, always all of them and in this order.

        Whether there is decay is one more parameter beside its strength, not a branch above it: so the
        space is the same for every trial, which GP and multivariate TPE want.
        """
        for name, (low, high) in self.axes().items():
            trial.suggest_float(name, low, high, log=True)
        if self.zero:
            trial.suggest_categorical("decay", ("some", "none"))

    def distributions(self) -> dict[str, Any]:
        """The same as Optuna's distributions."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution

        axes: dict[str, Any] = {
            name: FloatDistribution(low, high, log=True) for name, (low, high) in self.axes().items()
        }
        return axes | ({"decay": CategoricalDistribution(("some", "none"))} if self.zero else {})

    def setting(self, params: Mapping[str, Any]) -> Setting:
        """What the parameters mean to an optimizer."""
        lr = ranges.round_to(params["lr"], 4)
        if self.strength is None or params.get("decay") == "none":
            return Setting(lr, 0.0)
        strength = params[self.axis]
        return Setting(lr, ranges.round_to(strength / lr if self.axis == "gamma" else strength, 4))

    def params(self, setting: Setting) -> dict[str, Any]:
        """The inverse of :meth:`setting`, for a setting with decay."""
        if self.strength is None:
            return {"lr": setting.lr}
        scale = setting.lr if self.axis == "gamma" else 1.0
        decay = {"decay": "some"} if self.zero else {}
        return {"lr": setting.lr, self.axis: setting.weight_decay * scale, **decay}

    def units(self, setting: Setting, steps_per_epoch: float | None) -> Units:
        """The decay of a setting in all units that the mode has.

        >>> space = Space("decoupled", "gamma", (1e-3, 1e-1), (1e-4, 1e-2))
        >>> space.units(Setting(0.01, 0.1), steps_per_epoch=10)
        Units(weight_decay=0.1, gamma=0.001, steps=1000.0, epochs=100.0)
        """
        decay = setting.weight_decay
        if decay == 0 or self.mode not in (*PRODUCT, "independent"):
            return Units(decay, None, None, None)
        if self.mode == "independent":
            gamma, steps = decay, 1 / decay
        else:
            gamma, steps = setting.lr * decay, timescale(lr=setting.lr, weight_decay=decay)
        return Units(decay, gamma, steps, steps / steps_per_epoch if steps_per_epoch else None)

    def edges(self, params: Mapping[str, Any]) -> tuple[str, ...]:
        """Where parameters touch the rim, such as ``"lr low"``; no decay has no rim.

        >>> Space("decoupled", "gamma", (1e-3, 1e-1), (1e-4, 1e-2)).edges({"lr": 0.01, "gamma": 9.9e-3})
        ('gamma high',)
        """
        found = []
        for name, (low, high) in self.axes().items():
            if low == high or (name != "lr" and params.get("decay") == "none"):
                continue
            place = math.log(params[name] / low) / math.log(high / low)
            if min(place, 1 - place) < RIM:
                found.append(f"{name} {'low' if place < 0.5 else 'high'}")
        return tuple(found)

    def wider(self, edges: tuple[str, ...]) -> Space:
        """The space with every touched side moved out, by half a decade or a quarter of the range.

        >>> Space("decoupled", "gamma", (1e-3, 1e-1), (1e-4, 1e-2)).wider(("gamma high",)).strength
        (0.0001, 0.0316)
        """
        found = self
        for edge in edges:
            name, side = edge.split()
            low, high = found.axes()[name]
            factor = 10 ** max(WIDER, math.log10(high / low) / 4)
            moved = (low / factor, high) if side == "low" else (low, high * factor)
            moved = (ranges.round_to(moved[0], 3), ranges.round_to(moved[1], 3))
            found = replace(found, lr=moved) if name == "lr" else replace(found, strength=moved)
        return found

    def words(self) -> str:
        """The ranges, for a reader: ``lr 1e-3 to 0.1, γ 1e-4 to 0.01``."""
        letters = {"lr": "lr", "gamma": "γ", "weight_decay": "λ"}
        parts = [
            f"{letters[name]} {setting(low)} to {setting(high)}" for name, (low, high) in self.axes().items()
        ]
        return ", ".join(parts) + (", or no decay" if self.zero else "")

    @property
    def note(self) -> str:
        """Why a search in γ was not one; empty where there is nothing to say."""
        if self.strength is None:
            return "no weight decay in this mode: lr alone is searched"
        if self.axis == "gamma":
            return ""
        return {
            "l2": "L2 decay goes through the rule's own scale, so γ = lr·λ means nothing: λ is searched",
            "independent": "independent decay is multiplied by no lr, its λ is γ: λ is searched",
            "": "the decay mode of this class is not known: λ is searched",
        }.get(self.mode, "")


def space(
    spec: Spec,
    mode: str,
    *,
    coordinates: Coordinates = "gamma",
    lr: Range | None = None,
    weight_decay: Range | None = None,
    gamma: Range | None = None,
    zero: bool = False,
) -> Space:
    """The space of a method with decay mode ``mode`` (of :func:`adamantine.study.methods.probe`).

    Ranges that are not given come from :mod:`adamantine.study.ranges`, without its 0. A range of λ becomes
    one of γ as wide, by the middle lr (geometric): in the plane of logarithms that is a shear, so that both
    coordinates search an area of one size around one middle.
    """
    if mode == "" and spec.class_name == "AdamW" and spec.module == "torch.optim":
        mode = "decoupled"
    lr = lr or _ends(ranges.default_lrs(spec))
    if gamma is not None and mode not in PRODUCT:
        raise StudyError(f"--gamma {gamma[0]:g}:{gamma[1]:g}: {spec} has no γ = lr·λ; give --weight-decay")
    if gamma is not None and weight_decay is not None:
        raise StudyError(f"--gamma and --weight-decay are both given for {spec}; one of them decides")
    if gamma is not None and coordinates != "gamma":
        raise StudyError(
            "--gamma is a range of the γ coordinates; give --weight-decay, or --coordinates gamma"
        )
    if mode == "none" or weight_decay == (0.0, 0.0):
        return Space(mode, "weight_decay", lr, None)
    if coordinates == "gamma" and mode in PRODUCT:
        if gamma is None:
            middle = math.sqrt(lr[0] * lr[1])
            low, high = weight_decay or _ends(ranges.default_weight_decays(spec, mode))
            gamma = ranges.round_to(low * middle, 3), ranges.round_to(high * middle, 3)
        return Space(mode, "gamma", lr, gamma, zero)
    decays = weight_decay or _ends(ranges.default_weight_decays(spec, mode))
    return Space(mode, "weight_decay", lr, decays, zero)


def parse_range(text: str, option: str) -> Range:
    """``"1e-3:1e-1"`` to two numbers; one number fixes the value.

    >>> parse_range("1e-3:1e-1", "--lr"), parse_range("0.1", "--lr")
    ((0.001, 0.1), (0.1, 0.1))
    """
    try:
        ends = tuple(float(part) for part in text.split(":"))
    except ValueError:
        raise StudyError(f"{option} {text!r}: expected LOW:HIGH, or one number") from None
    if len(ends) == 1:
        ends *= 2
    if ends == (0.0, 0.0) and option == "--weight-decay":
        return (0.0, 0.0)  # no decay, lr alone
    if len(ends) != 2 or not all(math.isfinite(end) and end > 0 for end in ends) or ends[0] > ends[1]:
        raise StudyError(f"{option} {text!r}: expected LOW:HIGH with 0 < LOW < HIGH, or one number")
    return ends[0], ends[1]


def _ends(axis: tuple[float, ...]) -> Range:
    positive = [value for value in axis if value > 0]
    return (positive[0], positive[-1]) if positive else (0.0, 0.0)
