"""Parameter groups with the decision behind every parameter."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, get_args

from adamantine.groups.depths import Depth, model_depths, stated_depths
from adamantine.groups.reasons import Embeddings, Verdict, forced, judge, listed_by_model


@dataclass(frozen=True)
class Decision:
    """What was decided about one parameter.

    Attributes:
        name: its first name in the model.
        shape: its shape.
        decays: whether weight decay acts on it.
        reason: why, in a few words.
        lr: learning rate of its group; 0 if frozen.
        weight_decay: weight decay of its group; 0 if it does not decay.
        numel: number of elements.
        aliases: other names of the same (tied) parameter.
        group: index of its group, None if frozen and therefore in no group.
    """

    name: str
    shape: tuple[int, ...]
    decays: bool
    reason: str
    lr: float
    weight_decay: float
    numel: int
    aliases: tuple[str, ...] = ()
    group: int | None = None


class ParamGroups(list[dict[str, Any]]):
    """Parameter groups as torch optimizers take them, and the decision behind each parameter.

    A torch optimizer keeps and edits the dicts it is given: make new groups for each optimizer.

    Attributes:
        decisions: one per parameter in the model's order, the frozen ones included.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], decisions: Iterable[Decision]) -> None:
        super().__init__(groups)
        self.decisions = tuple(decisions)

    def table(self) -> str:
        """One line per parameter, aligned, and a summary below."""
        head = ("group", "name", "shape", "decays", "lr", "weight_decay", "reason")
        rows = [head, *(_row(decision) for decision in self.decisions)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        rows.insert(1, tuple("-" * width for width in widths))
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        return "\n".join([*lines, "", self.summary()])

    def summary(self) -> str:
        """How many parameters and elements decay, in one line."""
        trained = [d for d in self.decisions if d.group is not None]
        decaying = [d for d in trained if d.decays]
        elements, total = sum(d.numel for d in decaying), sum(d.numel for d in trained)
        share = f", {elements / total:.1%}" if total else ""
        return (
            f"{len(decaying)} of {len(trained)} parameters decay "
            f"({elements:,} of {total:,} elements{share}); "
            f"frozen: {len(self.decisions) - len(trained)}; groups: {len(self)}"
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.summary()}>"


def param_groups(
    model: Any,
    *,
    lr: float,
    weight_decay: float,
    embeddings: Embeddings = "no_decay",
    no_decay: Sequence[str] = (),
    decay: Sequence[str] = (),
    layer_decay: float | None = None,
    depth: Depth | None = None,
) -> ParamGroups:
    """Groups with and without decay for a ``torch.nn.Module``; `adamantine.groups.reasons` has the rules.

    Patterns are ``fnmatch`` patterns on whole names (``"blocks.*.gate"``, ``"*.bias"``); they win over every
    rule. A tied parameter comes once, under its first name. If one of its uses must not decay (an embedding
    that is also the output head), it does not, since decay would act on all uses; ``decay=[name]`` overrides
    that. Frozen parameters are listed in the decisions and are in no group.

    Args:
        model: the module. Call this before FSDP1 wraps it, which flattens the shapes.
        lr: learning rate (peak) of every group, or of the deepest one under ``layer_decay``.
        weight_decay: λ of the groups that decay, in the unit of the optimizer's decay mode.
        embeddings: ``"no_decay"`` or ``"decay"`` for embedding and position tables.
        no_decay: patterns of further parameters without decay.
        decay: patterns of parameters that decay whatever the rules say.
        layer_decay: factor in (0, 1] per layer: lr·layer_decay^(deepest - depth).
        depth: depth of a parameter, as ``name -> depth`` or as ``{pattern: depth}``, first match first. None
            reads it from the model's Sequentials and ModuleLists (`adamantine.groups.depths`).

    Returns:
        Groups with ``params`` as (name, parameter) pairs (torch >= 2.6), ``lr`` and ``weight_decay``, by
        rising lr, decaying before not decaying.

    Raises:
        ValueError: a pattern that matches nothing; a parameter matched by both kinds; a number out of range;
            nothing to train; no layers to read the depth from; parameters already flattened by FSDP1, or
            not yet initialized (lazy modules).

    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.LayerNorm(8), torch.nn.Linear(8, 2))
    >>> groups = param_groups(model, lr=1e-3, weight_decay=0.1)
    >>> print(groups.table())
    group  name      shape  decays  lr     weight_decay  reason
    -----  --------  -----  ------  -----  ------------  -------------------------
    0      0.weight  8×4    yes     0.001  0.1           weight of Linear (2-D)
    1      0.bias    8      no      0.001  0             bias
    1      1.weight  8      no      0.001  0             normalization (LayerNorm)
    1      1.bias    8      no      0.001  0             normalization (LayerNorm)
    0      2.weight  2×8    yes     0.001  0.1           weight of Linear (2-D)
    1      2.bias    2      no      0.001  0             bias
    <BLANKLINE>
    2 of 6 parameters decay (48 of 74 elements, 64.9%); frozen: 0; groups: 2
    >>> optimizer = torch.optim.AdamW(groups)
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    named = list(model.named_parameters(remove_duplicate=False))
    names = [name for name, _ in named]
    _check_numbers(lr, weight_decay, embeddings, layer_decay)
    _check_model(named)
    _check_patterns("no_decay", no_decay, names)
    _check_patterns("decay", decay, names)
    uses: dict[int, tuple[Any, list[str]]] = {}
    for name, parameter in named:
        uses.setdefault(id(parameter), (parameter, []))[1].append(name)

    lrs = _layer_lrs(lr, layer_decay, depth, modules, named)
    listed = listed_by_model(modules, names)
    verdicts: list[tuple[Any, list[str], Verdict]] = []
    for parameter, aliases in uses.values():
        verdict = forced(aliases, decay, no_decay) or judge(parameter, aliases, modules, listed, embeddings)
        verdicts.append((parameter, aliases, verdict))
    keys = sorted({(lrs[a[0]], not verdict.decays) for p, a, verdict in verdicts if p.requires_grad})
    groups = ParamGroups(
        ({"params": [], "lr": own, "weight_decay": 0.0 if spared else weight_decay} for own, spared in keys),
        (),
    )
    decisions = []
    for parameter, (name, *others), verdict in verdicts:
        index = keys.index((lrs[name], not verdict.decays)) if parameter.requires_grad else None
        if index is not None:
            groups[index]["params"].append((name, parameter))
        shape = tuple(parameter.shape)
        decisions.append(
            Decision(
                name=name,
                shape=shape,
                decays=verdict.decays and index is not None,
                reason=verdict.reason if index is not None else "frozen: requires_grad is False",
                lr=0.0 if index is None else groups[index]["lr"],
                weight_decay=0.0 if index is None else groups[index]["weight_decay"],
                numel=math.prod(shape),
                aliases=tuple(others),
                group=index,
            )
        )
    groups.decisions = tuple(decisions)
    return groups


def _layer_lrs(
    lr: float, layer_decay: float | None, depth: Depth | None, modules: Any, named: Sequence[tuple[str, Any]]
) -> dict[str, float]:
    """The lr of every parameter by name."""
    names = [name for name, _ in named]
    if layer_decay is None:
        if depth is not None:
            raise ValueError("depth has no effect without layer_decay; pass layer_decay too, such as 0.75")
        return dict.fromkeys(names, lr)
    if depth is None:
        depths = model_depths(modules, named)
    else:
        if not callable(depth):
            _check_patterns("depth", list(depth), names)
        depths = stated_depths(depth, names)
    deepest = max(depths.values())
    return {name: lr * layer_decay ** (deepest - depths[name]) for name in names}


def _check_numbers(lr: float, weight_decay: float, embeddings: str, layer_decay: float | None) -> None:
    for option, value in {"lr": lr, "weight_decay": weight_decay}.items():
        if not _within(value, lambda x: 0.0 <= x < math.inf):
            raise ValueError(f"Invalid {option}: {value!r}; it must be a number, finite and >= 0")
    if embeddings not in get_args(Embeddings):
        raise ValueError(f"Invalid embeddings: {embeddings!r}; choose 'decay' or 'no_decay'")
    if layer_decay is not None and not _within(layer_decay, lambda x: 0.0 < x <= 1.0):
        raise ValueError(f"Invalid layer_decay: {layer_decay!r}; it must be a number in (0, 1]")


def _within(value: Any, bounds: Callable[[Any], bool]) -> bool:
    """Whether the value is a number and within the bounds."""
    try:
        return bool(bounds(value))
    except TypeError:
        return False


def _check_model(named: Sequence[tuple[str, Any]]) -> None:
    if not any(parameter.requires_grad for _, parameter in named):
        raise ValueError("the model has no parameter with requires_grad=True: nothing to optimize")
    for name, parameter in named:
        if any(cls.__name__ == "UninitializedTensorMixin" for cls in type(parameter).__mro__):
            raise ValueError(
                f"{name} belongs to a lazy module and has no shape yet; run one forward pass before grouping"
            )
        if not {"_flat_param", "_fsdp_wrapped_module"}.isdisjoint(name.split(".")):
            raise ValueError(
                f"{name} is flattened by FSDP1, so its shape no longer tells a matrix from a vector; "
                "use torch's fully_shard, which keeps the shapes"
            )


def _check_patterns(option: str, patterns: Sequence[str], names: Sequence[str]) -> None:
    """Refuse a pattern that matches nothing: a slip of the pen would silently change the training."""
    if isinstance(patterns, str):
        raise TypeError(
            f"{option} must be a sequence of patterns, got the text {patterns!r}: write [{patterns!r}]"
        )
    for pattern in patterns:
        if any(fnmatchcase(name, pattern) for name in names):
            continue
        inside = sum(fnmatchcase(name, f"*{pattern}*") for name in names)
        hint = f"'*{pattern}*' would match {inside}" if inside else "a pattern must match the whole name"
        close = difflib.get_close_matches(pattern, names, n=3, cutoff=0.5)
        if close:
            hint += f"; close names: {', '.join(close)}"
        raise ValueError(f"{option} pattern {pattern!r} matches no parameter; {hint}")


def _row(decision: Decision) -> tuple[str, ...]:
    frozen = decision.group is None
    return (
        "-" if frozen else str(decision.group),
        decision.name,
        "×".join(map(str, decision.shape)) or "scalar",
        "frozen" if frozen else "yes" if decision.decays else "no",
        "-" if frozen else f"{decision.lr:g}",
        "-" if frozen else f"{decision.weight_decay:g}",
        decision.reason,
    )
