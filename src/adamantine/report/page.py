"""The report page: what the template shows, and how everything gets onto the disk."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup, escape

from adamantine.report.basin import RULE, widths
from adamantine.report.figures import Panels, figure_files, order_by_test
from adamantine.report.files import write_atomic
from adamantine.report.model import Comparison, Difference, MethodGrid
from adamantine.report.numbers import Scores, counted, printable, setting
from adamantine.report.theme import Stroke, roles, stroke

_EDGES = {
    "lr low": "best at the lowest learning rate of its grid",
    "lr high": "best at the highest learning rate of its grid",
    "weight_decay low": "best at the lowest weight decay of its grid",
    "weight_decay high": "best at the highest weight decay of its grid",
}

_DECAYS = {
    "none": "No decay: λ is not used.",
    "l2": "The penalty λ‖θ‖²/2 is part of the loss: λθ joins the gradient and goes through the update rule.",
    "decoupled": "Every step multiplies the weights by 1 − ηλ, outside the update rule.",
    "independent": "Every step multiplies the weights by 1 − (η/η_max)λ: it follows the schedule, not the "
    "size of the learning rate.",
    "corrected": "Every step multiplies the weights by 1 − (η²/η_max)λ.",
    "cautious": "Like decoupled, only where the update does not already grow the weight.",
}

#: An option in a text, with its quoted argument if it has one.
_OPTION = re.compile(r"((?<![\w-])--[a-z][a-z-]*[a-z](?: '[^']*')?)")

#: Of the manifest, shown in this order before anything else.
_RUN_FACTS = ("seeds", "fresh seeds", "versions", "machine")


def write(comparison: Comparison, out_dir: Path) -> None:
    """Write figures and page; see `adamantine.report.render`."""
    (out_dir / "figures").mkdir(parents=True, exist_ok=True)
    for name, content in figure_files(comparison):
        write_atomic(out_dir / "figures" / name, content)
    write_atomic(out_dir / "report.html", page(comparison).encode(errors="replace"))


def page(comparison: Comparison) -> str:
    """The page as HTML that needs nothing else: no network, no other file."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("adamantine.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = resources.files("adamantine.report").joinpath("templates/copy.js").read_text(encoding="utf-8")
    scores = Scores.of(comparison)
    panels = Panels(comparison)
    methods = [MethodView.of(m, i, scores) for i, m in enumerate(comparison.methods)]
    order = order_by_test(comparison.methods)
    first = comparison.methods[order[0]].name if order else ""
    leading = [d for d in comparison.differences if first in (d.a, d.b)] or list(comparison.differences)
    return environment.get_template("report.html").render(
        comparison=comparison,
        scores=scores,
        advice=[with_options(line.en) for line in comparison.advice],
        width_rule=RULE,
        facts=_facts(comparison),
        methods=[methods[i] for i in order],
        drawn=[m for m in methods if comparison.methods[m.index].curves is not None],
        differences=[DifferenceView.of(d, scores) for d in leading],
        other_differences=[DifferenceView.of(d, scores) for d in comparison.differences if d not in leading],
        decays={m.decay: _DECAYS[m.decay] for m in comparison.methods if m.decay in _DECAYS},
        heatmaps={m.index: Markup(panels.heatmap(m.index)) for m in methods},
        colour_bar=Markup(panels.colour_bar()),
        test_scores=Markup(panels.test_scores()),
        curves=[(q, Markup(drawing)) for q, drawing in panels.curves()],
        judged_afresh=any(m.fresh_seeds for m in comparison.methods),
        reproduction=Reproduction.of(comparison.manifest),
        theme_roles=roles(),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _facts(comparison: Comparison) -> list[str]:
    """How much the answer rests on."""
    methods = comparison.methods
    seeds = sorted({len(m.seeds) for m in methods})
    facts = [counted(len(methods), "method"), counted(sum(m.basin.size for m in methods), "setting")]
    if seeds:
        facts.append(counted(seeds[0], "seed") if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds")
    if fresh := max((len(m.fresh_seeds) for m in methods), default=0):
        facts.append(f"{counted(fresh, 'fresh seed')} to judge by")
    missing = sum(int((np.isnan(m.validation) & ~m.diverged).sum()) for m in methods)
    if missing:
        facts.append(f"{counted(missing, 'run')} not done yet")
    return facts


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
class MethodView:
    """One method's row of the table, in words."""

    index: int  # place in the comparison: gives colour and panel
    name: str
    spec: str  # what the command line took, where it says more than the name
    stroke: Stroke
    decay: str
    decay_label: str
    lr: str
    weight_decay: str
    score: str
    interval: str
    seeds: str
    basin: str
    basin_lrs: str
    basin_decays: str
    diverged: str
    any_diverged: bool
    edges: list[str]
    validation: str  # mean validation score at the best setting

    @classmethod
    def of(cls, method: MethodGrid, index: int, scores: Scores) -> MethodView:
        best, cells = method.best, method.basin.size
        diverged = int(method.diverged.any(axis=2).sum())
        has_basin = best is not None and bool(method.basin.any())
        lrs, decays = (f"{w} octaves" if w[-1].isdigit() else w for w in widths(method))
        return cls(
            index=index,
            name=printable(method.name),
            spec="" if method.spec == method.name else printable(method.spec),
            stroke=stroke(index),
            decay=method.decay,
            decay_label=method.decay or "its own",
            lr="–" if best is None else setting(method.lrs[best[0]]),
            weight_decay="–" if best is None else setting(method.weight_decays[best[1]]),
            score="" if method.at_best is None else scores.mean(method.at_best),
            interval="" if method.at_best is None else scores.mean_interval(method.at_best),
            seeds=counted(len(method.judged), "seed"),
            basin=f"{int(method.basin.sum())} of {cells} settings" if has_basin else "",
            basin_lrs=lrs,
            basin_decays=decays,
            diverged=f"{diverged} of {cells}" if diverged else "none",
            any_diverged=bool(diverged),
            edges=[_EDGES.get(e, e) for e in method.edges],
            validation="" if best is None else scores.value(float(method.validation[best].mean())),
        )


@dataclass(frozen=True)
class DifferenceView:
    """One pair of methods with its verdict."""

    a: str
    b: str
    difference: str
    interval: str
    seeds: str
    verdict: str
    decided: bool

    @classmethod
    def of(cls, difference: Difference, scores: Scores) -> DifferenceView:
        estimate = difference.estimate
        return cls(
            a=printable(difference.a),
            b=printable(difference.b),
            difference=scores.difference(estimate),
            interval=scores.interval(estimate),
            seeds=counted(estimate.n, "seed"),
            verdict=printable(difference.verdict),
            decided=difference.verdict != "not decided",
        )


@dataclass(frozen=True)
class Reproduction:
    """What the manifest says about how to get the same numbers."""

    command: str
    facts: list[tuple[str, str]]
    manifest: str  # everything, as JSON

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> Reproduction:
        command = manifest.get("command", "")
        if isinstance(command, list | tuple):
            command = shlex.join(str(word) for word in command)
        facts = [(key, _in_words(manifest[key])) for key in _RUN_FACTS if manifest.get(key)]
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
