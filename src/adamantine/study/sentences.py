"""What a comparison says in words: the answer, the advice and the rule of the basin, in two languages.

The logic chooses a template and its parts, once for both languages (:mod:`adamantine.report.phrases`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from adamantine.report.model import Comparison, Difference, MethodGrid
from adamantine.report.numbers import setting
from adamantine.report.phrases import Written, counted, fill, joined, same, term
from adamantine.report.words import Words
from adamantine.study import statistics
from adamantine.study.cell import Result
from adamantine.study.ranges import extended

RIVALS = 2  # that the answer names


def mean_test(method: MethodGrid) -> float:
    """The score by which methods are ranked; without one, last."""
    return method.at_best.mean if method.at_best else math.inf


def answer(comparison: Comparison) -> Words:
    """Who is best and by how much, or that nobody is; the intervals stand in the table of differences."""
    shown = Written.of(comparison)
    ranked = sorted((m for m in comparison.methods if m.at_best), key=mean_test)
    if not ranked:
        return Words(
            "No method has a setting that every seed finished.", "没有一种方法有所有种子都训练完成的设置。"
        )
    first = ranked[0]
    best = first.at_best
    assert best is not None
    parts: dict[str, str | Words] = {
        "first": first.name,
        "seeds": counted(len(first.judged), "seed"),
        "mean": shown(lambda s: s.mean(best)),
        "score": fill(Words("test {name}", "测试{name}"), name=term(comparison.score_name)),
    }
    behind = [d for d in comparison.differences if d.a == first.name]
    if not behind:
        return fill(
            Words(
                "{first} reaches {mean} {score} at its own best setting ({seeds}).",
                "{first} 在自己的最佳设置下，{score}为 {mean}（{seeds}）。",
            ),
            **parts,
        )
    undecided = [d for d in behind if d.verdict == statistics.UNDECIDED]
    decided = [d for d in behind if d.verdict != statistics.UNDECIDED]
    if not undecided:
        template = Words(
            "{first} is best: {mean} {score}, {decided}, beyond the spread of {seeds}.",
            "{first} 最好：{score} {mean}，{decided}，差距超出 {seeds}之间的波动。",
        )
        return fill(template, **parts, decided=_gaps(decided, shown))
    if not decided:
        within = all(d.estimate.low <= 0 <= d.estimate.high for d in undecided)
        doubt = (
            Words("is within the spread of {seeds}", "差距在 {seeds}之间的波动以内")
            if within
            else Words("decides nothing yet ({seeds}; see advice)", "还不足以下结论（{seeds}；见建议）")
        )
        template = Words(
            "Not decided: {first} comes out lowest with {mean} {score}, {gaps}, but that {doubt}.",
            "未能判定：{first} 的{score}最低（{mean}），{gaps}，但{doubt}。",
        )
        return fill(template, **parts, gaps=_gaps(undecided, shown), doubt=fill(doubt, **parts))
    template = Words(
        "{first} comes out lowest with {mean} {score}: decidedly, {decided}; not decided, {undecided} ("
        "{seeds}).",
        "{first} 的{score}最低（{mean}）：可以判定的是，{decided}；未能判定的是，{undecided}（{seeds}）。",
    )
    return fill(template, **parts, decided=_gaps(decided, shown), undecided=_gaps(undecided, shown))


def _gaps(differences: Sequence[Difference], shown: Written) -> Words:
    """By how much the first is below the others, the nearest ones by name."""
    level = shown.en.number(0.0)

    def gap(d: Difference) -> Words:
        if shown.en.number(abs(d.estimate.mean)) == level:
            return fill(Words("level with {b}", "与 {b} 持平"), b=d.b)
        apart = shown(lambda s: s.gap(d.estimate))
        return fill(Words("{gap} below {b}", "比 {b} 低 {gap}"), gap=apart, b=d.b)

    parts = [gap(d) for d in differences[:RIVALS]]
    if (rest := len(differences) - RIVALS) > 0:
        parts.append(
            fill(Words("more below {others}", "比另外 {others}低得更多"), others=counted(rest, "other"))
        )
    return joined(parts, Words(" and ", "，"))


def basin_rule(comparison: Comparison, tolerance: float, seeds: int) -> Words:
    """When a cell counts as inside the basin."""
    if seeds < 2:
        return Words(
            "A setting is in the basin when its validation score equals the best's: one seed has no spread.",
            "验证得分与最佳设置相同的设置属于盆地：只有一个种子，没有波动可言。",
        )
    return fill(
        Words(
            "A setting is in the basin when it is joined to the method's best by neighbours in the grid and "
            "its validation score is on average at most {noise} above the best's: the standard deviation "
            "over seeds that pairing by seed leaves among each method's best settings, pooled.",
            "一组设置属于盆地，是指它在网格中与该方法的最佳设置相邻接（可经由其他盆地内的设置），且验证得分"
            "平均最多比最佳设置高 {noise}：这是各方法最好的几组设置按种子配对之后余下的种子间标准差（合并估"
            "计）。",
        ),
        noise=Written.of(comparison)(lambda s: s.apart(tolerance)),
    )


def advice(comparison: Comparison, open_cells: int, failed: Sequence[Result]) -> tuple[Words, ...]:
    """Which setting to use, which grid to grow, what stays open; one sentence or two each."""
    lines: list[Words] = []
    if open_cells:
        lines.append(
            fill(
                Words(
                    "Not finished: {runs} still to do; the same command goes on.",
                    "尚未完成：还有 {runs}；用同一条命令继续即可。",
                ),
                runs=counted(open_cells, "run"),
            )
        )
    for method in comparison.methods:
        lines += _method_advice(method)
    lines += _pair_advice(comparison)
    for method in comparison.methods:
        unfinished = int(np.isnan(method.fresh).sum())
        if unfinished and not open_cells:
            lines.append(
                fill(
                    Words(
                        "{method}: {some} of {runs} at its best setting diverged or failed; its score is "
                        "over the others.",
                        "{method}：最佳设置下的 {runs}中有 {some} 次发散或失败；得分只按其余的计算。",
                    ),
                    method=method.name,
                    some=str(unfinished),
                    runs=counted(len(method.fresh), "fresh run"),
                )
            )
    for message in sorted({f"{result.cell.method}: {result.message}" for result in failed}):
        template = Words("Some runs failed and were left out: {message}", "有些训练失败，未计入：{message}")
        lines.append(fill(template, message=message))
    return tuple(lines)


def _method_advice(method: MethodGrid) -> list[Words]:
    chosen = method.chosen
    if chosen is None:
        if not method.diverged.any():
            return []
        template = Words(
            "{method}: every setting diverged for some seed ({runs}); lower --lr.",
            "{method}：每组设置都有种子发散（共 {runs}）；请调低 --lr。",
        )
        return [fill(template, method=method.name, runs=counted(int(method.diverged.sum()), "run"))]
    inside = int(method.basin.sum())
    if method.finest is not None:  # better than all of the grid, whose basin is that of its own best
        others = Words(
            "found between the grid's settings; {inside} of those {all} are in the basin of the grid's best",
            "在网格设置之间找到；{all} 组网格设置中有 {inside} 组在网格最佳设置的盆地里",
        )
    elif inside == 1:
        others = Words(
            "of the {all} settings of the grid, it alone is as good on validation",
            "网格的 {all} 组设置中，只有它在验证集上有这么好",
        )
    else:
        others = Words(
            "with it, {inside} of {all} settings are as good on validation",
            "连同它在内，{all} 组设置中有 {inside} 组在验证集上同样好",
        )
    lines = [
        fill(
            Words(
                "{method}: use lr={lr}, weight_decay={decay}; {others}.",
                "{method}：请用 lr={lr}, weight_decay={decay}；{others}。",
            ),
            method=method.name,
            lr=setting(chosen.lr),
            decay=setting(chosen.weight_decay),
            others=fill(others, inside=str(inside), all=str(method.basin.size)),
        )
    ]
    lines += [_edge_advice(method, edge) for edge in method.edges]
    if chosen.weight_decay == 0 and len(method.weight_decays) > 1:
        alike = Words("", "")
        if method.basin[:, 1:].any():
            alike = Words(" (some weight decay did as well)", "（有些权重衰减也同样好）")
        template = Words(
            "{method}: no weight decay did best here{alike}.",
            "{method}：在这里，不用权重衰减最好{alike}。",
        )
        lines.append(fill(template, method=method.name, alike=alike))
    return lines


_SIDES = {"low": Words("lowest", "最低"), "high": Words("highest", "最高")}
_AXES = {"lr": "--lr", "weight_decay": "--weight-decay"}


def _edge_advice(method: MethodGrid, edge: str) -> Words:
    """The best setting lies on the grid's edge: which option moves the edge away."""
    assert method.best is not None
    i, j = method.best
    axis, side = edge.split()
    values = method.lrs if axis == "lr" else method.weight_decays
    rim, inside = (values[0], 1) if side == "low" else (values[-1], len(values) - 2)
    flat = Words("", "")
    if method.basin[(inside, j) if axis == "lr" else (i, inside)]:
        flat = Words(
            " (the next value inside is as good, so little may be gained)",
            "（里面相邻的值同样好，所以收益可能不大）",
        )
    return fill(
        Words(
            "{method}: its best {axis}, {rim}, is the {side} tried{flat}; grow the grid: {option} "
            "'{spec}={wider}', or a larger --grow.",
            "{method}：最佳的 {axis} = {rim} 是试过的{side}值{flat}；请扩大网格：{option} '{spec}={wider}'，"
            "或者用更大的 --grow。",
        ),
        method=method.name,
        axis=axis,
        rim=setting(rim),
        side=_SIDES[side],
        flat=flat,
        option=_AXES[axis],
        spec=method.spec,
        wider=_wider(values, side),
    )


def _pair_advice(comparison: Comparison) -> list[Words]:
    if not comparison.differences:
        return []
    lines = []
    edged = [same(m.name) for m in comparison.methods if m.edges]
    if edged:
        template = Words(
            "{methods}: not called worse than any other while its best is on its grid's edge.",
            "{methods}：最佳设置还在网格边缘时，不判它比别的方法差。",
        )
        lines.append(fill(template, methods=joined(edged, Words(", ", "、"))))
    first = comparison.differences[0]  # of the two with the lowest scores
    needed = statistics.seeds_to_decide(first.estimate)
    if first.verdict == statistics.UNDECIDED and needed and needed > first.estimate.n:
        template = Words(
            "A true difference as large as that seen between {a} and {b} would be decided four times in five "
            "with about {needed} seeds ({option} {needed}). Choose the number once: to add seeds until "
            "something is decided finds differences that are not there.",
            "如果 {a} 与 {b} 之间真有看到的这么大的差距，那么大约 {needed} 个种子（{option} {needed}）在五次"
            "中有四次能判定。种子数只定一次：一直加种子直到“判定”为止，会找到并不存在的差距。",
        )
        option = "--confirm" if any(m.fresh_seeds for m in comparison.methods) else "--seeds"
        lines.append(fill(template, a=first.a, b=first.b, needed=str(needed), option=option))
    if len(comparison.differences) > 1:
        lines.append(
            Words(
                "Verdicts hold for all pairs together (Holm), each 95 % interval for its own pair. Both "
                "speak of other seeds on these data, not of other data.",
                "判定对所有配对同时成立（Holm 方法），每个 95 % 区间只对它自己的配对成立。两者说的都是同一数"
                "据上的其他种子，而不是其他数据。",
            )
        )
    return lines


def _wider(values: tuple[float, ...], side: str) -> str:
    """The axis with two more values on one side, as ``--lr`` and ``--weight-decay`` take it."""
    return ",".join(f"{value:g}" for value in extended(extended(values, side), side))
