"""From what a user names to the `Subject` that is checked."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import partial
from typing import Any

from adamantine.testing.adapters import adapted
from adamantine.testing.errors import ConformanceError
from adamantine.testing.oracles import oracle_of, promised_decay
from adamantine.testing.subject import Subject


def subject_of(target: Any, *, hyper: Mapping[str, Any] | None = None, name: str = "") -> Subject:
    """The subject of a class, a factory, a `functools.partial` of one, or ``"module:Class"``.

    Args:
        target: see above; a `Subject` is returned as it is.
        hyper: keyword arguments to construct it with, always.
        name: instead of the class's own, which the oracle is chosen by.

    Raises:
        ConformanceError: it cannot be imported, is not callable, or does not step in any way that is known.
    """
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
    own = own if own.isidentifier() else "factory"  # of a lambda; examples call it so
    called = name or own
    return adapted(
        Subject(
            make=make,
            name=called,
            hyper=given,
            reference=target if isinstance(target, str) else _reference(make),
            oracle=oracle_of(called, given),
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


def _reference(make: Any) -> str:
    module, name = getattr(make, "__module__", ""), getattr(make, "__qualname__", "")
    if not module or module == "__main__" or "<" in name:
        return ""
    try:
        return f"{module}:{name}" if load(f"{module}:{name}") is make else ""
    except ConformanceError:
        return ""
