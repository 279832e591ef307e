"""A class under test: how it is constructed and stepped, and how an example writes that down."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch.nn import Parameter

from adamantine.testing.inputs import gradients
from adamantine.testing.oracles import Oracle
from adamantine.testing.outcome import NotApplicable

#: The learning rate and decay that checks use. λ·lr = 0.005 is far above float32's rounding, and its square,
#: which tells decay before the step from decay after it, far above float64's.
LR, WEIGHT_DECAY = 1e-2, 0.5

Make = Callable[..., torch.optim.Optimizer]


@dataclass(frozen=True)
class Needs:
    """What a class asks for before it steps at all; `adapters.py` finds it out or knows it."""

    shape: tuple[int, ...] = (3, 2)
    dtype: torch.dtype = torch.float64
    #: Whether ``step`` must be given a closure.
    closure: bool = False
    #: Whether parameters must come as ``(name, parameter)``.
    named: bool = False
    #: What every group must say beside its parameters.
    group: Mapping[str, Any] = field(default_factory=dict)

    @property
    def words(self) -> tuple[str, ...]:
        """For the table: what is unusual."""
        said = []
        if self.dtype != torch.float64:
            said.append(str(self.dtype).removeprefix("torch."))
        if self.shape != (3, 2):
            said.append(f"weights of {' × '.join(map(str, self.shape))}")
        if self.closure:
            said.append("a closure")
        if self.named:
            said.append("named parameters")
        said += [f"groups with {key}={value}" for key, value in self.group.items()]
        return tuple(said)


@dataclass(frozen=True, eq=False)
class Subject:
    """One optimizer class with the arguments it is always given, and what is expected of it.

    Attributes:
        make: ``make(params, **hyper)``, a class or any factory.
        name: its name in the table; also what the oracle and the promise of its decay are read from.
        hyper: keyword arguments of every construction; a check's own win over them.
        reference: ``"module:Class"``; empty where it cannot be imported.
        oracle: the formula it is compared with; None: none is known, and the check is left out.
        promise: the decay modes of which its name, or its arguments, promise one; empty: they promise none.
        needs: see `Needs`.
    """

    make: Make
    name: str
    hyper: Mapping[str, Any] = field(default_factory=dict)
    reference: str = ""
    oracle: Oracle | None = None
    promise: frozenset[str] = frozenset()
    needs: Needs = field(default_factory=Needs)

    # --- what checks work with ----------------------------------------------------------------------------

    def parameters(
        self, count: int = 2, *, seed: int = 0, dtype: torch.dtype | None = None
    ) -> list[Parameter]:
        """New parameters with the same standard normal values in every call, in float32's numbers."""
        generator = torch.Generator().manual_seed(seed)
        return [
            Parameter(torch.randn(self.needs.shape, generator=generator).to(dtype or self.needs.dtype))
            for _ in range(count)
        ]

    def build(self, params: Iterable[Any], **hyper: Any) -> torch.optim.Optimizer:
        """The optimizer over tensors or groups, ready to step, with torch's random numbers at seed 0.

        Raises:
            NotApplicable: it does not take one of ``hyper``.
        """
        for name in hyper:
            if not self.accepts(name):
                raise NotApplicable(f"takes no {name}")
        # torch.manual_seed would also queue a call with its stack for each device that is not there: a third
        # of the time of a run.
        torch.default_generator.manual_seed(0)
        given = list(params)
        if self.needs.named:
            given = _named(given)
        if self.needs.group:
            groups = given if given and isinstance(given[0], dict) else [{"params": given}]
            given = [{**self.needs.group, **group} for group in groups]
        optimizer = self.make(given, **{**self.hyper, **copy.deepcopy(hyper)})
        if callable(switch := getattr(optimizer, "train", None)):
            switch()
        return optimizer

    def step(self, optimizer: torch.optim.Optimizer, loss: float = 1.0) -> Any:
        """One step on the gradients that are there."""
        if self.needs.closure:
            return optimizer.step(lambda: torch.tensor(loss))  # type: ignore[arg-type, return-value]
        return optimizer.step()

    def run(
        self,
        params: Sequence[Parameter],
        optimizer: torch.optim.Optimizer,
        times: Iterable[int],
        *,
        size: float = 1.0,
    ) -> Sequence[Parameter]:
        """One step per time, with `gradients` of that time."""
        for t in times:
            gradients(params, t, size=size)
            self.step(optimizer)
        return params

    def accepts(self, name: str) -> bool:
        """Whether the constructor takes this keyword, or hands it on to one whose groups then have it."""
        if name in self.signature:
            return True
        if any(p.kind is p.VAR_KEYWORD for p in self.signature.values()):
            return name in self.fresh_group
        return False

    @cached_property
    def signature(self) -> Mapping[str, inspect.Parameter]:
        """Of the constructor."""
        try:
            return inspect.signature(self.make).parameters
        except (TypeError, ValueError):
            return {}

    @cached_property
    def fresh_group(self) -> dict[str, Any]:
        """A group as constructed with `hyper` alone."""
        params = self.parameters()
        group = self.build(params).param_groups[0]
        return {key: value for key, value in group.items() if key != "params"}

    def value_of(self, name: str) -> Any:
        """A hyperparameter as stated to the constructor, else its default, else what a fresh group holds."""
        if name in self.hyper:
            return self.hyper[name]
        if name in self.signature and self.signature[name].default is not inspect.Parameter.empty:
            return self.signature[name].default
        return self.fresh_group.get(name)

    @cached_property
    def no_decay(self) -> dict[str, Any]:
        """The argument that turns the decay off, where there is one."""
        return {"weight_decay": 0.0} if self.accepts("weight_decay") else {}

    @cached_property
    def strong_decay(self) -> dict[str, Any]:
        """The argument for a decay that shows, where there is one."""
        return {"weight_decay": WEIGHT_DECAY} if self.accepts("weight_decay") else {}

    @cached_property
    def lr(self) -> dict[str, Any]:
        """The argument for the lr of the checks, where there is one."""
        return {"lr": LR} if self.accepts("lr") else {}

    @cached_property
    def deterministic(self) -> bool:
        """Whether two runs from one seed of torch's end at the same bits."""
        ends = []
        for _ in range(2):
            params = self.parameters()
            self.run(params, self.build(params, **self.lr, **self.strong_decay), range(4))
            ends.append([p.detach() for p in params])
        return all(torch.equal(a, b) for a, b in zip(*ends, strict=True))

    @cached_property
    def coupled(self) -> bool:
        """Whether a parameter's steps depend on another parameter of its group."""
        ends = []
        for count in (1, 2):
            params = self.parameters(count)
            optimizer = self.build(params, **self.lr)
            for t in range(5):
                gradients(params, t)
                gradients(params[1:], t + 100, size=10.0)
                self.step(optimizer)
            ends.append(params[0])
        return not torch.equal(*ends)

    # --- what examples are written with ---------------------------------------------------------------------

    @property
    def tensor(self) -> str:
        """Code of a tensor of ones that this class takes."""
        dtype = "" if self.needs.dtype == torch.float32 else f", dtype={self.needs.dtype}"
        return f"torch.ones({', '.join(map(str, self.needs.shape))}{dtype})"

    def new(self, *params: str, groups: str = "", name: str = "optimizer", **hyper: Any) -> list[str]:
        """Code that makes the optimizer over these variables."""
        inside = ", ".join(f'("{p}", {p})' if self.needs.named else p for p in params)
        given = "".join(f", {key}={_code(value)}" for key, value in {**self.hyper, **hyper}.items())
        if self.needs.group:
            own = "".join(f', "{key}": {value!r}' for key, value in self.needs.group.items())
            groups = groups.replace("]}", f"]{own}}}") or f'[{{"params": [{inside}]{own}}}]'
        lines = [f"{name} = {self.name}({groups or f'[{inside}]'}{given})"]
        if callable(getattr(self.build(self.parameters()), "train", None)):
            lines.append(f"{name}.train()")
        return lines

    def step_of(self, name: str = "optimizer") -> str:
        """Code of one step."""
        return f"{name}.step(lambda: torch.tensor(1.0))" if self.needs.closure else f"{name}.step()"


def _named(given: list[Any]) -> list[Any]:
    counter = iter(range(1000))

    def pairs(params: Iterable[Any]) -> list[tuple[str, Any]]:
        return [p if isinstance(p, tuple) else (f"weight{next(counter)}", p) for p in params]

    if given and isinstance(given[0], dict):
        return [{**group, "params": pairs(group["params"])} for group in given]
    return pairs(given)


def _code(value: Any) -> str:
    return f"float({str(value)!r})" if value != value else repr(value)
