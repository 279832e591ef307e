"""JSON from a file that nobody vouches for: no duplicate keys, no NaN, no bombs; one exception."""

from __future__ import annotations

import json
import math
from typing import Any

from adamantine.checkpoint.errors import CheckpointError

#: Bytes. The safetensors format has the same limit for its header.
LARGEST = 100_000_000


def loads(content: bytes | str, source: str) -> Any:
    """The value of a JSON text.

    Args:
        content: UTF-8, at most `LARGEST` long.
        source: the file and the part of it, for messages.

    Raises:
        CheckpointError: too large, not UTF-8, not JSON, a key twice in one object, NaN or an infinity, a
            number beyond a double, or nested beyond what the parser takes.

    >>> loads('{"lr": 1e-3}', "state.json")
    {'lr': 0.001}
    >>> loads('{"lr": 1, "lr": 2}', "state.json")
    Traceback (most recent call last):
    adamantine.checkpoint.errors.CheckpointError: state.json: the key 'lr' stands twice in one object...
    """
    if len(content) > LARGEST:
        raise CheckpointError(f"{source}: {len(content)} bytes of JSON, at most {LARGEST} are read")
    try:
        text = content.decode("utf-8") if isinstance(content, bytes) else content
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_refuse_constant, parse_float=_finite
        )
        if "\\ud" in text or "\\uD" in text:  # half a pair is no text: it can neither be printed nor written
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except _Refused as error:
        raise CheckpointError(f"{source}: {error}; the file is damaged or not a checkpoint") from None
    except RecursionError:
        raise CheckpointError(f"{source}: JSON nested too deeply; this is no checkpoint of ours") from None
    except UnicodeEncodeError:
        raise CheckpointError(f"{source}: half of a surrogate pair in a text; the file is damaged") from None
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{source}: not UTF-8 at byte {error.start}; the file is damaged") from None
    except ValueError as error:  # JSONDecodeError, and whole numbers of thousands of digits
        raise CheckpointError(f"{source}: not JSON ({error}); the file is damaged") from None


def dumps(value: Any) -> str:
    """Compact, in the order given, and refusing what `loads` would.

    Raises:
        CheckpointError: a text that has no UTF-8, such as the name of a file in another encoding.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    try:
        text.encode()
    except UnicodeEncodeError as error:
        around = text[max(0, error.start - 30) : error.start + 30]
        raise CheckpointError(f"a text that UTF-8 cannot hold, in {around!a}; leave it out") from None
    return text


class _Refused(Exception):
    pass


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _Refused(f"the key {_short(twice)} stands twice in one object")
    return found


def _refuse_constant(word: str) -> Any:
    raise _Refused(f"{word} is not JSON")


def _finite(text: str) -> float:
    if math.isinf(value := float(text)):
        raise _Refused(f"the number {_short(text)} is beyond a double")
    return value


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "…")
