"""One parameter's step, by an optimizer of its own over the state and the groups of the whole one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from typing import Any, Literal

from torch import Tensor

from adamantine.rules import Rule
from adamantine.torch.engines.native import NativeEngine
from adamantine.torch.optimizer import Optimizer
from adamantine.torch.release.judge import Judge

#: ``step``: the whole step. The others share one between micro-batches, for accumulation into the moments:
#: ``open`` decays them and takes the first gradient in, ``collect`` takes one more in, ``close`` takes the
#: last one in and moves θ.
Role = Literal["step", "open", "collect", "close"]

#: What the rules that may accumulate so call the decay of their averages.
_DECAYS = ("beta1", "beta2", "mu")

#: Group options under which a step leaves θ where it is.
_STILL = {"lr": 0.0, "weight_decay": 0.0}


class Part(Optimizer):
    """The step of one parameter: one call of the kernel, on a table that no other parameter can disturb.

    Args:
        whole: the optimizer; its state and its group's options are read anew at every step.
        number: of the group.
        p: the parameter.
        name: what messages call it.
        role: which share of a step this takes.
        judge: gives the factor.
    """

    def __init__(
        self,
        whole: Optimizer,
        number: int,
        p: Tensor,
        name: str,
        *,
        role: Role,
        judge: Judge,
    ) -> None:
        self._whole, self.number, self._p, self._name = whole, number, p, name
        self._role, self._judge = role, judge
        self._alone = [p]  # one list for good, by which the kernel's table knows that it is current
        view = {**whole.param_groups[number], "params": self._alone}
        own = {"param_groups": [view], "state": defaultdict(dict)}
        self.__setstate__({**whole.__getstate__(), **own})  # as a copy is made; hooks are the whole's

    def rule(self, group: dict[str, Any]) -> Rule:
        return _share(self._whole.rule(group), self._role)

    def move(self) -> None:
        """Step with ``p.grad``, which stays."""
        whole = self._whole
        group, view = whole.param_groups[self.number], self.param_groups[0]
        view.update(group, params=self._alone, param_names=[self._name])
        moves = self._role in {"step", "close"}
        if not moves:
            view.update(_STILL)
        self.engine, self.seed = whole.engine, whole.seed
        self._follow()
        self._step()
        if moves:
            group["highest_lr"] = view["highest_lr"]

    def _follow(self) -> None:
        """The whole's state of p, which loading replaces and a first step makes."""
        kept = self._whole.state.get(self._p)
        if kept is None:
            self.state.pop(self._p, None)
        elif self.state.get(self._p) is not kept:
            self.state[self._p] = kept

    def _fill_states(self, params: Iterable[Tensor], group: dict[str, Any], rule: Rule) -> set[Tensor]:
        fresh = self._whole._fill_states(params, group, rule)  # keys to round by go by the place among all
        self._follow()
        return fresh

    def _grad_scale(self, engine: NativeEngine | None, others: list[Tensor]) -> float | None:
        if not self._judge.measures():
            return 1.0
        self._sum_of_squares(engine, others)
        assert self._measured is not None
        [(p, found)] = self._measured()
        return self._judge.factor(p, found)


@cache
def part_class(name: str) -> type[Part]:
    """`Part` by the name of the whole's class, by which errors call an optimizer."""
    return type(name, (Part,), {})


@cache
def _share(rule: Rule, role: Role) -> Rule:
    """The rule with one share of a step: averages that have decayed in this step do not decay again."""
    if role == "step":
        return rule

    def scalars(t: int, **hyper: Any) -> dict[str, Any]:
        found = rule.scalars(t, **hyper)
        if role == "open":
            return found
        return found | {name: 1.0 for name in _DECAYS if name in found}

    return replace(rule, scalars=scalars, counts_steps=rule.counts_steps and role == "close")
