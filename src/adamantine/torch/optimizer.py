"""The base of every adamantine optimizer: a real ``torch.optim.Optimizer`` around a rule and a decay mode."""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal, overload

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from adamantine.rules import Rule
from adamantine.rules.hyper import check
from adamantine.torch import buffers, checkpoint, memory, states
from adamantine.torch.engines.contract import Update
from adamantine.torch.engines.explain import Explanation, explain, name_parameters
from adamantine.torch.engines.generic import GENERIC
from adamantine.torch.engines.native import NativeEngine, engine_of
from adamantine.torch.hooked import has_hooks, step_with_hooks
from adamantine.torch.kernel import MISSING
from adamantine.torch.kernel import native as kernel
from adamantine.torch.memory import MemoryReport
from adamantine.torch.norm import GradientStatistics, Squares, clip_factor, nonfinite_error, squares, total
from adamantine.torch.offload.offloaded import Offloaded
from adamantine.torch.options import (
    EngineName,
    OnNonfinite,
    StateOption,
    WeightsFormat,
    check_choice,
    check_flags,
    check_formats,
    check_offload,
    check_seed,
    check_state_keys,
    check_tensors,
    flags_without_effect,
    settle_mode,
)
from adamantine.torch.plan import Plan, double, native_row, plan_of
from adamantine.torch.storage import layout as storage
from adamantine.torch.storage import recode
from adamantine.torch.storage.change import StorageChange
from adamantine.torch.storage.checks import check_kept, check_storable

if TYPE_CHECKING:
    from torch.amp.grad_scaler import GradScaler

    from adamantine.torch.offload.release import HostRelease
    from adamantine.torch.release.buffers import Buffer
    from adamantine.torch.release.clipping import Clip
    from adamantine.torch.release.handle import GradientRelease

#: Arguments of every class that are no group's.
_FOR_ALL_GROUPS = ("max_norm", "on_nonfinite", "engine", "seed", "offload")


class Optimizer(torch.optim.Optimizer):
    """Common ground: groups, state, clipping, guards. A subclass names its rule and its signature.

    Beside torch's keys, a group holds ``decay`` (the mode), ``peak_lr`` (η_max as stated by the user, or None
    to have it tracked), ``constructed_lr`` and ``highest_lr`` (what the tracking knows).

    Attributes:
        max_norm: clip the global gradient norm inside the step, or None. May be assigned between steps.
        on_nonfinite: what a step with an infinite or NaN gradient does.
        engine: ``"auto"``, ``"native"`` or ``"generic"``; may be assigned between steps. `explain` says what
            runs where.
        seed: of the rounding; parameters that take their first step later start from it.
        offload: whether weights and state are kept, and stepped, on the host (docs/offload.md).
        skipped_steps: how many steps ``on_nonfinite="skip"`` has left out; kept in the state dict.
        last_norm: global norm before clipping, of the last step with ``max_norm`` or a guard; None before.
    """

    #: The mode that a checkpoint is taken for which does not say (torch's class of this name has this one).
    foreign_decay: ClassVar[str] = "l2"
    #: Whether torch's class of this name refuses tensor hyperparameters under ``foreach=True``.
    foreach_refuses_tensors: ClassVar[bool] = False

    def __init__(self, params: ParamsT, options: dict[str, Any]) -> None:
        """``options``: the subclass's arguments by name; all but `_FOR_ALL_GROUPS` become group defaults."""
        max_norm, on_nonfinite, engine, seed, offload = (options.pop(name) for name in _FOR_ALL_GROUPS)
        settle_mode(options)
        self._check_options(options)
        check({"max_norm": max_norm})
        check_choice("on_nonfinite", on_nonfinite, OnNonfinite)
        check_choice("engine", engine, EngineName)
        check_flags(options, engine)
        if options["differentiable"] and (max_norm is not None or on_nonfinite != "ignore"):
            raise ValueError(
                "max_norm and on_nonfinite are decided on the host and would cut the graph of "
                "differentiable=True; clip with differentiable operations before the step instead"
            )
        self.max_norm: float | None = max_norm
        self.on_nonfinite: OnNonfinite = on_nonfinite
        self.engine: EngineName = engine
        self.seed = check_seed(seed)
        self.offload = check_offload(offload)
        self._offloaded = Offloaded() if self.offload else None
        self.skipped_steps = 0
        self.last_norm: float | None = None
        self._native: NativeEngine | None = None
        self._zeroing = buffers.GradientZeroing()
        self._laid_out: int | None = None  # the epoch of flat buffers for which the state was arranged
        self._measured: Callable[[], list[tuple[Tensor, Squares]]] | None = None
        self._release: GradientRelease | HostRelease | None = None
        super().__init__(params, options)
        self._warn_of_flags()

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
            for name in set(_FOR_ALL_GROUPS) & set(param_group):
                raise ValueError(
                    f"{name} is for all groups together; give it to the optimizer, not to a group"
                )
            settle_mode(param_group)
            options = {**self.defaults, **param_group}
            self._check_options(options)
            if isinstance(options["state"], dict):
                param_group["state"] = options["state"]  # its own, and a dict, whatever mapping was given
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            if self._offloaded is not None:
                self._offloaded.adopt(self, group)
            self._check_storable(group)
        except ValueError:
            self.param_groups.pop()
            raise
        group["constructed_lr"] = double(group["lr"])
        group.setdefault("highest_lr", 0.0)
        self._name_mode(group)

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step of every parameter that has a gradient.

        Args:
            closure: re-evaluates the model, calls ``backward`` and returns the loss, which is returned.

        Raises:
            FloatingPointError: a gradient is not finite and ``on_nonfinite="raise"``; nothing has moved.
            RuntimeError: a sparse gradient that this rule cannot use; or, with ``engine="native"``, a
                parameter that the kernel cannot take. Nothing has moved.
        """
        if torch.compiler.is_compiling():
            return self._step_untraced(closure)
        if type(self).step is not Optimizer.step:  # a subclass's own: torch's wrapper is around that
            return self._step(closure)
        if torch._C._autograd._profiler_enabled():
            return self._step_profiled() if closure is None else self._step_profiled(closure)
        if has_hooks(self):
            return step_with_hooks(Optimizer._step, self, *(() if closure is None else (closure,)))
        return self._step(closure)

    step.hooked = True  # type: ignore[attr-defined]  # torch's wrapper costs as much as a small step

    def _step(self, closure: Callable[[], float] | None = None) -> float | None:
        if self._release is not None:
            return self._release.end_step(closure)
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if self._offloaded is not None:
            self._offloaded.step(self)
            return loss
        if self.engine != "auto":  # it may have been assigned
            check_choice("engine", self.engine, EngineName)
        if self.engine == "generic" or self.defaults["differentiable"] or kernel is None:
            if self.engine == "native":
                raise RuntimeError(f"engine='native': {MISSING}")
            with torch.set_grad_enabled(self.defaults["differentiable"]):
                self._step_generic()
        else:
            with self.native_engine() as engine:
                self._step_native(engine)
        return loss

    _step_untraced = torch._disable_dynamo(_step)  # type: ignore[attr-defined]  # host numbers: nothing to trace
    _step_profiled = torch.optim.Optimizer.profile_hook_step(_step)

    def _step_generic(self) -> None:
        grad_scale = self._grad_scale(None, [p for p in self._parameters() if p.grad is not None])
        if grad_scale is None:
            return
        plans = self._plans(lambda group: group["params"])
        GENERIC.run([update for plan in plans for update in self._updates(plan, grad_scale)])

    def _step_native(self, engine: NativeEngine) -> None:
        """As the generic step: every check before any change. What the kernel refuses, that one takes."""
        rules = [self.rule(group) for group in self.param_groups]
        if self._laid_out != buffers.epoch():
            self._lay_out_state(rules)
        lots, indices, incomplete, overlapping = engine.gather(self.param_groups, rules, self.state)
        refused = self._refused(engine, indices)
        grad_scale = self._grad_scale(engine, [p for plan in refused for p in plan.params])
        if grad_scale is None:
            return
        fresh: set[Tensor] = set()
        if incomplete:
            plans = self._plans(lambda group: group["params"])
            with torch.no_grad():
                for plan in plans:
                    fresh |= self._fill_states(plan.params, plan.group, plan.rule)
                self._lay_out_state(rules)
            lots, indices, _, overlapping = engine.gather(self.param_groups, rules, self.state, fresh)
            refused = self._refused(engine, indices)  # a new state may lie in another order than its θ
        engine.run([native_row(lot, rules[lot[0]], self.param_groups[lot[0]]) for lot in lots], grad_scale)
        if refused:
            with torch.no_grad():
                GENERIC.run(
                    [
                        update
                        for plan in refused
                        for update in self._updates(plan, grad_scale, fresh, alone=overlapping)
                    ]
                )

    def _lay_out_state(self, rules: list[Rule]) -> None:
        """The state of parameters that lie in flat buffers, as flat as they."""
        for group, rule in zip(self.param_groups, rules, strict=True):
            forms = zip(rule.slots.values(), storage.slot_formats(group, rule), strict=True)
            buffers.gather_slots(
                group["params"], self.state, [key for key, (form, _) in forms if form == "dense"]
            )
        self._laid_out = buffers.epoch()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """torch's; gradients in flat buffers (`flatten`) become zero either way, one pass per buffer."""
        if self._release is not None:
            self._release.forget()
        if self._offloaded is not None:
            self._offloaded.forget_gradients()
        if not set_to_none:
            self._zeroing(self._parameters())
        if not set_to_none or torch.compiler.is_compiling():
            super().zero_grad(set_to_none)
        elif torch._C._autograd._profiler_enabled():
            with torch.autograd.profiler.record_function(
                f"Optimizer.zero_grad#{type(self).__name__}.zero_grad"
            ):
                self._drop_gradients()
        else:
            self._drop_gradients()

    def _drop_gradients(self) -> None:
        for p in self._zeroing(self._parameters()):
            p.grad = None

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def _refused(self, engine: NativeEngine, indices: list[int]) -> list[Plan]:
        """The generic engine's part of a native step."""
        if not indices:
            return []
        names = name_parameters(self.param_groups)
        all_params = self._parameters()
        reasons = {names[all_params[index]]: engine.refusal(index) for index in indices}
        if freed := [name for name, reason in reasons.items() if "freed" in reason]:
            raise RuntimeError(
                f"the storage of {', '.join(freed)}, or of its gradient or state, has been freed"
            )
        if self.engine == "native":
            listed = "\n".join(f"  {name}: {reason}" for name, reason in reasons.items())
            raise RuntimeError(
                f"engine='native', but the kernel cannot take every parameter:\n{listed}\n"
                "engine='auto' runs these on the generic engine"
            )
        chosen = {all_params[index] for index in indices}
        return self._plans(lambda group: [p for p in group["params"] if p in chosen])

    def native_engine(self) -> NativeEngine:
        """This optimizer's, made on demand; it takes no part in pickles and copies."""
        return self._native or engine_of(self)

    def explain(self) -> Explanation:
        """Which parameter runs on which engine, and why; ``print`` it. Before or after any step."""
        return explain(self) if self._offloaded is None else self._offloaded.explain(self)

    def release_gradients(
        self,
        clip: Clip = "none",
        *,
        accumulate: int = 1,
        buffer: Buffer = "float32",
        scaler: GradScaler | None = None,
    ) -> GradientRelease | HostRelease:
        """From now on every parameter takes its step inside ``backward``, and its gradient is freed at once.

        The training loop stays as it is: ``step()`` ends the step, with everything that hangs on it. Without
        clipping the bits are those of ordinary steps; docs/release.md says what each ``clip`` gives. With
        ``offload=True`` gradients are freed as soon as they are on the host, and ``step()`` takes the whole
        step: ``max_norm`` is exact without ``clip``, any number of passes is summed (docs/offload.md).

        Args:
            clip: how ``max_norm`` is held. ``"none"``: there is none. ``"two-pass"``: exactly, by
                ``step(closure)``, which calls the closure twice. ``"delayed"``: by the norm of the step
                before, or of what this backward pass has shown so far if that is larger.
                ``"per-parameter"``: each gradient for itself, to max_norm/√n, n parameters.
            accumulate: backward passes per step; ``step()`` after fewer takes what there is.
            buffer: what holds the sum in between: ``"float32"`` (float64 for such parameters);
                ``"bfloat16"``, rounded stochastically; ``"moments"``: the optimizer's own averages, so that
                v averages squares of micro-batches' gradients (AdamA, Zhang et al. 2023, arXiv 2305.19982).
            scaler: the GradScaler in use: gradients are unscaled, and left out where not finite, one by one.

        Returns:
            The handle: ``remove()`` it, or use it in a ``with`` statement.

        Raises:
            ValueError: arguments that exclude each other, or this optimizer or its parameters.
            RuntimeError: a parameter belongs to DistributedDataParallel.

        >>> import torch
        >>> from adamantine.torch import AdamW
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = AdamW(model.parameters(), lr=0.1)
        >>> with optimizer.release_gradients():
        ...     model(torch.ones(1, 2)).sum().backward()
        ...     optimizer.step()
        >>> model.weight.grad is None
        True
        """
        if self._offloaded is not None:
            from adamantine.torch.offload.release import HostRelease

            self._release = HostRelease(self, self._offloaded, clip, accumulate, buffer, scaler)
            return self._release
        from adamantine.torch.release.handle import GradientRelease

        self._release = GradientRelease(self, clip, accumulate, buffer, scaler)
        return self._release

    def _grad_scale(self, engine: NativeEngine | None, others: list[Tensor]) -> float | None:
        """The clipping factor, or None if this step is to be left out.

        The gradients are those that ``engine`` has gathered, and those of ``others``.
        """
        self._measured = None
        if self.max_norm is None and self.on_nonfinite == "ignore":
            return 1.0
        check_choice("on_nonfinite", self.on_nonfinite, OnNonfinite)  # these may have been assigned
        check({"max_norm": self.max_norm})
        norm = self.last_norm = math.sqrt(self._sum_of_squares(engine, others))
        if not math.isfinite(norm) and self.on_nonfinite != "ignore":
            if self.on_nonfinite == "raise":
                raise nonfinite_error(norm, name_parameters(self.param_groups))
            self.skipped_steps += 1
            return None
        return clip_factor(norm, self.max_norm)

    def _sum_of_squares(self, engine: NativeEngine | None, others: list[Tensor]) -> float:
        """Over all gradients in the order of the groups, whichever engine reads them: the same bits."""
        if engine is not None and not others:
            found, self._measured = engine.sum_of_squares()
            return found
        measured = dict(zip(others, squares([p.grad for p in others if p.grad is not None]), strict=True))
        if engine is not None:
            _, statistics = engine.sum_of_squares()
            measured |= dict(statistics())
        ordered = [(p, measured[p]) for p in self._parameters() if p in measured]
        self._measured = lambda: ordered
        return total(each for _, each in ordered)

    def _plans(self, params: Callable[[dict[str, Any]], list[Tensor]]) -> list[Plan]:
        """Of every group, for those of its parameters that ``params`` gives of it. Nothing changes."""
        name = type(self).__name__
        found = [plan_of(group, params(group), self.rule(group), name) for group in self.param_groups]
        plans = [each for each in found if each is not None]
        for plan in plans:
            for p in plan.params:
                check_kept(self.state.get(p, {}), p, plan.rule, plan.formats)
        return plans

    def _updates(
        self, plan: Plan, grad_scale: float, fresh: Iterable[Tensor] = (), *, alone: bool = False
    ) -> Iterator[Update]:
        """The plan as the generic engine takes it, the states complete and counted on.

        ``fresh``: whose state was made for this step; ``alone``: one after the other, none joined.
        """
        rule, params = plan.rule, plan.params
        if not rule.slots and not rule.counts_steps and all(map(plan.formats.is_plain, params)):
            entries: list[dict[str, Any]] = [{} for _ in params]  # torch keeps no entry either
        else:
            fresh = self._fill_states(params, plan.group, rule) | set(fresh)
            entries = [self.state[p] for p in params]
        steps = states.advance(entries, rule, [p in fresh for p in params])
        return plan.updates(entries, steps, grad_scale, alone=alone)

    def _fill_states(self, params: Iterable[Tensor], group: dict[str, Any], rule: Rule) -> set[Tensor]:
        """Make what is missing of these parameters' state; of which of them slots were."""
        positions: dict[Tensor, int] = {}

        def position(p: Tensor) -> int:
            if not positions:
                positions.update({q: place for place, q in enumerate(self._parameters())})
            return positions[p]

        return states.fill(self.state, params, group, rule, position, self.seed)

    def _check_storable(self, group: dict[str, Any]) -> None:
        """ValueError where a parameter of this group cannot be stored as the group says."""
        rule = self.rule(group)
        check_state_keys(group["state"], list(rule.slots.values()), f"{type(self).__name__} ({rule.name})")
        formats = storage.formats(group, rule)
        names = group.get("param_names")
        for index, p in enumerate(group["params"]):
            name = names[index] if names else f"parameter {index} of group {len(self.param_groups) - 1}"
            check_storable(p, name, formats)

    def state_dict(self) -> dict[str, Any]:
        """torch's state dict; the groups also hold what torch has no place for."""
        if self._release is not None:
            self._release.before_saving()
        for group in self.param_groups:
            group["skipped_steps"] = self.skipped_steps
            self._name_mode(group)
        return super().state_dict()

    def load_state_dict(  # type: ignore[override]  # torch's returns nothing
        self,
        state_dict: dict[str, Any],
        *,
        decay: Literal["match", "saved", "live"] = "match",
        state: Literal["saved", "live"] = "saved",
    ) -> StorageChange | None:
        """Load a state dict of this class or of torch's class of the same rule.

        Parameters are matched by name where both sides have names, in any order, and by position otherwise.

        Args:
            state_dict: what ``state_dict()`` gave, here or in torch.optim.
            decay: what to do where the checkpoint's decay mode is not the optimizer's: ``"match"`` raises,
                ``"saved"`` adopts the checkpoint's mode, ``"live"`` keeps the optimizer's mode and its λ.
            state: ``"saved"`` keeps the formats of the checkpoint, with a warning where the constructor asked
                for others; a checkpoint that does not say (torch.optim's) is put into those that the
                constructor asked for, with a warning that tells the loss. ``"live"`` puts the state into the
                optimizer's formats (None: the parameter's dtype), and the weights likewise, but for a
                residual that would become one of another kind: `store_as` does that, once the parameters
                are loaded.

        Returns:
            What was put into another format, and the loss as measured; None where nothing was.

        Raises:
            ValueError: another decay mode, a missing or foreign name, another shape, another rule's state; a
                format that these parameters cannot have, codes that do not fit. Nothing has changed.
        """
        change = checkpoint.load(self, state_dict, decay=decay, state=state)
        if self._release is not None:
            self._release.follow_load()
        return change

    def store_as(
        self,
        *,
        state: StateOption | Literal["unchanged"] = "unchanged",
        weights: WeightsFormat | Literal["unchanged"] | None = "unchanged",
    ) -> StorageChange:
        """Put the state, or the weights, of all groups into other formats, now and from now on.

        Rounded to nearest. Parameters stay as they are, but that a master weight in the middle of two
        bfloat16 numbers may have the other one as its parameter afterwards.

        Args:
            state: as in the constructor.
            weights: likewise.

        Returns:
            Bytes before and after, and the loss as measured, per slot; ``print`` it.

        Raises:
            ValueError: no such format, or one that a parameter cannot have. Nothing has changed.

        >>> import torch
        >>> from adamantine.torch import AdamW
        >>> w = torch.nn.Parameter(torch.zeros(256))
        >>> w.grad = torch.linspace(-1, 1, 256)
        >>> optimizer = AdamW([w])
        >>> optimizer.step()
        >>> change = optimizer.store_as(state="8bit")
        >>> [(each.slot, each.bytes_before, each.bytes_after) for each in change.slots]
        [('exp_avg', 1024, 264), ('exp_avg_sq', 1024, 264)]
        >>> optimizer.store_as(state="float32").is_exact
        True
        """
        if self._offloaded is not None:
            with self._offloaded.on_host(self) as host:
                return recode.store_as(host, state=state, weights=weights)
        return recode.store_as(self, state=state, weights=weights)

    def memory_report(self) -> MemoryReport:
        """Bytes of weights, gradients and state per parameter and in all; ``print`` it.

        Predicted for after the first step, from shapes and options alone, and what is there now.
        """
        return memory.report(self)

    def __getstate__(self) -> dict[str, Any]:
        own = (*_FOR_ALL_GROUPS, "skipped_steps", "last_norm")
        return {**super().__getstate__(), **{name: getattr(self, name) for name in own}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.__dict__.setdefault("seed", 0)  # pickles from before there were formats
        self.__dict__.setdefault("offload", False)
        self.defaults.setdefault("weights", None)
        self.__dict__.setdefault("_offloaded", Offloaded() if self.offload else None)
        self.__dict__.setdefault("_release", None)  # of a copy; loading a state dict leaves it on
        self._native = self._measured = self._laid_out = None
        self._zeroing = buffers.GradientZeroing()
        for group in self.param_groups:
            for name, default in self.defaults.items():
                group.setdefault(name, default)
            group.setdefault("constructed_lr", double(group["lr"]))
            group.setdefault("highest_lr", 0.0)
            self._name_mode(group)
        for entry in self.state.values():
            for name in ("step", "mu_product"):  # plain numbers in old checkpoints
                if isinstance(entry, dict) and name in entry and not isinstance(entry[name], Tensor):
                    entry[name] = torch.tensor(float(entry[name]), dtype=states.scalar_dtype())

    def _check_options(self, options: dict[str, Any]) -> None:
        check_tensors(options, self.foreach_refuses_tensors)
        check_formats(options)
        check(options)

    def _warn_of_flags(self) -> None:
        """torch's flags that are accepted and change nothing, which is to be known."""
        on_host = all(p.device.type == "cpu" for p in self._parameters())
        has_kernel = on_host and self.engine != "generic" and kernel is not None
        for flag, reason in flags_without_effect(self.defaults, has_kernel).items():
            warnings.warn(f"{type(self).__name__}({flag}=True): {reason}", UserWarning, stacklevel=4)

    def gradient_statistics(self) -> list[GradientStatistics]:
        """Norm and largest magnitude of each gradient, from the last step's one read of them.

        Empty unless that step clipped or guarded (``max_norm``, ``on_nonfinite``). Before clipping.
        """
        measured = self._measured() if self._measured else []
        names = name_parameters(self.param_groups)
        return [GradientStatistics(names[p], math.sqrt(each.sum), each.largest) for p, each in measured]

    def _name_mode(self, group: dict[str, Any]) -> None:
        """Keep torch's own flag true to the mode, where torch's class has one."""
        if "decoupled_weight_decay" in self.defaults:
            group["decoupled_weight_decay"] = group["decay"] == "decoupled"
