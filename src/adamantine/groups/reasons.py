"""The rules for one parameter: does weight decay act on it, and why.

Weight decay is meant for the matrices that multiply features. It is kept from

- biases, scalars and every other vector (one dimension; or one long side, as in ``(1, C, 1, 1)``, and not the
  weight of a known layer): they set offsets and scales, and pulling those to 0 distorts the function instead
  of simplifying it;
- normalization parameters, found by the *type* of the module that holds them (``LayerNorm``,
  ``LlamaRMSNorm``, ``BatchNorm2d``, ... anywhere among its base classes), else by *name*, else by *shape*;
- gains and scales (``gamma``, ``gain``, ``scale``, LayerScale), by name and of any shape: pulling them to 0
  switches features off, as it would in a normalization;
- embedding tables, unless ``embeddings="decay"``: decoupled decay shrinks every row at every step, while the
  row of a rare token hardly ever gets a gradient, so rare tokens are forgotten; and small embeddings make the
  gradients of the first layers large (OLMo 2, arXiv 2501.00656, trains them without decay for stability);
- what the model itself lists: ``no_weight_decay()`` and ``no_weight_decay_keywords()`` (timm, Swin), and
  parameters marked ``_no_weight_decay`` (state-space models).

Both halves of a weight_norm w = g·v/‖v‖ decay: shrinking g shrinks w by the same factor, and v is in the
position of any weight before a normalization, whose decay keeps its norm from growing without end.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Literal, NamedTuple

Embeddings = Literal["decay", "no_decay"]
#: What a parameter was taken for. ``matrix`` is all that multiplies features, convolutions and weight_norm's
#: halves too; ``listed``: the model says no; ``stated``: the caller says so.
Kind = Literal["matrix", "norm", "bias", "vector", "scalar", "scale", "table", "listed", "stated"]

# The head noun of an English compound comes last: NormLinear is a Linear, ConvLayerNorm is a Norm.
_HEAD_NOUN = re.compile(
    r"(?P<norm>(?:N|[Rr]en)orm(?:alization)?(?![a-z]))"
    r"|(?P<table>Embeddings?(?:Bag)?(?![a-z])|Position(?:al)?Encoding)"
    r"|(?P<matrix>Linear|Bilinear|Conv|RNN|LSTM|GRU|Dense(?![a-z])|Proj(?:ection)?(?![a-z])|MultiheadAttention)"
    r"|(?P<other>Layer|Block|Model|Net(?![a-z])|Head(?![a-z])|MLP|FFN|[Ff]ormer|Encoder|Decoder|Attention)"
)

# Whole names of a parameter, or of the module that holds it, in lower case.
_BIAS = re.compile(r"(?:.*_)?bias(?:es)?(?:_[ih]h(?:_l\d+)?(?:_reverse)?|_[a-z])?")
_TABLE = re.compile(
    r"(?:.*_)?(?:emb|embed(?:ding)?s?|tokens?)(?:_?\d+|_[a-z]|_win(?:dow)?)?"
    r"|rel(?:ative)?_pos.*|(?:.*_)?pos(?:ition(?:al)?)?(?:_(?:table|bias|enc(?:oding)?s?))?|wpe|wte"
)
_NORM = re.compile(
    r"(?:.*_)?(?:(?:layer|group|batch|instance|rms|ada)_?norm|norm|ln|bn|gn|grn)"
    r"(?:_?\d+)?(?:_(?:\d+|[a-z]|weight|scale|gain|pre|post|before|after|in|out|final))?"
)
_SCALE = re.compile(r"(?:.*_)?(?:gamma|beta|gain|(?:layer)?scales?|ls)(?:_?\d+)?")


class Verdict(NamedTuple):
    """Whether weight decay acts on a parameter, why, and what the parameter was taken for."""

    decays: bool
    reason: str
    kind: Kind


class _Site(NamedTuple):
    """One place where a parameter is registered."""

    attribute: str  # its own name there: weight, in_proj_bias
    module: str  # the name of the module that holds it: ln_1; "" at the root
    types: tuple[str, ...]  # class names of that module, most derived first
    part: str  # "magnitude" or "direction" of a weight_norm, else ""


def forced(names: Sequence[str], decay: Sequence[str], no_decay: Sequence[str]) -> Verdict | None:
    """The user's own word on the parameter of these names, None if no pattern matches.

    Raises:
        ValueError: patterns of both kinds match.
    """
    decides = [pattern for pattern in decay if any(fnmatchcase(name, pattern) for name in names)]
    spares = [pattern for pattern in no_decay if any(fnmatchcase(name, pattern) for name in names)]
    if decides and spares:
        raise ValueError(
            f"{names[0]} matches decay={decides[0]!r} and no_decay={spares[0]!r}; make one of them narrower"
        )
    if decides:
        return Verdict(True, f"decay={decides[0]!r}", "stated")
    return Verdict(False, f"no_decay={spares[0]!r}", "stated") if spares else None


def listed_by_model(modules: Mapping[str, Any], names: Sequence[str]) -> dict[str, str]:
    """Names that a module of the model wants without decay, with the reason.

    The outermost module's list counts, and that of any module inside (a backbone in a detector, a model in
    DistributedDataParallel): its names are relative to it.
    """
    found: dict[str, str] = {}
    for prefix, module in modules.items():
        for attribute in ("no_weight_decay", "no_weight_decay_keywords"):
            words = _words(getattr(module, attribute, None))
            inside = f"{prefix}." if prefix else ""
            for name in names if words else ():
                if not name.startswith(inside):
                    continue
                relative = name.removeprefix(inside)
                for word in words:
                    if fnmatchcase(relative, word) if attribute == "no_weight_decay" else word in relative:
                        found.setdefault(name, f"the model's {attribute} lists {word!r}")
    return found


def _words(entry: Any) -> tuple[str, ...]:
    """What a list of that name holds. Something else of the same name (a flag, a function of other arguments)
    is no list."""
    try:
        words = entry() if callable(entry) else entry
    except TypeError:
        return ()
    listed = isinstance(words, Iterable) and not isinstance(words, str)
    return tuple(word for word in words if isinstance(word, str)) if listed else ()


def judge(
    parameter: Any,
    names: Sequence[str],
    modules: Mapping[str, Any],
    listed: Mapping[str, str],
    embeddings: Embeddings,
) -> Verdict:
    """The verdict over all names of one parameter: no decay if any of its uses must not decay."""
    if getattr(parameter, "_no_weight_decay", False):
        return Verdict(False, "marked _no_weight_decay by the model", "listed")
    shape = tuple(parameter.shape)
    uses = [
        Verdict(False, listed[name], "listed")
        if name in listed
        else _rule(_site(name, modules), shape, embeddings)
        for name in names
    ]
    decays, reason, kind = next((use for use in uses if not use.decays), uses[0])
    if len(names) > 1:
        reason += f"; tied with {', '.join(names[1:])}"
    if any(use.decays != decays for use in uses):
        reason += ", and the use without decay decides"
    return Verdict(decays, reason, kind)


def _site(name: str, modules: Mapping[str, Any]) -> _Site:
    """Look through torch's parametrizations and parameter lists to the module that really uses it."""
    *path, attribute = name.split(".")
    part = ""
    if len(path) >= 2 and path[-2] == "parametrizations" and attribute.startswith("original"):
        part = {"original0": "magnitude", "original1": "direction"}.get(attribute, "")
        *path, _, attribute = path
    elif attribute in {"weight_g", "weight_v"}:
        part = "magnitude" if attribute == "weight_g" else "direction"
    while attribute.isdigit() and path:
        *path, attribute = path
    types = tuple(cls.__name__ for cls in type(modules[".".join(path)]).__mro__)
    return _Site(attribute, path[-1] if path else "", types, part)


def _kind(types: Sequence[str]) -> str:
    """``"norm"``, ``"table"``, ``"matrix"``, or ``""`` where no class tells; the nearest class decides."""
    for name in types:
        nouns = [match.lastgroup or "" for match in _HEAD_NOUN.finditer(name)]
        if nouns:
            return "" if nouns[-1] == "other" else nouns[-1]
    return ""


def _rule(site: _Site, shape: tuple[int, ...], embeddings: Embeddings) -> Verdict:
    """The verdict on a parameter at this site. The first rule that applies gives the reason."""
    attribute, owner = site.attribute.lower(), site.types[0]
    kind = _kind(site.types)
    layer_weight = kind in {"matrix", "table"} and attribute.startswith("weight")
    is_vector = sum(side > 1 for side in shape) <= 1
    if kind == "norm":
        return Verdict(False, f"normalization ({owner})", "norm")
    if _BIAS.fullmatch(attribute):
        return Verdict(False, "bias", "bias")
    if not shape:
        return Verdict(False, "scalar", "scalar")
    if len(shape) == 1:
        return Verdict(False, "vector (1-D)", _kind_of_vector(site, kind))
    if kind == "table" or (not layer_weight and _TABLE.fullmatch(attribute)):
        what = f"embedding table ({owner if kind == 'table' else site.attribute})"
        if embeddings == "no_decay":
            return Verdict(False, what, "table")
        if layer_weight or not is_vector:
            return Verdict(True, f"{what}, embeddings='decay'", "table")
    if not layer_weight:
        for text in (site.attribute, "" if kind else site.module):  # a known layer may be called anything
            if _NORM.fullmatch(text.lower()):
                return Verdict(False, f"normalization by name ({text})", "norm")
        if _SCALE.fullmatch(attribute):
            return Verdict(False, f"scale by name ({site.attribute})", "scale")
        if is_vector:
            return Verdict(False, "vector in broadcast shape", "vector")
    if site.part == "magnitude":
        return Verdict(
            True, "weight_norm magnitude: it scales the weight, so its decay is the weight's", "matrix"
        )
    if site.part == "direction":
        return Verdict(True, "weight_norm direction: decays as a weight before a normalization", "matrix")
    return Verdict(True, f"{site.attribute} of {owner} ({len(shape)}-D)", "matrix")


def _kind_of_vector(site: _Site, kind: str) -> Kind:
    """What a vector of a class that tells nothing may be, by its name or its module's."""
    texts = [site.attribute.lower(), "" if kind else site.module.lower()]
    if any(_NORM.fullmatch(text) for text in texts):
        return "norm"
    return "scale" if _SCALE.fullmatch(texts[0]) else "vector"
