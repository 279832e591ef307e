"""Torch schedulers made of `adamantine.schedules`: for any ``torch.optim`` optimizer, resumed exactly.

Call ``scheduler.step()`` after ``optimizer.step()``, once per update (torch warns about the other order: the
first multiplier would be skipped). The learning rate is a function of the step alone, so nothing accumulates.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FunctionType, MethodType
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from adamantine.rules.decay import convert, normalized
from adamantine.schedules import CosineRestarts, Schedule, Warmup, peak_lr

Multiplier = Callable[[float], float]


class Scheduler(LRScheduler):
    """η_t = ``initial_lr`` · s_t per group, with s from `adamantine.schedules` or any function of the step.

    A group that joins later (``add_param_group``) takes the lr it joined with as its base and follows too.
    Works inside torch's SequentialLR and ChainedScheduler, and resumes there too.

    Args:
        optimizer: any torch optimizer. Each group's lr is its base, and its peak as s_t is at most 1.
        schedule: one schedule for all groups, or a sequence with one per group.
        last_epoch: torch's; the index of the last step when going on without a state dict, else -1.

    Raises:
        ValueError: the number of schedules is not the number of groups.

    >>> from adamantine.schedules import Cosine, Warmup
    >>> weight = torch.nn.Parameter(torch.ones(2, 2))
    >>> optimizer = torch.optim.AdamW([weight], lr=1e-3)
    >>> scheduler = Scheduler(optimizer, Warmup(3, Cosine(10)))
    >>> lrs = []
    >>> for _ in range(5):
    ...     lrs.append(optimizer.param_groups[0]["lr"])
    ...     optimizer.step()
    ...     scheduler.step()
    >>> [f"{lr:.3g}" for lr in lrs]
    ['0.00025', '0.0005', '0.00075', '0.001', '0.000976']
    """

    #: What the scheduler writes into the groups.
    writes: ClassVar[tuple[str, ...]] = ("lr",)

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        schedule: Multiplier | Sequence[Multiplier],
        last_epoch: int = -1,
    ) -> None:
        self.schedule = schedule
        self.optimizer = optimizer  # the base class sets it too, but only after our check needs it
        self._schedules()
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float | Tensor]:
        """The lr of each group at ``last_epoch``."""
        pairs = zip(self.optimizer.param_groups, self._schedules(), strict=True)
        return [_base(group) * schedule(self.last_epoch) for group, schedule in pairs]

    def _get_closed_form_lr(self) -> list[float | Tensor]:
        """torch's name for `get_lr` where a step is asked for by its number."""
        return self.get_lr()

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers and text only, so that ``torch.load(weights_only=True)`` takes it.

        The groups' present values are among them: inside SequentialLR and ChainedScheduler other members have
        written them too, and no member alone could say what they were.
        """
        groups = self.optimizer.param_groups
        return {
            "last_epoch": self.last_epoch,
            "base_lrs": [_copied(_base(group)) for group in groups],
            "present": {key: [_copied(group[key]) for group in groups] for key in self.writes},
            "plan": self._plan(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the saved scheduler was; writes each group's saved lr, in any order of loading.

        Raises:
            ValueError: saved under another schedule, or for another number of groups.
        """
        groups = self.optimizer.param_groups
        if len(state_dict["base_lrs"]) != len(groups):
            raise ValueError(
                f"the saved scheduler drove {len(state_dict['base_lrs'])} parameter groups, this optimizer "
                f"has {len(groups)}; build the same groups before loading"
            )
        saved, live = state_dict.get("plan"), self._plan()
        if saved is not None and saved != live:
            raise ValueError(
                f"saved under the schedule {saved}, but this scheduler follows {live}; build the saved one, "
                "or delete 'plan' from the state dict to go on under the new one from the next step"
            )
        self.last_epoch = state_dict["last_epoch"]
        for number, group in enumerate(groups):
            group["initial_lr"] = _copied(state_dict["base_lrs"][number])
            for key, values in state_dict["present"].items():
                _write(group, key, values[number])
        self.base_lrs = [_copied(group["initial_lr"]) for group in groups]
        self._last_lr = [_copied(group["lr"]) for group in groups]

    def _schedules(self) -> Sequence[Multiplier]:
        count = len(self.optimizer.param_groups)
        if callable(self.schedule):
            return [self.schedule] * count
        if len(self.schedule) != count:
            raise ValueError(
                f"{len(self.schedule)} schedules for {count} parameter groups; give one for all, or one each"
            )
        return self.schedule

    def _plan(self) -> list[str]:
        """The schedules in words. A plain function has no lasting words, so it is not compared."""
        return [repr(s) if isinstance(s, Schedule) else "function" for s in self._schedules()]


class WarmRestarts(Scheduler):
    r"""Cosine restarts with restart-aware normalized weight decay: AdamWR, SGDWR (Loshchilov & Hutter 2019).

    In run i, λ_independent = λ_norm·√(B / (N·T_i)) (their Appendix B). N·T_i/B is the number of updates in
    the run, so neither batch size nor data set size needs to be given. λ is written into ``weight_decay``: as
    it is for ``decay="independent"``, divided by the group's peak lr for the modes whose λ multiplies the lr
    (``"decoupled"``, ``"cautious"``, ``"corrected"``, torch's own AdamW). Groups whose ``weight_decay`` is 0
    or whose mode is ``"none"`` stay without decay. During warm-up λ is that of the first run.

    Args:
        optimizer: ours with decoupled decay, or torch.optim.AdamW. Its ``weight_decay`` only says which
            groups decay; the number is replaced.
        t_0: length of the first run, T_0, in steps of this scheduler.
        t_mult: each run is this many times as long as the one before it.
        normalized_decay: λ_norm, such as 0.025.
        updates_per_step: optimizer updates between two calls of ``step()``: 1 if called after every update,
            the number of batches if called after every epoch.
        warmup: steps of linear warm-up before the first run.
        end: multiplier that each run falls to.
        last_epoch: as in `Scheduler`.

    Raises:
        ValueError: a decaying group with L2 in the gradient or with lr 0, or no decaying group; a λ_norm that
            would remove a whole weight in one update.

    >>> weight = torch.nn.Parameter(torch.ones(2, 2))
    >>> optimizer = torch.optim.AdamW([weight], lr=1e-3, weight_decay=1.0)
    >>> scheduler = WarmRestarts(optimizer, t_0=100, t_mult=4, normalized_decay=0.025)
    >>> found = []
    >>> for step in range(101):
    ...     found.append(round(optimizer.param_groups[0]["weight_decay"], 4))
    ...     optimizer.step()
    ...     scheduler.step()
    >>> found[0], found[99], found[100]
    (2.5, 2.5, 1.25)
    """

    writes: ClassVar[tuple[str, ...]] = ("lr", "weight_decay")

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        t_0: int,
        t_mult: int = 1,
        *,
        normalized_decay: float,
        updates_per_step: float = 1.0,
        warmup: int = 0,
        end: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        self.restarts = CosineRestarts(t_0, t_mult, end)
        self.warmup = warmup
        self.normalized_decay = normalized_decay
        self.updates_per_step = updates_per_step
        _check_decay_modes(optimizer)
        self._check_strength()
        super().__init__(optimizer, Warmup(warmup, self.restarts), last_epoch)

    def get_lr(self) -> list[float | Tensor]:
        """The lr of each group; also writes ``weight_decay``, as torch's OneCycleLR does the momentum."""
        decay = self._decay(max(0, self.last_epoch - self.warmup))
        lrs = super().get_lr()
        for number, group in enumerate(self.optimizer.param_groups):
            mode = _decay_mode(self.optimizer, group)
            if group["weight_decay"] > 0 and mode != "none":
                peak = peak_lr(group)
                if mode != "independent" and not peak > 0:
                    raise ValueError(
                        f"parameter group {number} decays but its highest lr is {peak}, and decay={mode!r} "
                        "multiplies λ by the lr; give the group an lr > 0, or weight_decay=0"
                    )
                found = convert(decay, source="independent", target=mode, peak_lr=peak)
                _write(group, "weight_decay", found)
        return lrs

    def _decay(self, step: float) -> float:
        """λ_independent of the run that contains ``step``, warm-up not counted."""
        updates = self.restarts.run_length(step) * self.updates_per_step
        # One example per batch of one: an "epoch" is an update, and B/(N·T) is one over the run's updates.
        return normalized(self.normalized_decay, batch_size=1, examples=1, epochs=updates)

    def _check_strength(self) -> None:
        """The first run is the shortest, so its λ is the largest."""
        if not 0.0 < self.updates_per_step < math.inf:
            raise ValueError(f"Invalid updates_per_step: {self.updates_per_step}; it must be finite and > 0")
        if not 0.0 <= self.normalized_decay < math.inf:
            raise ValueError(f"Invalid normalized_decay: {self.normalized_decay}; it must be finite and >= 0")
        if (decay := self._decay(0)) >= 1.0:
            raise ValueError(
                f"Invalid normalized_decay: {self.normalized_decay}; in a first run of "
                f"t_0={self.restarts.t_0} each update at peak lr would remove the fraction {decay:.3g} of a "
                "weight, which must be < 1; lower it or lengthen t_0"
            )

    def _plan(self) -> list[str]:
        decay = f"normalized_decay={self.normalized_decay}, updates_per_step={self.updates_per_step}"
        return [*super()._plan(), decay]


def record_peak_lr(scheduler: LRScheduler, *, steps: int) -> list[float]:
    """Play ``scheduler`` forward, put all back, and write each group's highest lr into its ``peak_lr``.

    For schedulers whose peak no parameter group tells: CyclicLR, and functions with multipliers above 1 or
    far below it (`adamantine.schedules.peak_lr`). Needed before the first step, and only with
    ``decay="independent"`` or ``"corrected"``. Afterwards, and after an error too, the optimizer and the
    scheduler are where they were. The scheduler's functions are called for the steps ahead and not copied, so
    they must be functions of the step alone.

    Args:
        scheduler: attached to its optimizer; SequentialLR and ChainedScheduler too.
        steps: how many updates of the plan to look at, the present one included.

    Returns:
        The peaks, one per group.

    Raises:
        TypeError: ReduceLROnPlateau, whose course depends on the metrics to come.
        ValueError: ``steps`` below 1.

    >>> weight = torch.nn.Parameter(torch.ones(2, 2))
    >>> optimizer = torch.optim.AdamW([weight], lr=1e-3)
    >>> scheduler = torch.optim.lr_scheduler.CyclicLR(optimizer, base_lr=1e-4, max_lr=1e-2, step_size_up=5)
    >>> record_peak_lr(scheduler, steps=20)
    [0.01]
    """
    if isinstance(scheduler, ReduceLROnPlateau):
        raise TypeError(
            "ReduceLROnPlateau follows metrics that are not known yet; its peak is the group's lr"
        )
    if steps < 1:
        raise ValueError(f"Invalid steps: {steps}; look at one update or more")
    groups = scheduler.optimizer.param_groups
    peaks = [max(float(g["lr"]), float(g.get("highest_lr", 0.0))) for g in groups]
    with _rehearsal(scheduler):
        for _ in range(steps - 1):
            scheduler.step()
            peaks = [max(peak, float(g["lr"])) for peak, g in zip(peaks, groups, strict=True)]
    for group, peak in zip(groups, peaks, strict=True):
        group["peak_lr"] = peak
    return peaks


@contextmanager
def _rehearsal(scheduler: LRScheduler) -> Iterator[None]:
    """Steps of the scheduler in this context leave no trace in it, in its members, or in the groups."""
    groups = scheduler.optimizer.param_groups
    kept = [dict(group) for group in groups]
    tensors = [(v, v.detach().clone()) for group in groups for v in group.values() if isinstance(v, Tensor)]
    parts = [(part, {k: _shallow(v) for k, v in vars(part).items()}) for part in _moving_parts(scheduler)]
    try:
        with warnings.catch_warnings():  # no update happens between these steps, as torch would warn
            warnings.filterwarnings("ignore", r".*optimizer\.step\(\)", UserWarning)
            yield
    finally:
        for part, attributes in parts:
            vars(part).clear()
            vars(part).update(attributes)
        for group, values in zip(groups, kept, strict=True):
            group.clear()
            group.update(values)
        with torch.no_grad():
            for tensor, value in tensors:
                tensor.copy_(value)


def _moving_parts(scheduler: Any) -> Iterator[Any]:
    """The scheduler, its members, and LambdaLR's callable objects, whose attributes torch counts as state."""
    yield scheduler
    for function in getattr(scheduler, "lr_lambdas", ()):
        if hasattr(function, "__dict__") and not isinstance(function, FunctionType | MethodType):
            yield function
    for member in getattr(scheduler, "_schedulers", ()):
        yield from _moving_parts(member)


def _shallow(value: Any) -> Any:
    return copy.copy(value) if isinstance(value, list | dict) else value


def _check_decay_modes(optimizer: torch.optim.Optimizer) -> None:
    modes = {
        n: _decay_mode(optimizer, g) for n, g in enumerate(optimizer.param_groups) if g["weight_decay"] > 0
    }
    if not modes:
        raise ValueError(
            "no parameter group has weight_decay > 0, so there is nothing to normalize; give the groups that "
            "are to decay any positive weight_decay"
        )
    for number, mode in modes.items():
        if mode == "l2":
            raise ValueError(
                f"parameter group {number} of {type(optimizer).__name__} adds L2 to the gradient, where no "
                "normalized decay exists; use decay='independent' or 'decoupled' (torch: AdamW)"
            )


def _decay_mode(optimizer: torch.optim.Optimizer, group: dict[str, Any]) -> str:
    """The group's mode: ours says it; of torch's classes only AdamW decouples."""
    if "decay" in group:
        return str(group["decay"])
    decoupled = group.get("decoupled_weight_decay", isinstance(optimizer, torch.optim.AdamW))
    return "decoupled" if decoupled else "l2"


def _base(group: dict[str, Any]) -> float | Tensor:
    """The lr that multipliers apply to; that of a group that has just joined is its present lr."""
    base: float | Tensor = group.setdefault("initial_lr", _copied(group["lr"]))
    return base


def _copied(value: float | Tensor) -> float | Tensor:
    return value.clone() if isinstance(value, Tensor) else value


def _write(group: dict[str, Any], key: str, value: float | Tensor) -> None:
    """Set a number, in place where it is a tensor (a captured or compiled step reads that very tensor)."""
    if isinstance(group[key], Tensor):
        group[key].fill_(value)
    else:
        group[key] = value
