"""One optimizer under observation: what is read before a step, what after it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adamantine.audit.counterfactual import Again, Asked, Shadow, State, clone_state
from adamantine.audit.distortion import Rates
from adamantine.audit.errors import AuditError
from adamantine.audit.ledger_row import Row, row
from adamantine.audit.ledger_sample import Floats, Sample, arrays, together
from adamantine.audit.ledger_shrink import Shrink
from adamantine.audit.ledger_split import SLOTS, How, Step
from adamantine.audit.ledger_whole import are_finite, norms, quick_sum
from adamantine.torch import Optimizer

#: Parts of names of state that holds what a weight of low precision cannot.
_KEEPS_MORE = ("comp", "master", "residual", "fp32", "shift", "lo_bits")


@dataclass
class Watched:
    """One parameter and what is known of it between steps."""

    name: str
    p: Tensor
    group: int
    sample: Sample
    rates: Rates
    how: How = "formula"
    wants_copy: bool = False  # of its steps, by `Shadow`
    host_nonfinite: int = 0  # steps with such gradients, seen on the CPU
    nonfinite: Tensor | None = None  # counted on the parameter's device
    norm: float = 0.0

    @property
    def bad(self) -> int:
        """Steps with such gradients; waits for the device."""
        return self.host_nonfinite + (0 if self.nonfinite is None else int(self.nonfinite))


@dataclass
class Before:
    """What has to be read before the step."""

    theta: list[Tensor]
    states: dict[int, State] = field(default_factory=dict)  # of the parameters that want a copy of the step
    grads: dict[int, Tensor] | None = None  # None: to be read after the step, which makes them itself


class Watch:
    """All parameters of one optimizer.

    Args:
        optimizer: anything with ``param_groups``; with ``state`` more can be told.
        names: of the model's parameters.
        most: elements of one parameter to read.
    """

    def __init__(self, optimizer: Any, names: Mapping[Tensor, str], most: int) -> None:
        self.optimizer = optimizer
        self.watched: list[Watched] = []
        self.steps = self.checked = 0
        self.failure: tuple[int, str] | None = None  # in which step, and why nothing more is measured
        self._names, self._most = names, most
        self._shrinks: list[Shrink] = []
        self._shadows: list[Shadow] = []
        self.refresh()

    def refuse_released(self) -> None:
        """AuditError where ``step()`` is not where parameters move, and finds no gradients."""
        if getattr(self.optimizer, "_release", None) is not None:
            raise AuditError(
                f"{type(self.optimizer).__name__} releases its gradients inside backward, so that none can "
                "be read around its steps; audit the training without release_gradients()"
            )

    @contextmanager
    def guarded(self, step: int) -> Iterator[None]:
        """Whatever goes wrong in here ends the measuring, with a finding, and not the training."""
        try:
            yield
        except Exception as error:
            first_line = (str(error).splitlines() or [""])[0]
            self.failure = step, f"{type(error).__name__}: {first_line}"

    def refresh(self) -> None:
        """Take in groups and parameters that are new."""
        known = {id(each.p) for each in self.watched}
        for index, group in enumerate(self.optimizer.param_groups):
            if index == len(self._shrinks):
                self._shrinks.append(Shrink(self.optimizer, index))
                self._shrinks[-1].behaviour()
                self._shadows.append(Shadow(self.optimizer, group))
            for place, p in enumerate(group["params"]):
                if id(p) in known or p.device.type == "meta" or not (p.is_floating_point() or p.is_complex()):
                    continue
                name = self._names.get(p, f"group{index}.{place}")
                sample = Sample(p, most=self._most, seed=len(self.watched))
                low = p.element_size() <= 2
                self.watched.append(Watched(name, p, index, sample, Rates(len(sample)), wants_copy=low))
                known.add(id(p))

    def shrink_of(self, each: Watched) -> Shrink:
        """The decay of the parameter's group."""
        return self._shrinks[each.group]

    def check(self) -> None:
        """Count the gradients that hold an infinite or NaN element, without waiting for the device."""
        self.checked += 1
        by_device: dict[torch.device, list[tuple[Watched, Tensor]]] = {}
        here: list[tuple[Watched, Tensor]] = []
        for each in self.watched:
            grad = each.p.grad
            if grad is None:
                continue
            if grad.device.type == "cpu":
                here.append((each, grad))
            else:
                total = quick_sum(grad)
                by_device.setdefault(total.device, []).append((each, total))
        for (each, _), finite in zip(here, are_finite([grad for _, grad in here]), strict=True):
            each.host_nonfinite += not finite
        for lot in by_device.values():
            bad = ~torch.isfinite(torch.stack([total for _, total in lot]))
            for (each, _), one in zip(lot, bad.long().unbind(), strict=True):
                each.nonfinite = one if each.nonfinite is None else each.nonfinite + one

    def before(self, *, makes_gradients: bool) -> Before:
        """Read what the step will change.

        Args:
            makes_gradients: the step calls a closure, so that the gradients are there only after it.
        """
        self.refuse_released()
        self.refresh()
        theta = together([each.sample.of(each.p) for each in self.watched])
        states = {}
        for place, each in enumerate(self.watched):
            if each.wants_copy and self._shadows[each.group].refusal is None:
                state = clone_state(self._state(each.p), each.sample)
                if state is not None:
                    states[place] = state
        return Before(theta, states, None if makes_gradients else self._gradients(self.watched))

    def after(self, before: Before) -> dict[int, Row]:
        """What the step did, by place in `watched`; without those that took no step.

        Empty if nothing moved under gradients that are not finite: such a step was left out on purpose.
        """
        count = len(before.theta)  # a parameter that came within the step is seen at the next one
        watched = self.watched[:count]
        grads = self._gradients(watched) if before.grads is None else before.grads
        slots = {
            (place, name): each.sample.of(value)
            for place, each in enumerate(watched)
            for name, value in self._slots(each)
        }
        read = iter(
            arrays(
                together(
                    [*before.theta, *(e.sample.of(e.p) for e in watched), *grads.values(), *slots.values()]
                )
            )
        )
        old, new = ([next(read) for _ in watched] for _ in range(2))
        grad_of, slot_of = ({key: next(read) for key in keys} for keys in (grads, slots))
        moved = [not np.array_equal(a, b, equal_nan=True) for a, b in zip(old, new, strict=True)]
        for each, norm in zip(watched, norms(e.p for e in watched), strict=True):
            each.norm = norm
        if not any(moved) and not all(np.isfinite(grad).all() for grad in grad_of.values()):
            return {}
        steps: dict[int, Step] = {}
        for place, each in enumerate(watched):
            if place in grad_of or moved[place]:  # else: no gradient, no step
                grad = grad_of.get(place, np.zeros_like(old[place]))
                own = {name: slot_of[place, name] for name in SLOTS if (place, name) in slot_of}
                steps[place] = self._step(each, old[place], new[place], grad, own)
        again = self._again(steps, before.states)
        return {place: self._row(watched[place], step, again.get(place)) for place, step in steps.items()}

    def _row(self, each: Watched, step: Step, again: Again | None) -> Row:
        shrink = self.shrink_of(each)
        found = row(
            step,
            shrink.behaviour(),
            shrink.now(),
            elements=each.sample.elements,
            again=again,
            keeps_more=self._keeps_more(each),
        )
        each.how = found.how
        # Dear, so only where it is needed: formulas failed, or weights stayed and may have been meant to.
        each.wants_copy = each.wants_copy or found.how == "unknown" or found.rounded > 0.01
        if found.effective is not None:
            each.rates.add(step.grad, found.effective, step.lr * step.weight_decay)
        return found

    def _keeps_more(self, each: Watched) -> bool:
        """Whether a weight that stays has lost nothing: the state holds the rest, or rounding is unbiased."""
        if isinstance(self.optimizer, Optimizer):
            weights = self.optimizer.param_groups[each.group]["weights"] or "nearest"
            return each.p.element_size() <= 2 and weights != "nearest"
        return any(part in str(key).lower() for key in self._state(each.p) for part in _KEEPS_MORE)

    def _step(self, each: Watched, old: Floats, new: Floats, grad: Floats, slots: dict[str, Floats]) -> Step:
        group = self.optimizer.param_groups[each.group]
        lr, weight_decay = self.shrink_of(each).settings()
        count = self._state(each.p).get("step", group.get("step", 0))
        return Step(
            old,
            new,
            grad,
            slots,
            count=float(count) if isinstance(count, int | float | Tensor) else 0.0,
            lr=lr,
            weight_decay=weight_decay,
            group=group,
            resolution=float(torch.finfo(each.p.dtype).eps),
        )

    def _again(self, steps: dict[int, Step], states: dict[int, State]) -> dict[int, Again]:
        """The steps of those parameters whose state was kept, by copies of their groups' optimizers."""
        found: dict[int, Again] = {}
        for index, shadow in enumerate(self._shadows):
            places = [k for k in states if k in steps and self.watched[k].group == index]
            if not places:
                continue
            asked = [
                Asked(steps[k].before, steps[k].grad, states[k], self.watched[k].p.device) for k in places
            ]
            copies = shadow.step_again(asked, decays=steps[places[0]].weight_decay != 0)
            found.update(zip(places, copies or [], strict=False))
        return found

    def _gradients(self, watched: list[Watched]) -> dict[int, Tensor]:
        """The chosen elements of each gradient, as the optimizer is about to use them."""
        scale = getattr(self.optimizer, "grad_scale", None)  # GradScaler leaves this to fused optimizers
        factor = float(scale) if isinstance(scale, Tensor) else 1.0
        places = [k for k, each in enumerate(watched) if each.p.grad is not None]
        taken = [watched[k].sample.of(watched[k].p.grad) for k in places]  # type: ignore[arg-type]
        copies = together(taken)
        return {k: copy if factor == 1.0 else copy / factor for k, copy in zip(places, copies, strict=True)}

    def _state(self, p: Tensor) -> dict[str, Any]:
        states = getattr(self.optimizer, "state", {})
        state = states.get(p) if isinstance(states, Mapping) else None
        return state if isinstance(state, dict) else {}

    def _slots(self, each: Watched) -> Iterable[tuple[str, Tensor]]:
        state = self._state(each.p)
        for name in SLOTS:
            value = state.get(name)
            if isinstance(value, Tensor) and not _is_coded(value) and each.sample.fits(value):
                yield name, value


def _is_coded(value: Tensor) -> bool:
    """Whether the elements are codes of numbers (8-bit state), not numbers."""
    return not (value.is_floating_point() or value.is_complex())
