"""Many models trained as one: parameters with a leading member axis, a row of hyperparameters per member."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from adamantine.rules.decay import NEED_PEAK, ROUNDING, Coefficients, of_relative
from adamantine.rules.hyper import check
from adamantine.torch.engines.contract import Update
from adamantine.torch.engines.generic import run_members
from adamantine.torch.engines.native import CAUTIOUS, COUPLED, PLAIN
from adamantine.torch.kernel import SCALARS, filled_like, native
from adamantine.torch.optimizer import Optimizer
from adamantine.torch.storage.layout import BLOCK_BITS
from adamantine.torch.storage.layout import PLAIN as PLAIN_FORMATS

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_IDLE = 255  # a form that is none: this member does not move
_KERNEL_DTYPES = {torch.float32: "float32", torch.float64: "float64"}


@dataclass(frozen=True)
class _Lot:
    """One group's part in a step: tensors with their states, and every member's numbers."""

    params: list[Tensor]
    states: list[dict[str, Tensor]]
    scalars: dict[str, Any]
    decay: Coefficients  # [members] each
    eta: Floats  # [members]
    forms: NDArray[np.uint8]  # [members]


class Stacked:
    """One optimizer for N members that share their shapes and differ in lr and weight decay.

    Every parameter is a tensor ``[members, …]``; member n is updated exactly (bit for bit, given the same
    gradients) as ``optimizer`` would update it alone with ``lr[n]`` and its groups' ``weight_decay[n]``. All
    members are at the same step. For ensembles, and for whole lr × λ grids in one process.

    Args:
        optimizer: a class of `adamantine.torch`.
        groups: dictionaries with ``"params"``, a list of tensors ``[members, …]``, and ``"weight_decay"``, a
            number or ``[members]``.
        lr: peak learning rates, ``[members]``; also η_max for the modes that need one.
        **hyper: the class's other arguments, the same for all members.

    Raises:
        ValueError: a hyperparameter out of range, a tensor whose first axis is not the members', an argument
            that looks at one member's whole gradient (``max_norm``, ``on_nonfinite``), or a ``peak_lr``.

    >>> import torch
    >>> from adamantine.torch import AdamW
    >>> theta = torch.ones(2, 3, requires_grad=True)  # two members with three weights each
    >>> optimizer = Stacked(AdamW, [{"params": [theta], "weight_decay": [0.0, 0.5]}], lr=[0.1, 0.1])
    >>> theta.grad = torch.zeros(2, 3)
    >>> optimizer.step()
    >>> theta[:, 0].tolist() == [1.0, torch.tensor(0.95).item()]
    True
    """

    def __init__(
        self, optimizer: type[Optimizer], groups: Sequence[dict[str, Any]], lr: ArrayLike, **hyper: Any
    ) -> None:
        for name, neutral in (("max_norm", None), ("on_nonfinite", "ignore"), ("differentiable", False)):
            if hyper.get(name, neutral) != neutral:
                raise ValueError(f"Invalid {name}: {hyper[name]!r}; stacked members have no {name}")
        if hyper.get("peak_lr") is not None:
            raise ValueError(f"Invalid peak_lr: {hyper['peak_lr']!r}; a stacked member's peak is its lr")
        self.lr = np.array(lr, np.float64)
        if self.lr.ndim != 1:
            raise ValueError(f"Invalid lr: its shape is {self.lr.shape}; give one per member, [members]")
        self.groups = [dict(group) for group in groups]
        for group in self.groups:
            group["weight_decay"] = np.broadcast_to(
                np.asarray(group["weight_decay"], np.float64), self.lr.shape
            ).copy()
            for p in group["params"]:
                if p.shape[:1] != self.lr.shape or not p.is_contiguous():
                    raise ValueError(
                        f"Invalid parameter of shape {tuple(p.shape)}: it must be contiguous, with "
                        f"{len(self.lr)} members along its first axis, one per lr"
                    )
        placeholder = torch.zeros(1, requires_grad=True)
        make: Any = optimizer
        template: Optimizer = make([placeholder], lr=float(self.lr[0]), **hyper)  # checks the shared ones
        self.options = template.param_groups[0]
        for value in self.lr:
            check({"lr": float(value)})
        for value in np.concatenate([group["weight_decay"] for group in self.groups]):
            check({"weight_decay": float(value), "decay": self.options["decay"]})
        self.rule = template.rule(self.options)
        _check_formats(self.options)
        self.engine = template.engine
        self.t = 0
        self.given: list[bool] = []  # which tensors have gradients
        self.carried = dict(self.rule.carried)
        self.state: dict[Tensor, dict[str, Tensor]] = {}

    def step(self, multiplier: float = 1.0, *, active: Bools | None = None) -> None:
        """One step of every tensor that has a gradient.

        Args:
            multiplier: s_t of the schedule: member n steps with ``lr[n] * multiplier``, at most its peak.
            active: ``[members]``, which members move; the others keep parameters and state as they are.

        Raises:
            ValueError: other tensors have a gradient than at the first step: steps are counted once for all.
        """
        given = [p.grad is not None for group in self.groups for p in group["params"]]
        if self.t and given != self.given:
            raise ValueError(
                "Invalid gradients: other tensors have one than at the first step, and stacked members count "
                "steps for all tensors together"
            )
        self.given = given
        self.t += 1
        t = self.t if self.rule.counts_steps else min(self.t, 2)
        scalars, self.carried = self.rule.host(t, self.options, self.carried)
        eta = self.lr * multiplier
        moving = np.ones(len(eta), np.bool_) if active is None else np.asarray(active, np.bool_)
        for group in self.groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            decay = self._decay(eta, group["weight_decay"])
            states = [self._state_of(p) for p in params]
            lot = _Lot(params, states, scalars, decay, eta, _forms(decay, moving))
            if self._kernel_takes(params):
                self._run_native(lot)
            else:
                with torch.no_grad():
                    self._run_generic(lot)

    def keep(self, members: Sequence[int], params: Sequence[Sequence[Tensor]]) -> None:
        """Go on with these members only, in this order; ``params`` are the groups' tensors for them."""
        index = list(members)
        self.lr = self.lr[index]
        for group, tensors in zip(self.groups, params, strict=True):
            group["weight_decay"] = group["weight_decay"][index]
            for old, new in zip(group["params"], tensors, strict=True):
                if old in self.state:
                    self.state[new] = {key: slot[index] for key, slot in self.state.pop(old).items()}
            group["params"] = list(tensors)

    def _decay(self, eta: Floats, weight_decay: Floats) -> Coefficients:
        """Couple and shrink, ``[members]`` each."""
        mode = self.options["decay"]
        relative: Floats = np.zeros_like(eta)
        if mode in NEED_PEAK:
            if (eta > self.lr * (1 + ROUNDING)).any():
                raise ValueError(f"decay={mode!r}: the multiplier exceeds 1, but lr is to be the peak")
            np.divide(eta, np.maximum(self.lr, eta), out=relative, where=eta > 0)
        couple, shrink, cautious = of_relative(mode, eta, weight_decay, relative)
        return Coefficients(np.broadcast_to(couple, eta.shape), np.broadcast_to(shrink, eta.shape), cautious)

    def _state_of(self, p: Tensor) -> dict[str, Tensor]:
        if p not in self.state:
            dtype = p.dtype if self.options["state"] is None else getattr(torch, self.options["state"])
            self.state[p] = {
                key: filled_like(
                    p.detach(),
                    self.options[self.rule.initial[slot]] if slot in self.rule.initial else 0.0,
                    dtype,
                )
                for slot, key in self.rule.slots.items()
            }
        return self.state[p]

    def _kernel_takes(self, params: Sequence[Tensor]) -> bool:
        return (
            native is not None
            and self.engine != "generic"
            and self.rule.name in SCALARS
            and self.options["state"] is None
            and all(p.dtype in _KERNEL_DTYPES and p.device.type == "cpu" for p in params)
        )

    def _run_native(self, lot: _Lot) -> None:
        assert native is not None
        names = SCALARS[self.rule.name]
        rows = np.empty((len(lot.eta), 4 + len(names)))
        rows[:, 0] = -1.0 if self.options["maximize"] else 1.0
        rows[:, 1], rows[:, 2], rows[:, 3] = lot.decay.couple, lot.decay.shrink, lot.eta
        rows[:, 4:] = [np.nan if lot.scalars[name] is None else lot.scalars[name] for name in names]
        tensors = []
        held = []  # a gradient that had to be laid out anew lives until the step is done
        for p, state in zip(lot.params, lot.states, strict=True):
            assert p.grad is not None
            arrays = [p, p.grad.contiguous(), *state.values()]
            held.append(arrays)
            described = [(x.data_ptr(), _KERNEL_DTYPES[x.dtype]) for x in arrays]
            tensors.append((0, p[0].numel(), described))
        native.step_members(
            self.rule.name,
            lot.forms.tobytes(),
            rows.ctypes.data,
            rows.shape[1],
            tensors,
            len(lot.eta),
            torch.get_num_threads(),
        )
        torch.autograd.graph.increment_version(lot.params)

    def _run_generic(self, lot: _Lot) -> None:
        """The Python rule on the members of one form at a time, host numbers broadcast along them."""
        for form in set(lot.forms.tolist()) - {_IDLE}:
            members = np.flatnonzero(lot.forms == form)
            index = torch.from_numpy(members)
            for p, state in zip(lot.params, lot.states, strict=True):
                assert p.grad is not None
                theta, slots = p[index], {key: slot[index] for key, slot in state.items()}
                shrink, couple, rate = (
                    _along(values[members], theta) for values in (lot.decay.shrink, lot.decay.couple, lot.eta)
                )
                run_members(
                    Update(
                        rule=self.rule,
                        thetas=[theta],
                        grads=[p.grad[index]],
                        states=[slots],
                        formats=PLAIN_FORMATS,
                        scalars=lot.scalars,
                        decay=Coefficients(couple if form == COUPLED else 0.0, shrink, lot.decay.cautious),
                        eta=rate,
                        grad_scale=-1.0 if self.options["maximize"] else 1.0,
                        differentiable=False,
                        foreach=None,
                    )
                )
                p[index] = theta
                for key, slot in slots.items():
                    state[key][index] = slot


def _check_formats(options: dict[str, Any]) -> None:
    """ValueError unless members are stored as ordinary tensors of one dtype."""
    state, weights = options["state"], options["weights"]
    if isinstance(state, dict) or state in BLOCK_BITS:
        raise ValueError(f"Invalid state: {state!r}; stacked members keep theirs in one dtype, or None")
    if weights not in {None, "nearest"}:
        raise ValueError(f"Invalid weights: {weights!r}; stacked members are rounded to 'nearest'")


def _forms(decay: Coefficients, moving: Bools) -> NDArray[np.uint8]:
    """Of each member's step; `_IDLE` for one that does not move."""
    forms = np.where(decay.couple != 0.0, COUPLED, PLAIN)
    return np.where(moving, CAUTIOUS if decay.cautious else forms, _IDLE).astype(np.uint8)


def _along(values: Floats, theta: Tensor) -> Tensor:
    """Host numbers ``[members]`` as the rule's arithmetic on θ takes them, ``[members, 1, …]``."""
    dtype = torch.float32 if theta.dtype.itemsize < 4 else theta.dtype
    return torch.as_tensor(values, dtype=dtype, device=theta.device).view(-1, *[1] * (theta.dim() - 1))
