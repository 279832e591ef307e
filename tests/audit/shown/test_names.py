"""Patterns over names: exact, whatever the names."""

from __future__ import annotations

from fnmatch import fnmatchcase

from hypothesis import given, settings
from hypothesis import strategies as st

from adamantine.audit.names import globs, said

_PART = st.sampled_from(["0", "1", "11", "a", "b", "weight", "bias", "[x]", "*", "ln?"])
_NAMES = st.lists(st.lists(_PART, min_size=1, max_size=4).map(".".join), min_size=1, max_size=30, unique=True)


@settings(max_examples=150, deadline=None)
@given(names=_NAMES, data=st.data())
def test_patterns_match_the_names_and_no_others(names: list[str], data: st.DataObject) -> None:
    wanted = data.draw(st.lists(st.sampled_from(names), unique=True))
    found = globs(wanted, names)
    matched = [name for name in names if any(fnmatchcase(name, pattern) for pattern, _ in found)]
    assert sorted(matched) == sorted(wanted)
    assert sum(count for _, count in found) == len(wanted)


def test_a_thousand_layers_are_a_few_words() -> None:
    model = [f"layers.{i}.{part}" for i in range(1000) for part in ("attn.weight", "attn.bias", "ln.weight")]
    assert globs([n for n in model if "attn" in n], model) == [("*.attn.*", 2000)] or globs(
        [n for n in model if "attn" in n], model
    ) == [("layers.*.attn.*", 2000)]
    shown, more = said([f"layers.{i}.ln.weight" for i in range(0, 1000, 7)], model)
    assert (len(shown), more) == (1, 0)
    assert shown[0].endswith("×143")


def test_more_than_asked_for_is_counted() -> None:
    names = [f"part{chr(97 + i)}.w" for i in range(20)]
    shown, more = said(names, [*names, "other.w"], most=6)
    assert (len(shown), more) == (6, 14)
