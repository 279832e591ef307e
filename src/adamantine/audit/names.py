"""Many parameter names in few words: patterns that match them and no other parameter of the model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import translate
from glob import escape

_NUMBER = re.compile(r"(?<![^.])\d+(?![^.])")  # a whole dotted part: the place in a list of layers


def form(name: str) -> str:
    """The name as a pattern over the places in lists of layers.

    >>> form("blocks.11.attn.weight"), form("layer1.0.conv2.weight")
    ('blocks.*.attn.weight', 'layer1.*.conv2.weight')
    """
    return _NUMBER.sub("*", escape(name))


def shared(names: Sequence[str]) -> str:
    """Names of one `form` as one, with a star only at the places in which they differ.

    >>> shared(["blocks.0.mlp.2.bias", "blocks.1.mlp.2.bias"])
    'blocks.*.mlp.2.bias'
    """
    parts = zip(*(name.split(".") for name in names), strict=True)
    return ".".join(escape(same[0]) if len(set(same)) == 1 else "*" for same in parts)


def globs(names: Iterable[str], among: Iterable[str]) -> list[tuple[str, int]]:
    """``fnmatch`` patterns that together match all of ``names`` and nothing else of ``among``, each with how
    many names it stands for; few, but not proven fewest. A name that no pattern fits stands as it is.

    >>> model = [f"{i}.{part}.{kind}" for i in range(3) for part in ("norm", "mlp") for kind in ("w", "bias")]
    >>> globs([name for name in model if name.endswith("bias")], model)
    [('*.bias', 6)]
    >>> globs(["0.norm.w", "1.norm.w", "2.norm.w", "0.mlp.bias"], model)
    [('*.norm.w', 3), ('0.mlp.bias', 1)]
    """
    wanted = list(dict.fromkeys(names))
    rest = set(among).difference(wanted)
    if not rest and len(wanted) > 1:
        return [("*", len(wanted))]
    spared = {form(name): name for name in rest}  # one name stands for all of its form
    forms: dict[str, list[str]] = {}
    for name in wanted:
        forms.setdefault(form(name), []).append(name)
    left = {key: members for key, members in forms.items() if key not in spared}
    found = []
    patterns = dict.fromkeys(pattern for key in left for pattern in _wider(key))
    covers = {pattern: _covered(pattern, left) for pattern in patterns if not _covered(pattern, spared)}
    while covers:
        # The most names; among equals the first, which is the narrowest.
        size = {p: sum(len(left[key]) for key in keys if key in left) for p, keys in covers.items()}
        best = max(size, key=lambda pattern: size[pattern])
        if size[best] < 2:
            break
        found.append((best, size[best]))
        for key in covers.pop(best):
            left.pop(key, None)
    matched = [re.compile(translate(pattern)) for pattern, _ in found]
    single = [name for name in wanted if not any(pattern.match(name) for pattern in matched)]
    return [*found, *((escape(name), 1) for name in single)]


def _wider(key: str) -> Iterator[str]:
    """Patterns around a form, the narrowest first: itself, its ends after ``*.``, its beginnings before."""
    yield key
    parts = key.split(".")
    for i in range(1, len(parts)):
        if parts[i] != "*":
            yield ".".join(("*", *parts[i:]))
    for i in range(len(parts) - 1, 0, -1):
        if parts[i - 1] != "*":
            yield ".".join((*parts[:i], "*"))


def _covered(pattern: str, names: dict[str, list[str]] | dict[str, str]) -> list[str]:
    matches = re.compile(translate(pattern)).match
    return [k for k, v in names.items() if matches(v if isinstance(v, str) else v[0])]


def said(names: Sequence[str], among: Iterable[str], most: int = 6) -> tuple[list[str], int]:
    """The names as a reader wants them, at most so many texts, and how many names are not in them.

    What is left over of a list of layers is written with its places in braces.

    >>> said(["b.0.w", "b.1.w", "b.2.w", "b.5.w", "head.w"], [f"b.{i}.w" for i in range(8)] + ["head.w"])
    (['b.{0–2, 5}.w ×4', 'head.w'], 0)
    """
    texts: dict[str, int] = {}
    single: dict[str, list[str]] = {}
    for pattern, count in globs(names, among):
        if count > 1:
            texts[f"{pattern} ×{count}"] = count
        else:
            name = pattern.replace("[[]", "[").replace("[*]", "*").replace("[?]", "?")
            single.setdefault(form(name), []).append(name)
    for key, members in single.items():
        places = [_NUMBER.findall(name) for name in members]
        varying = [i for i in range(len(places[0])) if len({p[i] for p in places}) > 1]
        if len(members) > 1 and len(varying) == 1:
            inside = f"{{{_ranges(sorted(int(p[varying[0]]) for p in places))}}}"
            numbers = iter([*places[0][: varying[0]], inside, *places[0][varying[0] + 1 :]])
            pieces = [next(numbers) if piece == "*" else piece for piece in key.split(".")]
            texts[f"{'.'.join(pieces)} ×{len(members)}"] = len(members)
        else:
            texts.update(dict.fromkeys(members, 1))
    shown = list(texts)[:most] if len(texts) > most else list(texts)
    return shown, sum(texts.values()) - sum(texts[text] for text in shown)


def _ranges(numbers: Sequence[int]) -> str:
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)
