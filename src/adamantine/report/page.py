"""The report page: from a comparison, or the article's claims, to HTML that needs nothing else."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from adamantine.report.article import OPTIMIZERS
from adamantine.report.basin import RULE
from adamantine.report.claimmodel import ClaimResult
from adamantine.report.claimtable import ClaimView, answer_of, headings, tally
from adamantine.report.curves import has_curves, quantities
from adamantine.report.figures import order_by_test
from adamantine.report.heatmap import shared_norm
from adamantine.report.html import HERE, rendered
from adamantine.report.model import Comparison, MethodGrid
from adamantine.report.numbers import printable
from adamantine.report.phrases import Written, counted, fill, scores_of, term
from adamantine.report.svgchart import curves_chart, scores_chart
from adamantine.report.svgmap import Maps
from adamantine.report.tables import (
    DECAYS,
    ArticleTable,
    DifferenceView,
    MethodView,
    SeparabilityTable,
    not_measured,
    score_names,
)
from adamantine.report.words import Language, Words

_SCRIPTS = ((HERE, "copy.js"), (HERE, "map.js"))

#: An option in a text, with its quoted argument if it has one.
_OPTION = re.compile(r"((?<![\w-])--[a-z][a-z-]*[a-z](?: '[^']*')?)")

#: Of the manifest, shown in this order before anything else.
_RUN_FACTS = {
    "seeds": Words("seeds", "种子"),
    "fresh seeds": Words("fresh seeds", "新种子"),
    "versions": Words("versions", "版本"),
    "machine": Words("machine", "机器"),
}


def page(comparison: Comparison, language: Language = "en", claims: Sequence[ClaimResult] = ()) -> str:
    """The page of a comparison, with the claims where some are given: no network, no other file."""
    scores = scores_of(comparison, language)
    methods = [MethodView.of(comparison, i, language) for i in range(len(comparison.methods))]
    order = order_by_test(comparison.methods)
    first = comparison.methods[order[0]].name if order else ""
    leading = [d for d in comparison.differences if first in (d.a, d.b)] or list(comparison.differences)
    maps = Maps(comparison, shared_norm(comparison.methods), language)
    shown = [q for q in quantities(Written.of(comparison)) if has_curves(comparison.methods, q)]
    article = ArticleTable.of(comparison, methods, language)
    advice = [with_options(line.of(language)) for line in comparison.advice]
    separability = SeparabilityTable.of(comparison, language)
    return rendered(
        "report.html",
        language,
        scripts=_SCRIPTS,
        task=comparison.task,
        task_title=term(comparison.task_title or comparison.task).of(language),
        answer=comparison.answer.of(language),
        scores=scores,
        advice=advice,
        basin_rule=comparison.basin_rule.of(language),
        width_rule=RULE.of(language),
        facts=_facts(comparison, language),
        contents=_contents(
            language, bool(methods), bool(advice), article, separability.methods, shown, claims
        ),
        methods=[methods[i] for i in order],
        headings=_method_headings(scores.name, language),
        drawn=[m for m in methods if comparison.methods[m.index].curves is not None],
        differences=[DifferenceView.of(d, scores) for d in leading],
        other_differences=[DifferenceView.of(d, scores) for d in comparison.differences if d not in leading],
        more_pairs=_more(len(comparison.differences) - len(leading), language),
        article=article,
        absent=_absent(comparison),
        decays=_decays(comparison, language),
        maps={m.index: {"λ": maps.draw(m.index, "λ"), "γ": maps.draw(m.index, "γ")} for m in methods},
        colour_key=maps.colour_key() if methods else "",
        test_scores=scores_chart(comparison, order, language) if methods else "",
        separability=separability,
        score_names=score_names(language),
        curves=[(_caption(q.label.of(language)), curves_chart(comparison, q, language)) for q in shown],
        judged=any(m.at_best for m in comparison.methods),
        refined=any(m.finer for m in comparison.methods),
        judged_afresh=any(m.fresh_seeds for m in comparison.methods),
        reproduction=Reproduction.of(comparison.manifest, language),
        **_claims(claims, language),
    )


def claims_page(claims: Sequence[ClaimResult], language: Language = "en", command: str = "") -> str:
    """The page of a run of the claims alone."""
    return rendered(
        "claims-page.html",
        language,
        scripts=_SCRIPTS,
        answer=answer_of(claims).of(language),
        reproduction=Reproduction(printable(command), [], ""),
        **_claims(claims, language),
    )


def _claims(claims: Sequence[ClaimResult], language: Language) -> dict[str, Any]:
    return {
        "claims": [ClaimView.of(claim, language) for claim in claims],
        "tally": tally(claims, language),
        "claim_headings": headings(language),
    }


def _contents(language: Language, methods: bool, *parts: object) -> list[tuple[str, str]]:
    """Anchors and names of the page's parts, of those that it has."""
    advice, article, separability, training, claims = parts
    every = (
        (advice, "advice", Words("What to do", "怎么做")),
        (methods, "methods", Words("Best settings", "最佳设置")),
        (article, "article", Words("The article's table", "文章的对比表")),
        (methods, "heatmaps", Words("Heat maps", "热图")),
        (separability, "separability", Words("Separability", "可分性")),
        (training, "curves", Words("Training", "训练过程")),
        (claims, "claims", Words("Claims", "论断")),
        (True, "reading", Words("How to read this", "怎样读")),
        (True, "reproduce", Words("How to reproduce", "如何复现")),
    )
    return [(anchor, words.of(language)) for there, anchor, words in every if there]


def _method_headings(score: str, language: Language) -> list[str]:
    return [
        words.of(language)
        for words in (
            Words("Method", "方法"),
            fill(Words("Test {score}", "测试{score}"), score=score),
            Words("Learning rate η", "学习率 η"),
            Words("Weight decay λ", "权重衰减 λ"),
            Words("Per step γ", "每步衰减 γ"),
            Words("Timescale τ", "时间尺度 τ"),
            Words("Decay mode", "衰减方式"),
            Words("Basin", "盆地"),
            Words("Diverged", "发散"),
        )
    ]


def _absent(comparison: Comparison) -> list[object]:
    """The article's optimizers that the run has not got, where it has any of them at all."""
    missing = not_measured(comparison)
    return list(missing) if len(missing) < len(OPTIMIZERS) else []


def _decays(comparison: Comparison, language: Language) -> list[tuple[str, str]]:
    """Names and meanings of the modes that occur."""
    modes = dict.fromkeys(m.decay for m in comparison.methods if m.decay in DECAYS)
    return [(DECAYS[mode][0].of(language), DECAYS[mode][1].of(language)) for mode in modes]


def _facts(comparison: Comparison, language: Language) -> list[str]:
    """How much the answer rests on."""
    methods = comparison.methods
    seeds = sorted({len(m.seeds) for m in methods})
    facts = [counted(len(methods), "method"), counted(sum(m.basin.size for m in methods), "setting")]
    if len(seeds) == 1:
        facts.append(counted(seeds[0], "seed"))
    elif seeds:
        facts.append(fill(Words("{a} to {b} seeds", "{a} 至 {b} 个种子"), a=str(seeds[0]), b=str(seeds[-1])))
    if fresh := max((len(m.fresh_seeds) for m in methods), default=0):
        facts.append(
            fill(Words("{seeds} to judge by", "{seeds}用于评判"), seeds=counted(fresh, "fresh seed"))
        )
    if missing := sum(_undone(m) for m in methods):
        facts.append(fill(Words("{runs} not done yet", "还有 {runs}未完成"), runs=counted(missing, "run")))
    return [fact.of(language) for fact in facts]


def _more(pairs: int, language: Language) -> str:
    return Words(f"{pairs} more pair{'' if pairs == 1 else 's'}", f"其余 {pairs} 个配对").of(language)


def _caption(label: str) -> str:
    return label[:1].upper() + label[1:]


def _undone(method: MethodGrid) -> int:
    return int((np.isnan(method.validation) & ~method.diverged).sum())


def with_options(text: str) -> Markup:
    """Advice with its command-line options as code that no line break tears apart after a hyphen; an
    argument's list may break after its commas.

    >>> print(with_options("grow it: --lr 'Adam=1e-4,1e-3' (or --seeds) <b>"))
    grow it: <code class="nowrap">--lr &#39;Adam=1e-4,<wbr>1e-3&#39;</code> \
(or <code class="nowrap">--seeds</code>) &lt;b&gt;
    """
    parts = _OPTION.split(printable(text))
    options = [
        Markup('<code class="nowrap">{}</code>').format(Markup(",<wbr>").join(option.split(",")))
        for option in parts[1::2]
    ]
    plain = [escape(part) for part in parts[::2]]
    return Markup("").join(word for pair in zip(plain, [*options, ""], strict=True) for word in pair)


@dataclass(frozen=True)
class Reproduction:
    """What the manifest says about how to get the same numbers."""

    command: str
    facts: list[tuple[str, str]]
    manifest: str  # everything, as JSON

    @classmethod
    def of(cls, manifest: Mapping[str, Any], language: Language) -> Reproduction:
        command = manifest.get("command", "")
        if isinstance(command, list | tuple):
            command = shlex.join(str(word) for word in command)
        facts = [
            (words.of(language), _in_words(manifest[key]))
            for key, words in _RUN_FACTS.items()
            if manifest.get(key)
        ]
        everything = json.dumps(dict(manifest), indent=2, ensure_ascii=False, default=str) if manifest else ""
        return cls(printable(str(command)), facts, everything)


def _in_words(value: Any) -> str:
    """A manifest's value on one line.

    >>> _in_words({"torch": "2.13.0", "numpy": "2.4.6"}), _in_words([0, 1, 2])
    ('torch 2.13.0, numpy 2.4.6', '0, 1, 2')
    """
    if isinstance(value, Mapping):
        return ", ".join(f"{printable(str(key))} {_in_words(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_in_words(item) for item in value)
    return printable(str(value))
