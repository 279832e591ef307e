"""The base of every adamantine optimizer: a real ``torch.optim.Optimizer`` around a rule and a decay mode."""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args, overload

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from adamantine.rules import Rule
from adamantine.rules.decay import NEED_PEAK, Coefficients, coefficients
from adamantine.rules.hyper import check
from adamantine.schedules import peak_lr
from adamantine.torch import checkpoint
from adamantine.torch.engines.contract import Engine, Update
from adamantine.torch.engines.generic import GENERIC
from adamantine.torch.norm import global_norm

OnNonfinite = Literal["ignore", "skip", "raise"]


@dataclass(frozen=True)
class _Plan:
    """One group's part in a step: parameters with their gradients, and the numbers of the group."""

    group: dict[str, Any]
    rule: Rule
    params: list[Tensor]
    grads: list[Tensor]
    lr: Any
    decay: Coefficients


class Optimizer(torch.optim.Optimizer):
    """Common ground: groups, state, clipping, guards. A subclass names its rule and its signature.

    Beside torch's keys, a group holds ``decay`` (the mode), ``peak_lr`` (η_max as stated by the user, or None
    to have it tracked), ``constructed_lr`` and ``highest_lr`` (what the tracking knows).

    Attributes:
        max_norm: clip the global gradient norm inside the step, or None. May be assigned between steps.
        on_nonfinite: what a step with an infinite or NaN gradient does.
        skipped_steps: how many steps ``on_nonfinite="skip"`` has left out; kept in the state dict.
        last_norm: global norm before clipping, of the last step with ``max_norm`` or a guard; None before.
    """

    #: The mode that a checkpoint is taken for which does not say (torch's class of this name has this one).
    foreign_decay: ClassVar[str] = "l2"
    #: Whether torch's class of this name refuses tensor hyperparameters under ``foreach=True``.
    foreach_refuses_tensors: ClassVar[bool] = False
    engine: ClassVar[Engine] = GENERIC

    def __init__(self, params: ParamsT, options: dict[str, Any]) -> None:
        """``options``: the subclass's arguments by name; all but the last two become group defaults."""
        max_norm, on_nonfinite = options.pop("max_norm"), options.pop("on_nonfinite")
        _settle_mode(options)
        self._check_tensors(options)
        _check_flags(type(self).__name__, options)
        check({**options, "max_norm": max_norm})
        _check_guard(on_nonfinite)
        if options["differentiable"] and (max_norm is not None or on_nonfinite != "ignore"):
            raise ValueError(
                "max_norm and on_nonfinite are decided on the host and would cut the graph of "
                "differentiable=True; clip with differentiable operations before the step instead"
            )
        self.max_norm: float | None = max_norm
        self.on_nonfinite: OnNonfinite = on_nonfinite
        self.skipped_steps = 0
        self.last_norm: float | None = None
        super().__init__(params, options)

    @abstractmethod
    def rule(self, group: dict[str, Any]) -> Rule:
        """The rule that this group's hyperparameters ask for."""
        raise NotImplementedError(
            f"{type(self).__name__} names no rule; use one of adamantine.torch.OPTIMIZERS"
        )

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """torch's, with the group's own hyperparameters checked.

        Raises:
            ValueError: a hyperparameter of this group is out of range, or not for a group to have.
        """
        if isinstance(param_group, dict):
            for name in {"max_norm", "on_nonfinite"} & set(param_group):
                raise ValueError(
                    f"{name} is for all groups together; give it to the optimizer, not to a group"
                )
            _settle_mode(param_group)
            self._check_tensors({**self.defaults, **param_group})
            check({**self.defaults, **param_group})
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        group["constructed_lr"] = _double(group["lr"])
        group.setdefault("highest_lr", 0.0)
        self._name_mode(group)

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch._disable_dynamo  # type: ignore[attr-defined]  # host numbers in between: nothing to trace
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step of every parameter that has a gradient.

        Args:
            closure: re-evaluates the model, calls ``backward`` and returns the loss, which is returned.

        Raises:
            FloatingPointError: a gradient is not finite and ``on_nonfinite="raise"``; nothing has moved.
            RuntimeError: a sparse gradient that this rule cannot use.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with torch.set_grad_enabled(self.defaults["differentiable"]):
            grad_scale = self._grad_scale()
            if grad_scale is None:
                self.skipped_steps += 1
            else:
                plans = [self._plan(group) for group in self.param_groups]  # every check before any change
                updates = [u for plan in plans if plan for u in self._updates(plan, grad_scale)]
                self.engine.run(updates)
        return loss

    def _grad_scale(self) -> float | None:
        """The clipping factor, or None if this step is to be left out."""
        _check_guard(self.on_nonfinite)  # it may have been assigned
        if self.max_norm is None and self.on_nonfinite == "ignore":
            return 1.0
        grads = (p.grad for group in self.param_groups for p in group["params"] if p.grad is not None)
        norm = self.last_norm = global_norm(grads)
        if not math.isfinite(norm) and self.on_nonfinite != "ignore":
            if self.on_nonfinite == "raise":
                culprits = ", ".join(self._nonfinite_names()) or "none alone: their norm overflows"
                raise FloatingPointError(
                    f"gradients are not finite (global norm {norm}): {culprits}. No parameter has moved; "
                    "on_nonfinite='skip' leaves such steps out and counts them in skipped_steps"
                )
            return None
        if self.max_norm is None:
            return 1.0
        factor = float(self.max_norm) / (norm + 1e-6)  # torch's clip_grad_norm_ has the same 1e-6
        return 1.0 if factor >= 1.0 else factor

    def _nonfinite_names(self) -> Iterator[str]:
        for number, group in enumerate(self.param_groups):
            names = group.get("param_names")
            for index, p in enumerate(group["params"]):
                grad = p.grad
                if grad is None:
                    continue
                values = grad.coalesce().values() if grad.is_sparse else grad
                if not torch.isfinite(values).all():
                    yield names[index] if names else f"parameter {index} of group {number}"

    def _plan(self, group: dict[str, Any]) -> _Plan | None:
        """What the group is about to do, every check made and nothing changed but the record of its lr."""
        params = [p for p in group["params"] if p.grad is not None]
        if not params:
            return None
        rule = self.rule(group)
        differentiable = group["differentiable"]
        lr = _host(group["lr"], differentiable)
        group["highest_lr"] = max(group["highest_lr"], _double(lr))
        decay = coefficients(
            group["decay"],
            lr=lr,
            weight_decay=_host(group["weight_decay"], differentiable),
            peak_lr=peak_lr(group) if group["decay"] in NEED_PEAK else None,
        )
        grads = [self._usable(p.grad, rule, group) for p in params]
        return _Plan(group, rule, params, grads, lr, decay)

    def _usable(self, grad: Tensor, rule: Rule, group: dict[str, Any]) -> Tensor:
        """The gradient as the engines take it: dense, or sparse where the rule allows it."""
        if not grad.is_sparse:
            return grad.resolve_conj()  # autograd conjugates lazily, view_as_real wants it done
        name = type(self).__name__
        if not rule.zero_at_zero:
            if rule.name in {"heavy_ball", "nesterov"}:  # momentum moves every row anyway
                return grad.to_dense()
            raise RuntimeError(
                f"{name} does not support sparse gradients, please consider SparseAdam instead, "
                "or a layer with sparse=False"
            )
        if group["differentiable"]:
            return grad.to_dense()
        if group["decay"] == "l2" and group["weight_decay"] != 0:
            raise RuntimeError(
                "weight_decay option is not compatible with sparse gradients: "
                f"L2 gives every row a gradient; {name}(..., decay='decoupled') decays without one"
            )
        return grad

    def _updates(self, plan: _Plan, grad_scale: float) -> Iterator[Update]:
        """The plan's parameters, in lots that share every host number (normally one lot)."""
        group, rule = plan.group, plan.rule
        differentiable = group["differentiable"]
        hyper = {name: _host(group[name], differentiable) for name in rule.hyper}
        lots: dict[Any, list[int]] = {}
        states, steps = self._advance_states(plan.params, group, rule)
        for index, (state, t) in enumerate(zip(states, steps, strict=True)):
            carried = tuple(float(state[name]) for name in rule.carried)
            lots.setdefault((t, carried), []).append(index)
        for (t, carried), members in lots.items():
            scalars, renewed = rule.host(t, hyper, dict(zip(rule.carried, carried, strict=True)))
            lot = [states[index] for index in members]
            for name, value in renewed.items():
                for state in lot:
                    state[name].fill_(_double(value))
            yield Update(
                rule=rule,
                thetas=[plan.params[index] for index in members],
                grads=[plan.grads[index] for index in members],
                states=lot,
                scalars=scalars,
                decay=plan.decay,
                eta=plan.lr,
                grad_scale=-grad_scale if group["maximize"] else grad_scale,
                differentiable=differentiable,
                foreach=group.get("foreach"),
            )

    def _advance_states(
        self, params: list[Tensor], group: dict[str, Any], rule: Rule
    ) -> tuple[list[dict[str, Any]], list[int]]:
        """Each parameter's state with every slot present, and t, the number of this step."""
        if not rule.slots and not rule.counts_steps:
            return [{} for _ in params], [2] * len(params)  # nothing to keep; torch keeps no entry either
        fresh = [self._fill_state(p, group, rule) for p in params]
        states = [self.state[p] for p in params]
        if not rule.counts_steps:
            return states, [1 if is_fresh else 2 for is_fresh in fresh]
        counters = [state["step"] for state in states]
        torch._foreach_add_(counters, 1)
        return states, [int(counter) for counter in counters]

    def _fill_state(self, p: Tensor, group: dict[str, Any], rule: Rule) -> bool:
        """Make what is missing, under torch's names; whether anything was."""
        state = self.state[p]
        fresh = False
        if rule.counts_steps and "step" not in state:
            state["step"] = torch.zeros((), dtype=_scalar_dtype(), device="cpu")
        for name, value in rule.carried.items():
            if name not in state:
                state[name] = torch.tensor(value, dtype=torch.float64, device="cpu")
        for letter, key in rule.slots.items():
            if state.get(key) is None:
                value = group[rule.initial[letter]] if letter in rule.initial else 0.0
                fill = complex(value, value) if p.is_complex() else value
                state[key] = torch.full_like(p, fill, memory_format=torch.preserve_format)
                fresh = True
        return fresh

    def state_dict(self) -> dict[str, Any]:
        """torch's state dict; the groups also hold what torch has no place for."""
        for group in self.param_groups:
            group["skipped_steps"] = self.skipped_steps
            self._name_mode(group)
        return super().state_dict()

    def load_state_dict(
        self, state_dict: dict[str, Any], *, decay: Literal["match", "saved", "live"] = "match"
    ) -> None:
        """Load a state dict of this class or of torch's class of the same rule.

        Parameters are matched by name where both sides have names, in any order, and by position otherwise.
        The state keeps the dtype in which it was saved.

        Args:
            state_dict: what ``state_dict()`` gave, here or in torch.optim.
            decay: what to do where the checkpoint's decay mode is not the optimizer's: ``"match"`` raises,
                ``"saved"`` adopts the checkpoint's mode, ``"live"`` keeps the optimizer's mode and its λ.

        Raises:
            ValueError: another decay mode, a missing or foreign name, another shape, another rule's state.
        """
        checkpoint.load(self, state_dict, decay=decay)

    def __getstate__(self) -> dict[str, Any]:
        own = ("max_norm", "on_nonfinite", "skipped_steps", "last_norm")
        return {**super().__getstate__(), **{name: getattr(self, name) for name in own}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            for name, default in self.defaults.items():
                group.setdefault(name, default)
            group.setdefault("constructed_lr", _double(group["lr"]))
            group.setdefault("highest_lr", 0.0)
            self._name_mode(group)
        for entry in self.state.values():
            for name in ("step", "mu_product"):  # plain numbers in old checkpoints
                if isinstance(entry, dict) and name in entry and not isinstance(entry[name], Tensor):
                    entry[name] = torch.tensor(float(entry[name]), dtype=_scalar_dtype())

    def _check_tensors(self, options: dict[str, Any]) -> None:
        """Hyperparameters given as tensors, in torch's words."""
        betas = options.get("betas", ())
        betas = betas if isinstance(betas, tuple | list) else ()
        if len({isinstance(beta, Tensor) for beta in betas}) > 1:
            raise ValueError(f"betas must be either both floats or both Tensors, got {betas}")
        host_only = self.foreach_refuses_tensors and options["foreach"] and not options["capturable"]
        named = {"lr": options["lr"], "weight_decay": options["weight_decay"]}
        named |= {f"betas[{index}]": beta for index, beta in enumerate(betas)}
        for name, value in named.items():
            if isinstance(value, Tensor):
                if value.numel() != 1:
                    raise ValueError(f"Tensor {name} must be 1-element, got shape {tuple(value.shape)}")
                if host_only and name != "weight_decay":
                    raise ValueError(
                        f"{name} as a Tensor is not supported for capturable=False and foreach=True"
                    )

    def _name_mode(self, group: dict[str, Any]) -> None:
        """Keep torch's own flag true to the mode, where torch's class has one."""
        if "decoupled_weight_decay" in self.defaults:
            group["decoupled_weight_decay"] = group["decay"] == "decoupled"


def _check_guard(on_nonfinite: str) -> None:
    if on_nonfinite not in get_args(OnNonfinite):
        choices = ", ".join(get_args(OnNonfinite))
        raise ValueError(f"Invalid on_nonfinite: {on_nonfinite!r}; choose one of {choices}")


def _settle_mode(options: dict[str, Any]) -> None:
    """``decay`` from torch's flag where only that is given."""
    flag, mode = options.get("decoupled_weight_decay"), options.get("decay")
    if mode is None and flag is not None:
        options["decay"] = "decoupled" if flag else "l2"
    elif flag and mode != "decoupled":
        raise ValueError(f"decoupled_weight_decay=True contradicts decay={mode!r}; give decay alone")


def _host(value: Any, differentiable: bool) -> Any:
    """A double, or a tensor without dimensions where gradients are to flow through it."""
    if isinstance(value, tuple | list):
        return tuple(_host(item, differentiable) for item in value)
    if isinstance(value, Tensor):
        return value.reshape(()) if differentiable else value.item()
    return value


def _double(value: Any) -> float:
    """The number alone, whether or not gradients flow through the tensor that holds it."""
    return float(value.detach() if isinstance(value, Tensor) else value)


def _scalar_dtype() -> torch.dtype:
    """torch keeps ``step`` in float32, which counts exactly up to 2²⁴, unless the default is float64."""
    return torch.float64 if torch.get_default_dtype() == torch.float64 else torch.float32


def _check_flags(name: str, defaults: dict[str, Any]) -> None:
    """torch's execution flags: each means something here or says that it does not."""
    if defaults["foreach"] and defaults["differentiable"]:
        raise RuntimeError("`foreach` and `differentiable` cannot be `True` together.")
    if defaults.get("fused"):
        if defaults["differentiable"]:
            raise RuntimeError("`fused` does not support `differentiable`")
        if defaults.get("foreach"):
            raise RuntimeError("`fused` and `foreach` cannot be `True` together.")
    for flag, meaning in {
        "fused": "no fused kernel for this device yet; the generic engine gives the same numbers",
        "capturable": "step() reads its scalars on the host and cannot be captured in a CUDA graph; "
        "outside of one it gives the same numbers",
    }.items():
        if defaults.get(flag):
            warnings.warn(f"{name}({flag}=True): {meaning}", UserWarning, stacklevel=4)
