"""The parameters whose gradients are released: their hooks, and where each is within the step."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from adamantine.rules import Rule
from adamantine.torch.engines.explain import name_parameters
from adamantine.torch.release.buffers import Buffer, Sum
from adamantine.torch.release.checks import check_group
from adamantine.torch.release.part import Part, Role

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle

    from adamantine.torch.optimizer import Optimizer


class Owner(Protocol):
    """Who is told that a gradient is complete."""

    def arrive(self, p: Tensor) -> None: ...


class Member:
    """One parameter.

    Attributes:
        name: what messages call it.
        number: of its group.
        position: its place among all parameters of the optimizer.
        parts: what takes its steps.
        is_new: whether no step has begun with it.
        waits: whether its state was made ahead of its first gradient, which has not arrived.
        arrived: how many backward passes have completed its gradient since the last step.
        done: whether it has taken this step.
        sum: of the gradients that have arrived, or None.
        in_moments: whether they are in the optimizer's averages instead.
    """

    def __init__(self, p: Tensor, name: str, handle: RemovableHandle) -> None:
        self.p, self.name, self.handle = p, name, handle
        self.number = self.position = 0
        self.parts: dict[Role, Part] = {}
        self.is_new, self.waits = True, False
        self.begin()

    def begin(self) -> None:
        """Another step."""
        self.arrived = 0
        self.done = False
        self.sum: Sum | None = None
        self.in_moments = False


class Members:
    """All of one optimizer; iterable in the order in which they came.

    Args:
        optimizer: whose parameters they are.
        owner: is told; weakly, so that the hooks of an optimizer that is no more do nothing.
        buffer: what the groups have to be fit for.
    """

    def __init__(self, optimizer: Optimizer, owner: Owner, buffer: Buffer) -> None:
        self._optimizer, self._owner, self._buffer = optimizer, weakref.ref(owner), buffer
        self._members: dict[Tensor, Member] = {}
        self.follow()

    def __iter__(self) -> Iterator[Member]:
        return iter(list(self._members.values()))

    def get(self, p: Tensor) -> Member | None:
        """None if p is not the optimizer's, or cannot be trained."""
        return self._members.get(p)

    def follow(self) -> None:
        """Hooks on what can be trained and has none; off what has left the optimizer."""
        groups = self._optimizer.param_groups
        names = name_parameters(groups)
        for group in groups:
            is_new = any(p.requires_grad and p not in self._members for p in group["params"])
            if is_new or self._buffer == "moments":  # which is not for every value of the group's options
                check_group(self._optimizer, group, self._buffer)
        position = 0
        for number, group in enumerate(groups):
            for p in group["params"]:
                if p.requires_grad and p not in self._members:
                    handle = p.register_post_accumulate_grad_hook(_hook(self._owner, names[p]))
                    self._members[p] = Member(p, names[p], handle)
                if p in self._members:
                    self._members[p].number, self._members[p].position = number, position
                position += 1
        for p in set(self._members) - set(names):
            self._members.pop(p).handle.remove()

    def in_the_moments(self) -> list[str]:
        """Names of those whose averages hold part of a step."""
        return [member.name for member in self if member.in_moments and not member.done]

    def make_states(self) -> None:
        """The state of all newcomers that have none, at once.

        Made one by one, between gradients that come and go, it would leave holes of their sizes in the heap:
        with glibc's allocator, memory for all gradients after all.
        """
        for number, group in enumerate(self._optimizer.param_groups):
            newcomers = [member for member in self if member.number == number and member.is_new]
            for member in newcomers:
                member.is_new = False
            rule = self._optimizer.rule(group)
            if not rule.slots or not _starts_as_any(rule, group):
                continue
            without = [member for member in newcomers if not self._optimizer.state.get(member.p)]
            self._optimizer._fill_states([member.p for member in without], group, rule)
            for member in without:
                member.waits = True

    def drop_unused_states(self) -> None:
        """Of parameters that had no gradient in their first step: an ordinary step makes none."""
        for member in self:
            if member.waits:
                self._optimizer.state.pop(member.p, None)
                member.waits = False

    def leave(self) -> None:
        """No hooks any more."""
        for member in self:
            member.handle.remove()
        self._members.clear()


def _starts_as_any(rule: Rule, group: dict[str, Any]) -> bool:
    """Whether the first step is known by its number, or no other than the rest; not by slots made for it."""
    if rule.counts_steps:
        return True
    hyper = {name: group[name] for name in rule.hyper}
    return bool(rule.scalars(1, **hyper) == rule.scalars(2, **hyper))


def _hook(owner: Any, name: str) -> Callable[[Tensor], None]:
    def hook(p: Tensor) -> None:
        alive = owner()
        if alive is None:
            return
        if p.grad is None:
            raise RuntimeError(
                f"the gradient of {name} is gone before its step: another optimizer or hook has released it. "
                "remove() one of them"
            )
        alive.arrive(p)

    return hook
