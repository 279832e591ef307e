"""The plain data of an audit: what tables, the page, JSON and assertions read. Nothing here computes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from adamantine.probe import Behaviour
from adamantine.report.words import Words

#: ``error``: training does something else than its arguments say. ``warning``: known to hurt.
#: ``note``: worth knowing; never fails a build.
Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, why, and what mends it. The texts hold the numbers of this very model."""

    code: str  # stable, for ignoring: "l2-in-adaptive"
    severity: Severity
    title: Words  # one line without a full stop
    reason: Words
    remedy: Words
    parameters: tuple[str, ...] = ()  # concerned; empty: the optimizer as a whole
    groups: tuple[int, ...] = ()


@dataclass(frozen=True)
class GroupRow:
    """One param group as it is now."""

    index: int
    parameters: int
    elements: int
    lr: float
    peak_lr: float  # the highest of the planned schedule; lr without one
    weight_decay: float | None  # None: the group has no such key
    behaviour: Behaviour


@dataclass(frozen=True)
class ParameterRow:
    """One parameter. Every number at the present lr unless it says otherwise."""

    name: str
    shape: tuple[int, ...]
    elements: int
    dtype: str  # "float32"
    device: str
    trains: bool  # requires_grad
    group: int | None  # None: in no group
    lr: float
    weight_decay: float
    decays: bool  # what the optimizer does
    should_decay: bool  # what groups.reasons would choose
    reason: str  # why it should or should not: "bias", "weight of Linear (2-D)"
    shrink: float | None  # fraction that one step removes; None for L2 in an adaptive optimizer
    timescale: float | None  # τ = 1/shrink in steps, at peak lr; None without a number
    epochs: float | None  # τ in epochs, if the plan knows its epochs
    total_shrink: (
        float | None
    )  # factor left of a weight without gradient after the planned steps, 1 = untouched
    aliases: tuple[str, ...] = ()  # other names of the same tensor (tied)


@dataclass(frozen=True)
class Trajectory:
    """A group's schedule over the plan, thinned to at most a few hundred points."""

    group: int
    steps: tuple[int, ...]
    lr: tuple[float, ...]
    weight_decay: tuple[float, ...]
    kept: tuple[float, ...]  # factor of a weight without gradient left at that step


@dataclass(frozen=True)
class Plan:
    """How long the run is to be, as far as the user said."""

    steps: int | None = None  # optimizer steps in all
    steps_per_epoch: int | None = None
    interval: Literal["step", "epoch"] | None = None  # what the scheduler counts; None: no scheduler

    @property
    def epochs(self) -> float | None:
        """The length of the run in epochs, if known."""
        return self.steps / self.steps_per_epoch if self.steps and self.steps_per_epoch else None


@dataclass(frozen=True)
class LayerRow:
    """One parameter as the ledger saw it: medians over the measured steps, unless it says otherwise."""

    name: str
    decay_step: float  # root mean square over elements of the part of the step that decay made; NaN: unknown
    gradient_step: float  # of the rest
    update_to_weight: float  # ‖step‖/‖θ‖
    rounded: float  # of the elements whose step was not 0, the share that stayed as they were, bit for bit
    norm: float  # ‖θ‖ at the last measured step
    equilibrium: float | None  # ‖θ‖ that decay and steps would balance at, if they can
    gradient: float  # RMS of the gradient
    nonfinite: int  # steps with an infinite or NaN gradient, of those checked
    #: How decay was told from the rest: by the optimizer's formula, by a copy that stepped without decay.
    separation: Literal["formula", "counterfactual", "unknown"] = "formula"


@dataclass(frozen=True)
class Distortion:
    """The article's picture on the user's net: effective decay per step, by gradient size."""

    gradient: tuple[float, ...]  # RMS gradient of each bin, ascending
    effective: tuple[float, ...]  # median of the fraction of the weight that decay removes per step
    low: tuple[float, ...]  # 10 % quantile
    high: tuple[float, ...]  # 90 %
    nominal: float | None  # η·λ, what decoupled decay would give every element


@dataclass(frozen=True)
class LedgerReport:
    """What was seen while training."""

    steps: int  # seen
    measured: int  # of these
    every: int
    layers: tuple[LayerRow, ...]
    distortion: Distortion | None
    findings: tuple[Finding, ...] = ()
    checked: int = 0  # steps whose gradients were looked through for inf and NaN


@dataclass(frozen=True)
class AuditReport:
    """All of it. `ledger` is None before training."""

    optimizer: str  # "torch.optim.adam.Adam"
    plan: Plan
    groups: tuple[GroupRow, ...]
    parameters: tuple[ParameterRow, ...]
    findings: tuple[Finding, ...]
    trajectories: tuple[Trajectory, ...] = ()
    ledger: LedgerReport | None = None
    versions: dict[str, str] = field(default_factory=dict)
