"""From ``train:build`` or ``path/to/train.py:build`` to a model with its optimizers and schedules.

The function is called without arguments. It may return (model, optimizer), (model, optimizer, scheduler), any
of these as a list of several, a dict or an object with these names, or something with
``configure_optimizers()`` (Lightning). What it prints goes to the error stream, and the command line that it
sees is its own name.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import sysconfig
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import torch

from adamantine.audit.errors import AuditError

_EXAMPLE = "give module:function or path/to/file.py:function, such as train:build"
_RETURNS = "return (model, optimizer), (model, optimizer, scheduler), or an object with these names"


@dataclass(frozen=True)
class Loaded:
    """What an audit takes. One part of a kind stands alone, several in a tuple; None: no scheduler."""

    model: Any
    optimizer: Any
    scheduler: Any


class ScriptError(AuditError):
    """The user's own code raised; ``shown`` is its traceback, of the user's files only."""

    def __init__(self, target: str, error: BaseException) -> None:
        self.shown = own_traceback(error)
        super().__init__(f"{target!r}: {type(error).__name__} in your code")


def load(target: str) -> Loaded:
    """Imports, calls and sorts out what comes back.

    Raises:
        AuditError: no such file, module or function; a result in which no model or optimizer is found.
        ScriptError: the user's code raised.
    """
    where, colon, attribute = target.rpartition(":")
    if not colon or not where or not attribute:
        raise AuditError(f"Invalid target {target!r}: {_EXAMPLE}")
    with _as_a_script(where):
        function = _attribute(_module(where, target), attribute, target)
        if not callable(function):
            return sorted_out(function, target)
        with _errors_of_the_script(target):
            result = function()
        with _errors_of_the_script(target):  # configure_optimizers is the user's code, too
            return sorted_out(result, target)


def sorted_out(result: Any, target: str = "the function") -> Loaded:
    """The parts of what a function returned.

    Raises:
        AuditError: no model, or no optimizer, in it.
    """
    if hasattr(result, "configure_optimizers"):
        configured = _flat(result.configure_optimizers())
        model = result if isinstance(result, torch.nn.Module) else getattr(result, "model", None)
        parts = [model, *configured]
    elif isinstance(result, Mapping):
        parts = _flat([value for key, value in result.items() if _named(key)])
    elif isinstance(result, tuple | list):
        parts = _flat(result)
    else:
        names = (name for name in dir(result) if _named(name))
        parts = _flat([getattr(result, name, None) for name in names])
    models = [part for part in parts if isinstance(part, torch.nn.Module)]
    optimizers = [part for part in parts if _is_optimizer(part)]
    schedulers = [part for part in parts if _is_scheduler(part)]
    for what, found in (("model", models), ("optimizer", optimizers)):
        if not found:
            raise AuditError(f"{target!r} gave no {what} but {_described(result)}; {_RETURNS}")
    return Loaded(_alone(models), _alone(optimizers), _alone(schedulers) if schedulers else None)


def own_traceback(error: BaseException) -> str:
    """The traceback in the user's files, and the error: neither our lines nor torch's."""
    frames = [
        summary
        for frame, line in traceback.walk_tb(error.__traceback__)
        if _is_the_users(frame)
        for summary in traceback.StackSummary.extract(iter([(frame, line)]))
    ]
    last = traceback.format_exception_only(error)
    head = ["Traceback (most recent call last):\n"] if frames else []
    return "".join([*head, *traceback.StackSummary.from_list(frames).format(), *last]).rstrip()


def _module(where: str, target: str) -> ModuleType:
    with _errors_of_the_script(target, missing=where):
        if not where.endswith(".py"):
            return importlib.import_module(where)
        path = Path(where).resolve()
        if not path.is_file():
            raise AuditError(f"{target!r}: there is no file {where}")
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module  # dataclasses and pickles of the script look there
        spec.loader.exec_module(module)
        return module


def _attribute(module: ModuleType, dotted: str, target: str) -> Any:
    found: Any = module
    for name in dotted.split("."):
        if not hasattr(found, name):
            callables = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
            own = [n for n in callables if getattr(vars(module)[n], "__module__", "") == module.__name__]
            there = f"there are {', '.join(own[:8])}" if own else "it defines no function"
            raise AuditError(f"{target!r}: {module.__name__} has no {dotted}; {there}")
        found = getattr(found, name)
    return found


@contextmanager
def _as_a_script(where: str) -> Iterator[None]:
    """Imports as from the current folder, and from the file's own; no arguments; prints to stderr."""
    folder = str(Path(where).resolve().parent) if where.endswith(".py") else ""
    arguments, path = sys.argv, list(sys.path)
    sys.argv = [where]
    sys.path[:0] = [part for part in (folder, str(Path.cwd())) if part]
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        sys.argv, sys.path[:] = arguments, path


@contextmanager
def _errors_of_the_script(target: str, missing: str = "") -> Iterator[None]:
    try:
        yield
    except AuditError:
        raise
    except ModuleNotFoundError as error:
        if missing and error.name and (missing == error.name or missing.startswith(f"{error.name}.")):
            raise AuditError(f"{target!r}: there is no module {error.name!r} here; {_EXAMPLE}") from None
        raise ScriptError(target, error) from error
    except SystemExit as error:
        raise AuditError(
            f"{target!r}: the script ended itself (exit code {error.code}); put what runs it under "
            "if __name__ == '__main__':"
        ) from None
    except Exception as error:
        raise ScriptError(target, error) from error


def _is_the_users(frame: FrameType) -> bool:
    file = frame.f_code.co_filename
    if file.startswith("<frozen"):
        return False
    installed = (sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    ours = str(Path(__file__).parents[1])
    return not file.startswith((*installed, ours))


def _named(key: object) -> bool:
    return isinstance(key, str) and any(
        key == name or key == f"{name}s"
        for name in ("model", "optimizer", "scheduler", "lr_scheduler", "net")
    )


def _flat(value: Any) -> list[Any]:
    """Lists, Lightning's dicts and whatever lies in them, as one list."""
    if isinstance(value, Mapping):
        return [part for item in value.values() for part in _flat(item)]
    if isinstance(value, tuple | list) and not isinstance(value, torch.nn.Module):
        return [part for item in value for part in _flat(item)]
    return [value]


def _is_optimizer(part: Any) -> bool:
    return isinstance(getattr(part, "param_groups", None), list)


def _is_scheduler(part: Any) -> bool:
    return (
        not _is_optimizer(part)
        and not isinstance(part, torch.nn.Module)
        and callable(getattr(part, "step", None))
    )


def _alone(parts: list[Any]) -> Any:
    return parts[0] if len(parts) == 1 else tuple(parts)


def _described(result: Any) -> str:
    if isinstance(result, tuple | list):
        return (
            f"a {type(result).__name__} of {', '.join(type(part).__name__ for part in result) or 'nothing'}"
        )
    return "None" if result is None else f"a {type(result).__name__}"
