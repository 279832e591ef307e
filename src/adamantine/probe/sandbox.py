"""Another optimizer of the same kind over other tensors, without touching the one that trains."""

from __future__ import annotations

import copy
import inspect
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from adamantine.probe.errors import ProbeError
from adamantine.probe.quiet import undisturbed
from adamantine.probe.stepping import make_ready, take_step

#: Names under which groups keep λ, the usual one first.
DECAY_KEYS = ("weight_decay", "wd")


class Factory(Protocol):
    """Makes an optimizer over ``tensors``; overrides (``lr``, ``weight_decay``) go before its own values."""

    def __call__(self, tensors: Sequence[Tensor], **overrides: Any) -> torch.optim.Optimizer:
        """A fresh optimizer with one group."""
        ...


def like(
    optimizer: torch.optim.Optimizer, group: dict[str, Any], *, shape: tuple[int, ...] = (8, 8)
) -> Factory:
    """A factory of optimizers of this class with this group's hyperparameters as they are now.

    Four ways are tried in turn, and the first whose product steps is taken:

    1. the class's constructor, with the group's values (and plain attributes of the optimizer) for the
       arguments that it names, and the rest of the group written beside them;
    2. the same without that rest, for groups that count steps and expect the state of step 1000;
    3. a copy of the optimizer in which every reference to its parameters leads to the new tensors and the
       state is empty;
    4. the same with state of the same names, filled with zeros, for classes that make state at construction.

    The optimizer, its state, its hooks and its parameters are left as they are.

    Args:
        optimizer: any optimizer.
        group: one of its ``param_groups``.
        shape: of the tensor on which a way has to prove itself.

    Raises:
        ProbeError: none of the ways makes an optimizer that steps; the message says why.

    >>> import torch
    >>> w = torch.nn.Parameter(torch.ones(3))
    >>> optimizer = torch.optim.AdamW([w], lr=0.5, weight_decay=0.5)
    >>> again = like(optimizer, optimizer.param_groups[0])
    >>> clone = torch.ones(2, requires_grad=True)
    >>> clone.grad = torch.zeros(2)
    >>> again([clone], weight_decay=1.0).step()
    >>> clone.tolist(), w.tolist()
    ([0.5, 0.5], [1.0, 1.0, 1.0])
    """
    reasons = []
    for way in (_constructed, _constructed_afresh, _copied, _copied_with_state):

        def factory(
            tensors: Sequence[Tensor], *, _way: Callable[..., Any] = way, **overrides: Any
        ) -> torch.optim.Optimizer:
            with undisturbed():
                made: torch.optim.Optimizer = _way(optimizer, group, list(tensors), overrides)
            return made

        try:
            _prove(factory, group, shape)
        except Exception as error:
            reasons.append(f"{way.__doc__}: {short(error)}")
        else:
            return factory
    raise ProbeError(
        f"{type(optimizer).__name__} cannot be run on other tensors ({'; '.join(reasons)}); give "
        "adamantine.probe.measure a factory that makes one"
    )


def decay_key(group: Mapping[str, Any]) -> str:
    """The name under which this group keeps λ, or would."""
    return next((key for key in DECAY_KEYS if key in group), DECAY_KEYS[0])


def _prove(factory: Factory, group: dict[str, Any], shape: tuple[int, ...]) -> None:
    """One step of a tensor of the group's kind; whatever that raises."""
    originals = [p for p in group["params"] if isinstance(p, Tensor)]
    marks = [(p, p._version, _corner(p)) for p in originals]
    device = originals[0].device if originals else torch.device("cpu")
    with undisturbed():
        tensor = torch.ones(shape, device="cpu" if device.type == "meta" else device).requires_grad_()
        optimizer = factory([tensor])
        make_ready(optimizer)
        take_step(optimizer, [tensor], [torch.ones_like(tensor)])
    if not torch.isfinite(tensor.detach()).all():
        raise ProbeError("a first step with a gradient of ones is not finite")
    for p, version, corner in marks:
        if p._version != version or not torch.equal(_corner(p), corner):
            raise ProbeError("a step of the copy moved the model's own parameters")


def _corner(p: Tensor) -> Tensor:
    """A few elements, to see by whether somebody wrote into the tensor; cheap for any size."""
    p = p.to_local() if hasattr(p, "to_local") else p  # a DTensor would ask other processes
    if p.device.type == "meta" or p.is_sparse or not p.is_contiguous():
        return torch.empty(0)
    return p.detach().reshape(-1)[:4].nan_to_num().clone()


def _constructed(
    optimizer: torch.optim.Optimizer, group: dict[str, Any], tensors: list[Tensor], overrides: dict[str, Any]
) -> torch.optim.Optimizer:
    """constructor"""
    parameters = list(inspect.signature(type(optimizer)).parameters.values())
    if not parameters:
        raise ProbeError("takes no parameters")
    values = _values(group, overrides)
    arguments = {}
    for parameter in parameters[1:]:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if parameter.name in values:
            arguments[parameter.name] = values[parameter.name]
            continue
        attribute = vars(optimizer).get(parameter.name, parameter.empty)
        if _is_plain(attribute):
            arguments[parameter.name] = attribute
        elif parameter.default is parameter.empty:
            raise ProbeError(f"the argument {parameter.name!r} is in no group")
    positional = [p for p in parameters[1:] if p.kind is p.POSITIONAL_ONLY]
    first = [arguments.pop(p.name) for p in positional if p.name in arguments]
    made: torch.optim.Optimizer = type(optimizer)(tensors, *first, **arguments)
    if len(made.param_groups) != 1 or not hasattr(made, "step"):
        raise ProbeError(f"it makes {len(made.param_groups)} groups of one list of tensors")
    made.param_groups[0].update(values)
    return made


def _constructed_afresh(
    optimizer: torch.optim.Optimizer, group: dict[str, Any], tensors: list[Tensor], overrides: dict[str, Any]
) -> torch.optim.Optimizer:
    """constructor alone"""
    named = inspect.signature(type(optimizer)).parameters
    known = {name: value for name, value in group.items() if name in named}
    return _constructed(optimizer, {**known, "params": group["params"]}, tensors, overrides)


def _copied(
    optimizer: torch.optim.Optimizer, group: dict[str, Any], tensors: list[Tensor], overrides: dict[str, Any]
) -> torch.optim.Optimizer:
    """copy with empty state"""
    shell: torch.optim.Optimizer = object.__new__(type(optimizer))
    own = {"params": tensors, **_values(group, overrides)}
    memo: dict[int, Any] = {id(optimizer): shell}
    for each in (optimizer, *_inner(optimizer)):
        for p in (p for g in each.param_groups for p in g["params"]):
            memo.setdefault(id(p), torch.empty(0, dtype=p.dtype))  # the others' place, without a gradient
        memo[id(each.param_groups)] = [own]
        memo[id(each.state)] = defaultdict(dict)
        for name, value in vars(each).items():
            if "_hooks" in name and isinstance(value, dict):
                memo[id(value)] = OrderedDict()
    for p, tensor in zip(group["params"], tensors, strict=False):
        memo[id(p)] = tensor
    attributes = {name: value for name, value in vars(optimizer).items() if name != "step"}
    shell.__dict__.update({name: copy.deepcopy(value, memo) for name, value in attributes.items()})
    if "param_groups" in attributes:  # else it is another's, by a property (Lookahead), and mapped above
        shell.param_groups = [own]
    return shell


def _copied_with_state(
    optimizer: torch.optim.Optimizer, group: dict[str, Any], tensors: list[Tensor], overrides: dict[str, Any]
) -> torch.optim.Optimizer:
    """copy with zeroed state"""
    shell = _copied(optimizer, group, tensors, overrides)
    model = next((p for p in group["params"] if optimizer.state.get(p)), None)
    if model is None:
        raise ProbeError("the optimizer has no state to make it after")
    for tensor in tensors:
        for name, value in optimizer.state[model].items():
            shell.state[tensor][name] = _fresh(value, model, tensor)
    return shell


def _fresh(value: Any, model: Tensor, tensor: Tensor) -> Any:
    """A state entry at the start: a copy of the weights begins at the weights, an average at 0."""
    if not isinstance(value, Tensor) or value.shape != model.shape:
        return copy.deepcopy(value)
    is_copy = bool((value - model.detach()).norm() < 0.5 * model.detach().norm())
    start = tensor.detach().clone() if is_copy else torch.zeros_like(tensor).detach()
    return start.to(value.dtype)


def _inner(optimizer: Any) -> Iterator[torch.optim.Optimizer]:
    """Optimizers that this one drives (Lookahead, SAM)."""
    for value in vars(optimizer).values():
        if isinstance(value, torch.optim.Optimizer) and value is not optimizer:
            yield value


def _values(group: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """The group's hyperparameters, its tensors cloned so that nobody writes into the original's."""
    renamed = {decay_key(group) if name == "weight_decay" else name: v for name, v in overrides.items()}
    values = {name: value for name, value in group.items() if name not in {"params", "param_names"}}
    cloned = {
        name: value.detach().clone() if isinstance(value, Tensor) else copy.copy(value)
        for name, value in values.items()
    }
    return {**cloned, **renamed}


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, bool | int | float | str | torch.dtype)


def short(error: BaseException) -> str:
    """An exception in one line."""
    text = str(error).strip().split("\n")[0] or "no message"
    return f"{type(error).__name__}: {text[:200]}"
