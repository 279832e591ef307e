"""An audit as JSON: the fields of the data classes by their names, under a version of the schema.

Infinite and NaN numbers, which JSON has not, are the texts ``"inf"``, ``"-inf"`` and ``"nan"``.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from adamantine.audit.errors import AuditError
from adamantine.audit.model import AuditReport

#: Raised whenever a reader of the older one could misread the newer one.
SCHEMA = "adamantine.audit/1"


def to_json(report: AuditReport, *, indent: int | None = 2) -> str:
    """The report as text; `from_json` gives an equal one back."""
    return json.dumps(
        {"schema": SCHEMA, **_plain(report)}, indent=indent, ensure_ascii=False, allow_nan=False
    )


def from_json(text: str) -> AuditReport:
    """The report that `to_json` wrote.

    Raises:
        AuditError: no JSON, of another schema, or with fields missing, unknown or of another type.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise AuditError(f"no audit: the text is not JSON ({error})") from error
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        found = data.get("schema") if isinstance(data, dict) else type(data).__name__
        raise AuditError(
            f"no audit of the schema {SCHEMA!r}: found {found!r}; write it anew with this version"
        )
    report = _made(AuditReport, {key: value for key, value in data.items() if key != "schema"}, "report")
    assert isinstance(report, AuditReport)
    return report


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


@cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)


def _made(kind: Any, value: Any, where: str) -> Any:
    """The value as this type says, or an error that names the place."""
    origin, arguments = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _record(kind, value, where)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _made(next(a for a in arguments if a is not type(None)), value, where)
    if origin is tuple and isinstance(value, list):
        return tuple(_made(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return {key: _made(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if origin is Literal and value in arguments:
        return value
    if kind is float and not isinstance(value, bool):
        if isinstance(value, int | float):
            return float(value)
        if value in ("inf", "-inf", "nan"):
            return float(value)
    if kind in (int, str, bool) and type(value) is kind:
        return value
    raise AuditError(f"no audit: {where} is {value!r}, which is no {getattr(kind, '__name__', kind)}")


def _record(cls: type, value: Any, where: str) -> Any:
    hints = _hints(cls)
    if not isinstance(value, dict):
        raise AuditError(f"no audit: {where} is {value!r}, which is no {cls.__name__}")
    if value.keys() != hints.keys():
        odd = ", ".join(sorted(map(str, value.keys() ^ hints.keys())))
        raise AuditError(f"no audit: {where} has missing or unknown fields ({odd})")
    return cls(**{name: _made(hint, value[name], f"{where}.{name}") for name, hint in hints.items()})
