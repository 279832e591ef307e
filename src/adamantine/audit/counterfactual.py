"""One step taken again by a copy of the optimizer: in float64, and without decay.

The copy (`adamantine.probe.sandbox`) steps on clones of the chosen elements, with their gradients and
clones of their state, cast to float64. Its step is what the optimizer *meant* to do, free of the rounding
of the weights; and the same step with λ = 0 leaves out what decay did in it. It is believed only if it
gives the step that the weights really took: an optimizer that mixes elements (a trust ratio, Muon's
matrices) or keeps state in a form of its own (8 bit) fails that and is not guessed at.

For L2 behind momentum this is the response within one step, and what the momentum repeats later is left out:
it is smaller than the decay in the long run by up to 1/(1-β₁). `ledger_split` has the formulas that need no
such reservation; this is for optimizers that it does not know.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adamantine.audit.ledger_sample import Sample
from adamantine.audit.ledger_split import Split, Step, agrees
from adamantine.probe.errors import ProbeError
from adamantine.probe.quiet import undisturbed
from adamantine.probe.sandbox import decay_key, like
from adamantine.probe.stepping import take_step

Floats = NDArray[np.float64]
State = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """What the copy is to step: chosen elements of one parameter, their gradients, ``[n]`` each; state."""

    theta: Floats
    grad: Floats
    state: State
    device: torch.device


@dataclass(frozen=True)
class Again:
    """What the copy did, ``[n]`` each: the change that was meant, and that without decay (None if λ is 0)."""

    meant: Floats
    without_decay: Floats | None


def clone_state(state: State, sample: Sample) -> State | None:
    """State of the chosen elements, ready for the copy; None if it is not elementwise."""
    cloned: State = {}
    for name, value in state.items():
        if not isinstance(value, Tensor):
            if not (value is None or isinstance(value, bool | int | float | str)):
                return None
            cloned[name] = value
        elif value.numel() == 1 and sample.elements != 1:
            cloned[name] = value.detach().clone()
        elif value.is_floating_point() or value.is_complex():
            if not sample.fits(value):
                return None
            cloned[name] = sample.of(value).double().clone()
        else:  # quantized, in blocks: reading some of it would mean something else
            return None
    return cloned


class Shadow:
    """Copies of one group's optimizer; made once, as finding out how to copy takes a few trial steps."""

    def __init__(self, optimizer: torch.optim.Optimizer, group: dict[str, Any]) -> None:
        self._optimizer, self._group = optimizer, group
        self._factory: Callable[..., torch.optim.Optimizer] | None = None
        self.refusal: str | None = None  # why there can be no copy

    def step_again(self, asked: Sequence[Asked], *, decays: bool) -> list[Again] | None:
        """The step of these parameters' chosen elements; None if it cannot be copied."""
        if self.refusal is not None:
            return None
        try:
            if self._factory is None:
                self._factory = like(self._optimizer, self._group)
            meant = self._stepped(asked, {})
            bare = self._stepped(asked, {decay_key(self._group): 0.0}) if decays else None
        except ProbeError as error:
            self.refusal = str(error)
        except Exception as error:  # any library's: an audit may not end the training that it watches
            self.refusal = f"{type(error).__name__}: {error}"
        else:
            return [Again(each, bare[k] if bare else None) for k, each in enumerate(meant)]
        return None

    def _stepped(self, asked: Sequence[Asked], overrides: dict[str, float]) -> list[Floats]:
        assert self._factory is not None
        # On their device: some optimizers have kernels for one kind only.
        before = [torch.from_numpy(each.theta).to(each.device) for each in asked]
        thetas = [theta.clone().requires_grad_() for theta in before]
        with undisturbed(seed=0):
            copy = self._factory(thetas)
            for group in copy.param_groups:
                group.update(overrides)
            for theta, each in zip(thetas, asked, strict=True):
                if each.state:
                    cloned = {k: v.clone() if isinstance(v, Tensor) else v for k, v in each.state.items()}
                    copy.state[theta].update(cloned)
            take_step(copy, thetas, [torch.from_numpy(each.grad).to(each.device) for each in asked])
        return [(new.detach() - old).cpu().numpy() for new, old in zip(thetas, before, strict=True)]


def believed(again: Again, step: Step) -> Split | None:
    """The split that the copy tells, if its step is the one that was seen."""
    if not agrees(again.meant, step):
        return None
    bare = again.meant if again.without_decay is None else again.without_decay
    by_decay = again.meant - bare
    with np.errstate(all="ignore"):
        effective = np.where(step.before != 0, -by_decay / step.before, np.nan)
    return Split(by_decay, bare, effective, "counterfactual")
