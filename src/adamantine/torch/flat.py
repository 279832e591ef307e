"""Flat models: parameters and gradients as views of contiguous buffers, one tensor to the optimizer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from adamantine.torch.buffers import FlatBuffer, Place, at_home, lay_out, place_of, release

#: A module; parameters, with names or without; or parameter groups.
Flattenable = nn.Module | Iterable[Tensor] | Iterable[tuple[str, Tensor]] | Iterable[dict[str, Any]]


def flatten(parameters: Flattenable) -> Flat:
    """Move parameters into contiguous buffers, one per dtype and device, and their gradients likewise.

    Parameters stay the objects they are, with their shapes, strides and values; optimizers, hooks, tied
    weights and state dicts go on as before. Gradients that are there are copied, the others become zeros.
    Call it when the model has its final dtype and device, before or after making the optimizer. Optimizers of
    this package keep the state of flat parameters flat too, and their ``zero_grad()`` leaves zeros there, not
    None: docs/flat.md says what follows.

    Memory: the gradients, and while this runs one more copy of the largest buffer.

    Args:
        parameters: a module; an iterable of parameters or of (name, parameter) pairs; or parameter groups, as
            `adamantine.param_groups` or ``optimizer.param_groups`` give. The order of memory is theirs, and
            should be the optimizer's: only neighbours of one group are stepped as one.

    Returns:
        A handle that says what is flat, what is not and why, and repairs it. It need not be kept.

    Raises:
        TypeError: something that is no parameter.
        ValueError: no parameters; or one without a shape yet (lazy modules).

    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> flat = flatten(model)
    >>> flat
    <Flat: 4 of 4 parameters, 58 elements in 1 buffer>
    >>> model[2].bias.data_ptr() == flat.buffers[0].values[56:].data_ptr()
    True
    """
    return Flat(parameters).restore()


class Flat:
    """Parameters that are to be flat. It holds no memory; every answer is of the moment it is asked.

    >>> layer = nn.Linear(3, 2)
    >>> _ = layer.bias.requires_grad_(False)
    >>> flat = flatten(layer)
    >>> layer.zero_grad()
    >>> print(flat)
    <Flat: 1 of 2 parameters, 6 elements in 1 buffer>
    left alone  bias    frozen: requires_grad is False
    not flat    weight  its gradient is None: module.zero_grad() drops it, optimizer.zero_grad() keeps it
    >>> flat.restore().is_intact()
    True
    """

    def __init__(self, parameters: Flattenable) -> None:
        self._source = parameters if isinstance(parameters, nn.Module) else list(_named(parameters))
        if not self._parameters():
            raise ValueError("no parameters to flatten (a generator that was used before is empty)")

    @property
    def buffers(self) -> tuple[FlatBuffer, ...]:
        """The buffers in which these parameters lie, in the order of their first parameters."""
        places = map(at_home, self._parameters().values())
        return tuple(dict.fromkeys(place.buffer for place in places if place is not None))

    @property
    def left_alone(self) -> dict[str, str]:
        """Parameters that are not made flat: name → why."""
        named = self._parameters()
        return {name: why for name, why in self._obstacles().items() if place_of(named[name]) is None}

    def why_not(self) -> dict[str, str]:
        """Parameters that are no longer flat: name → why. They train as well, only slower."""
        obstacles = self._obstacles()
        reasons: dict[str, str] = {}
        for name, p in self._parameters().items():
            place = place_of(p)
            if place is not None and (why := _disorder(p, place)) is not None:
                reasons[name] = why
            elif place is None and name not in obstacles:
                reasons[name] = "it was not flattened: it is new, or it was left alone and could be flat now"
        return reasons

    def is_intact(self) -> bool:
        """Whether all is flat but what is left alone."""
        return not self.why_not()

    def restore(self) -> Flat:
        """Make everything flat again, as the parameters are now; what is in place stays. Returns itself."""
        named, obstacles = self._parameters(), self._obstacles()
        kinds: dict[Any, list[Tensor]] = {}
        for name, p in named.items():
            if name not in obstacles:
                kinds.setdefault((p.dtype, p.device), []).append(p)
        with torch.inference_mode(False), torch.no_grad():
            for name in obstacles:
                release(named[name])
            for params in kinds.values():
                lay_out(params)
        return self

    def undo(self) -> None:
        """Give every parameter and every gradient memory of its own again."""
        with torch.inference_mode(False), torch.no_grad():
            for p in self._parameters().values():
                release(p)

    def _parameters(self) -> dict[str, Tensor]:
        """Each tensor once; of a module, those that it has now."""
        return dict(self._source.named_parameters() if isinstance(self._source, nn.Module) else self._source)

    def _obstacles(self) -> dict[str, str]:
        """Parameters that cannot be flat, in their order: name → why."""
        named = self._parameters()
        reasons = {name: _obstacle(name, p) for name, p in named.items()}
        others = self._source.buffers() if isinstance(self._source, nn.Module) else []
        for name in _overlapping(named, others):
            reasons[name] = reasons[name] or "it shares memory with another parameter or a buffer"
        return {name: why for name, why in reasons.items() if why is not None}

    def __repr__(self) -> str:
        named = self._parameters()
        flat = [p for p in named.values() if at_home(p) is not None]
        elements = sum(p.numel() for p in flat)
        count = len(self.buffers)
        return (
            f"<Flat: {len(flat)} of {len(named)} parameters, "
            f"{elements:,} elements in {count} {'buffer' if count == 1 else 'buffers'}>"
        )

    def __str__(self) -> str:
        rows = [("left alone", *row) for row in self.left_alone.items()]
        rows += [("not flat", *row) for row in self.why_not().items()]
        width = max((len(name) for _, name, _ in rows), default=0)
        return "\n".join([repr(self), *(f"{what:<10}  {name:<{width}}  {why}" for what, name, why in rows)])


def _named(parameters: Any) -> Iterator[tuple[str, Tensor]]:
    """(name, parameter) of an iterable, each tensor once and each name once."""
    if isinstance(parameters, torch.optim.Optimizer):
        raise TypeError(
            "flatten takes a module, parameters or groups; of an optimizer, give its param_groups"
        )
    if isinstance(parameters, Tensor):
        raise TypeError("flatten takes a module, parameters or groups; a single tensor is flat as it is")
    seen: set[int] = set()
    names: dict[str, int] = {}
    for number, item in enumerate(_items(parameters)):
        name, p = item if isinstance(item, tuple) else (f"parameter {number}", item)
        if not isinstance(p, Tensor):
            raise TypeError(f"flatten takes a module, parameters or groups; {name} is a {type(p).__name__}")
        if id(p) not in seen:
            seen.add(id(p))
            count = names[name] = names.get(name, 0) + 1
            yield (name if count == 1 else f"{name} ({count})"), p


def _items(parameters: Iterable[Any]) -> Iterator[Any]:
    for item in parameters:
        if not isinstance(item, dict):
            yield item
            continue
        members = item["params"]
        members = [members] if isinstance(members, Tensor) else list(members)
        names = item.get("param_names")  # the groups of an optimizer have names beside the parameters
        yield from zip(names, members, strict=True) if names else members


def _obstacle(name: str, p: Tensor) -> str | None:
    """Why this parameter by itself cannot be flat."""
    if any(cls.__name__ == "UninitializedTensorMixin" for cls in type(p).__mro__):
        raise ValueError(f"{name} belongs to a lazy module and has no shape yet; run one forward pass first")
    if type(p) not in {Tensor, nn.Parameter}:
        return f"a {type(p).__name__} keeps its memory itself"
    if hasattr(p, "_fsdp_flattened") or hasattr(p, "ds_id"):
        return "FSDP or DeepSpeed keeps its memory"
    if not p.requires_grad:
        return "frozen: requires_grad is False"
    if not p.is_leaf:
        return "it is computed from others; only leaves take steps"
    if getattr(p, "grad_dtype", p.dtype) != p.dtype:  # since torch 2.10
        return f"its gradient has a dtype of its own: grad_dtype is {p.grad_dtype}"
    if not _has_memory(p):
        return "it has no memory to move: empty, meta, or not strided"
    if torch.empty_like(p, device="meta").stride() != p.stride():
        return "its elements have holes or overlap"
    if p.device.type == "cpu" and p.untyped_storage().is_shared() and at_home(p) is None:
        return "other processes share its memory"
    return None


def _disorder(p: Tensor, place: Place) -> str | None:
    """Why a parameter that was flattened is not flat."""
    for what in ("dtype", "device", "shape"):
        now, then = (str(getattr(x, what)).removeprefix("torch.") for x in (p, place.values))
        if now != then:
            return f"its {what} was {then} and is {now}"
    if not place.holds(p):
        return "its memory is elsewhere: .to(), .data = or another flatten moved it"
    if not p.requires_grad:
        return "frozen since; its neighbours are parted"
    if p.grad is None:
        return "its gradient is None: module.zero_grad() drops it, optimizer.zero_grad() keeps it"
    if not place.holds_gradient(p):
        return (
            "its gradient is another tensor: assigned, or the work of DDP(gradient_as_bucket_view=True) "
            "or backward(create_graph=True)"
        )
    return None


def _overlapping(named: dict[str, Tensor], others: Iterable[Tensor]) -> set[str]:
    """Names of parameters that share memory with another tensor here: moved apart, they would not be tied."""
    spans = [(*_span(p), name) for name, p in named.items() if _has_memory(p)]
    spans += [(*_span(x), "") for x in others if _has_memory(x)]
    found: set[str] = set()
    furthest = ("", 0, 0, "")
    for span in sorted(spans):
        if span[0] == furthest[0] and span[1] < furthest[2]:
            found |= {span[3], furthest[3]}
        furthest = max(furthest, span, key=lambda each: (each[0], each[2]))
    return found - {""}


def _span(x: Tensor) -> tuple[str, int, int]:
    """Device, first address and the one past the last."""
    last = sum((size - 1) * stride for size, stride in zip(x.shape, x.stride(), strict=True))
    return str(x.device), x.data_ptr(), x.data_ptr() + (last + 1) * x.element_size()


def _has_memory(x: Tensor) -> bool:
    return x.layout is torch.strided and x.device.type != "meta" and x.numel() > 0
