"""A class under test: how it is constructed and stepped, and how an example writes that down."""

from __future__ import annotations

import copy
import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from adamantine.testing.errors import ConformanceError
from adamantine.testing.oracles import Oracle, oracle_of, promised_decay
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
        torch.manual_seed(0)
        given = list(params)
        if self.needs.named:
            given = _named(given)
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
        torch.manual_seed(0)
        params = self.parameters()
        group = self.make(_named(params) if self.needs.named else params, **self.hyper).param_groups[0]
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
        alone, both = self.parameters(1), self.parameters(2)
        self.run(alone, self.build(alone, **self.lr), range(3))
        self.run(both, self.build(both, **self.lr), range(3))
        return not torch.equal(alone[0], both[0])

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
        lines = [f"{name} = {self.name}({groups or f'[{inside}]'}{given})"]
        if callable(getattr(self.build(self.parameters()), "train", None)):
            lines.append(f"{name}.train()")
        return lines

    def step_of(self, name: str = "optimizer") -> str:
        """Code of one step."""
        return f"{name}.step(lambda: torch.tensor(1.0))" if self.needs.closure else f"{name}.step()"


def subject(target: Any, *, hyper: Mapping[str, Any] | None = None, name: str = "") -> Subject:
    """The subject of a class, a factory, a `functools.partial` of one, or ``"module:Class"``.

    Args:
        target: see above; a `Subject` is returned as it is.
        hyper: keyword arguments to construct it with, always.
        name: instead of the class's own, which the oracle is chosen by.

    Raises:
        ConformanceError: it cannot be imported, is not callable, or does not step in any way that is known.
    """
    from adamantine.testing.adapters import adapted

    if isinstance(target, Subject):
        return target
    make = load(target) if isinstance(target, str) else target
    given = dict(hyper or {})
    while isinstance(make, partial):
        given = {**make.keywords, **given}
        make = make.func
    if not callable(make):
        raise ConformanceError(f"{target!r} is not an optimizer class; give module:Class")
    own = getattr(make, "__name__", type(make).__name__)
    called = name or own
    return adapted(
        Subject(
            make=make,
            name=called,
            hyper=given,
            reference=target if isinstance(target, str) else _reference(make),
            oracle=oracle_of(called),
            promise=promised_decay(called, given),
        )
    )


def load(reference: str) -> Any:
    """The object that ``module:attribute.path`` names.

    >>> load("torch.optim:AdamW").__name__
    'AdamW'
    """
    module, colon, path = reference.partition(":")
    if not colon or not module or not path:
        raise ConformanceError(f"{reference!r}: give an optimizer as module:Class, such as torch.optim:AdamW")
    try:
        found: Any = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except ModuleNotFoundError as error:
        raise ConformanceError(
            f"{reference}: there is no module {error.name!r} here; install its package"
        ) from error
    except AttributeError as error:
        raise ConformanceError(f"{reference}: {error}; look up the class's name there") from error
    except Exception as error:  # whatever a foreign package does while it is imported
        raise ConformanceError(f"{reference}: importing raises {type(error).__name__}: {error}") from error
    return found


def gradients(params: Iterable[Tensor], t: int, *, size: float = 1.0) -> None:
    """Sets the gradients of time ``t``: of either sign, ½ to 1½ of ``size``, the same at every call."""
    for index, p in enumerate(params):
        generator = torch.Generator().manual_seed(1000 * (t + 1) + index)
        noise = torch.rand(p.shape, generator=generator) * 2 - 1
        p.grad = (size * (noise + 0.5 * torch.where(noise >= 0, 1.0, -1.0))).to(p.dtype)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """As torch's schedulers do it: into the tensor, where lr is one.

    Raises:
        NotApplicable: a group has no lr.
    """
    for group in optimizer.param_groups:
        if "lr" not in group:
            raise NotApplicable("its groups have no lr")
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr


def _named(given: list[Any]) -> list[Any]:
    counter = iter(range(1000))

    def pairs(params: Iterable[Any]) -> list[tuple[str, Any]]:
        return [p if isinstance(p, tuple) else (f"weight{next(counter)}", p) for p in params]

    if given and isinstance(given[0], dict):
        return [{**group, "params": pairs(group["params"])} for group in given]
    return pairs(given)


def _reference(make: Any) -> str:
    module, name = getattr(make, "__module__", ""), getattr(make, "__qualname__", "")
    if not module or module == "__main__" or "<" in name:
        return ""
    try:
        return f"{module}:{name}" if load(f"{module}:{name}") is make else ""
    except ConformanceError:
        return ""


def _code(value: Any) -> str:
    return f"float({str(value)!r})" if value != value else repr(value)
