"""Python values as JSON and back, types and bits kept: tuples, infinities, counters, tensors by name.

Plain JSON is itself. What JSON has no form for is an object with one key that begins with ``$``, and
docs/checkpoint.md lists them all. Nothing else is stored: an object of a class would need code to come back.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adamantine.checkpoint import dtypes
from adamantine.checkpoint.errors import CheckpointError

#: Levels of nesting. A state dict of nested schedulers has about ten.
DEEPEST = 64

_FLOATS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


class Tensors:
    """Tensors on their way into a file: each stored once, however often the state refers to it.

    Attributes:
        named: name in the file → tensor.
    """

    def __init__(self) -> None:
        self.named: dict[str, Tensor] = {}
        self._names: dict[Any, str] = {}

    def add(self, at: str, tensor: Tensor) -> str:
        """The name under which this very memory is stored; ``at`` unless it is known already."""
        _check_storable(at, tensor)
        memory = (tensor.data_ptr(), tensor.device, tensor.dtype, tensor.shape, tensor.stride())
        key = (*memory, tensor.is_conj(), tensor.is_neg()) if tensor.numel() else id(tensor)
        if key not in self._names:
            name = at
            while name in self.named or name == "__metadata__":
                name += "'"
            self.named[name] = tensor
            self._names[key] = name
        return self._names[key]


def _check_storable(at: str, tensor: Tensor) -> None:
    if type(tensor) not in (Tensor, torch.nn.Parameter):
        cls = type(tensor)
        raise CheckpointError(
            f"{at} is a {cls.__module__}.{cls.__qualname__}, a tensor whose content only its class knows; "
            "save what it consists of (full_tensor() of a DTensor, dequantize() of a quantized one), or use "
            "torch.distributed.checkpoint for states spread over processes"
        )
    if tensor.layout is not torch.strided:
        raise CheckpointError(f"{at} is a sparse tensor ({tensor.layout}); save its to_dense()")
    if tensor.device.type == "meta":
        raise CheckpointError(f"{at} is on the meta device and has no values; materialize it first")
    if not dtypes.is_storable(tensor.dtype):
        raise CheckpointError(
            f"{at} has dtype {tensor.dtype}, which has no stored form; save its dequantize()"
        )


def encode(value: Any, at: str, tensors: Tensors, depth: int = 0) -> Any:
    """JSON for a value; its tensors go to ``tensors``.

    Args:
        value: None, bool, int, float, complex, str, dict, list, tuple, set, Counter, OrderedDict, torch.Size,
            torch.dtype, tensors, numpy arrays and scalars (which come back as Python's), nested at will.
        at: where it is, for names and messages.

    Raises:
        CheckpointError: anything else, by name.

    >>> encode({"betas": (0.9, 0.99), 3: [None, float("inf")]}, "group", Tensors())
    {'$dict': [['betas', {'$tuple': [0.9, 0.99]}], [3, [None, {'$float': 'inf'}]]]}
    """
    if depth > DEEPEST:
        raise CheckpointError(f"{at} is nested more than {DEEPEST} levels deep, or holds itself")

    def items(values: Any) -> list[Any]:
        return [encode(item, f"{at}/{i}", tensors, depth + 1) for i, item in enumerate(values)]

    def pairs(mapping: Any) -> list[Any]:
        return [
            [encode(k, f"{at} (a key)", tensors, depth + 1), encode(v, f"{at}/{k}", tensors, depth + 1)]
            for k, v in mapping.items()
        ]

    if isinstance(value, np.generic):
        value = value.item()
    kind = type(value)
    if value is None or kind in (bool, str):
        return value
    if kind is int:
        if value.bit_length() > 10_000:  # Python itself reads at most 4300 digits
            raise CheckpointError(
                f"{at} is a whole number of {value.bit_length()} bits; at most 10000 are kept"
            )
        return value
    if kind is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if kind is list:
        return items(value)
    if kind is dict:
        if all(type(key) is str for key in value) and not any(key.startswith("$") for key in value):
            return {key: encode(item, f"{at}/{key}", tensors, depth + 1) for key, item in value.items()}
        return {"$dict": pairs(value)}
    if isinstance(value, Tensor):
        return {"$tensor": tensors.add(at, value)}
    if kind is np.ndarray:  # not a masked array, whose mask would be lost
        return {"$array": tensors.add(at, _from_numpy(at, value))}
    for cls, tag, content in (
        (tuple, "$tuple", items),
        (set, "$set", items),
        (Counter, "$counter", pairs),
        (OrderedDict, "$ordered", pairs),
        (torch.Size, "$size", list),
        (complex, "$complex", lambda z: items([z.real, z.imag])),
        (torch.dtype, "$dtype", dtypes.name_of),
    ):
        if kind is cls:
            return {tag: content(value)}
    raise CheckpointError(
        f"{at} is a {kind.__module__}.{kind.__qualname__}, which only its own code could bring back, and "
        "a checkpoint holds no code; save the numbers it consists of, or leave it out"
    )


def decode(node: Any, at: str, tensor: Callable[[str], Tensor], depth: int = 0) -> Any:
    """The value that `encode` gave ``node`` for.

    Args:
        node: JSON, of a file that may say anything.
        at: where it is, for messages.
        tensor: gives a tensor by its name; the same name must give the same tensor.

    Raises:
        CheckpointError: an unknown ``$`` form, or one with something else in it than belongs there.

    >>> decode({"$tuple": [0.9, {"$float": "-inf"}]}, "group", None)
    (0.9, -inf)
    """
    if depth > DEEPEST:
        raise CheckpointError(
            f"{at} is nested more than {DEEPEST} levels deep; this is no checkpoint of ours"
        )
    if isinstance(node, list):
        return [decode(item, _below(at, i), tensor, depth + 1) for i, item in enumerate(node)]
    if not isinstance(node, dict):
        return node
    tag = next(iter(node), "")
    if not tag.startswith("$"):
        return {key: decode(item, _below(at, key), tensor, depth + 1) for key, item in node.items()}
    content = node[tag]

    def damaged(error: Exception | None = None) -> CheckpointError:
        why = f" ({error})" if error else ""
        return CheckpointError(
            f"{at}: {str(node)[:80]!r} is no form of version 1{why}; see docs/checkpoint.md"
        )

    def items() -> list[Any]:
        if not isinstance(content, list):
            raise damaged()
        return [decode(item, _below(at, i), tensor, depth + 1) for i, item in enumerate(content)]

    def pairs() -> list[tuple[Any, Any]]:
        if not isinstance(content, list) or not all(isinstance(p, list) and len(p) == 2 for p in content):
            raise damaged()
        found = [
            (decode(k, f"{at} (a key)", tensor, depth + 1), decode(v, _below(at, k), tensor, depth + 1))
            for k, v in content
        ]
        _check_spread([key for key, _ in found])
        if len({key for key, _ in found}) < len(found):
            raise damaged()
        return found

    forms: dict[str, Callable[[], Any]] = {
        "$dict": lambda: dict(pairs()),
        "$ordered": lambda: OrderedDict(pairs()),
        "$counter": lambda: Counter(dict(pairs())),
        "$tuple": lambda: tuple(items()),
        "$set": lambda: set(_check_spread(items())),
        "$size": lambda: _size(content),
        "$float": lambda: _FLOATS[content],
        "$complex": lambda: _complex(*items()),
        "$dtype": lambda: dtypes.NAMED[content],
        "$array": lambda: _to_numpy(tensor(content)),
    }
    if len(node) == 1 and tag == "$tensor":
        return tensor(content)
    if len(node) != 1 or tag not in forms:
        raise damaged()
    try:
        return forms[tag]()
    except (TypeError, KeyError, ValueError, OverflowError, RuntimeError) as error:
        raise damaged(error) from None


def _below(at: str, key: Any) -> str:
    """``at/key``, short: with a hostile file's keys, the places alone would fill the memory."""
    return f"{at}/{str(key)[:200]}" if len(at) < 1000 else at


def _check_spread(keys: list[Any]) -> list[Any]:
    """The keys, unless they are chosen to collide: numbers may, and a set of a million would take hours."""
    if keys and max(Counter(map(hash, keys)).values()) > 64:
        raise ValueError("keys with the same hash")
    return keys


def _size(content: Any) -> torch.Size:
    if not all(type(n) is int and 0 <= n < 2**63 for n in content):
        raise ValueError("not counts")
    return torch.Size(content)


def _complex(real: Any, imaginary: Any) -> complex:
    if type(real) is not float or type(imaginary) is not float:
        raise TypeError("not two numbers")
    return complex(real, imaginary)


def _to_numpy(tensor: Tensor) -> Any:
    if tensor.device.type == "meta":  # who only looks has no values, but shall hear of dtypes numpy has not
        torch.empty(0, dtype=tensor.dtype).numpy()
        return tensor
    return tensor.numpy()


def _from_numpy(at: str, array: np.ndarray[Any, Any]) -> Tensor:
    plain = np.ascontiguousarray(array).reshape(array.shape)
    try:
        return torch.from_numpy(plain if plain.flags.writeable else plain.copy())
    except (TypeError, ValueError):  # ValueError: of the other byte order
        raise CheckpointError(f"{at} is a numpy array of {array.dtype}, which no tensor can hold") from None
