"""What a search found, as plain data, with the words and the line of code that follow from it."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from adamantine.report.model import Estimate
from adamantine.report.numbers import Scores, counted, setting
from adamantine.study.methods import parse
from adamantine.study.tune.search import Status
from adamantine.study.tune.space import Setting, Space, Units

#: What is searched, as a reader knows it.
AXES = {"gamma": "γ", "weight_decay": "λ", "decay": "decay at all"}


@dataclass(frozen=True)
class Tried:
    """One finished trial. ``score``: the mean of ``scores``, one per seed; infinite when one diverged, the
    last that was reported when it was pruned."""

    number: int
    status: Status
    setting: Setting
    params: Mapping[str, Any]
    score: float
    scores: tuple[float, ...]


@dataclass(frozen=True)
class Finding:
    """What the search of one method found.

    ``fresh`` maps seeds that had no part in the search to their score at ``best``: on the test split, or what
    the objective returned. Seeds that diverged there are missing. ``importance`` is each parameter's
    share in the variance of the score.
    """

    name: str  # "AdamW"
    spec: str  # "AdamW(betas=(0.9, 0.99))"
    space: Space
    tried: tuple[Tried, ...]
    best: Tried | None
    units: Units | None
    edges: tuple[str, ...]
    importance: Mapping[str, float]
    fresh: Mapping[int, float]
    confirmed: Estimate | None
    fresh_asked: int = 0

    @property
    def code(self) -> str:
        """The line to paste: groups that decay what should decay, and the optimizer over them.

        >>> from adamantine.study.tune.space import Space
        >>> best = Tried(0, "complete", Setting(0.01, 0.1), {}, 0.04, (0.04,))
        >>> space = Space("decoupled", "gamma", (1e-3, 1e-1), (1e-4, 1e-2))
        >>> print(Finding("AdamW", "AdamW", space, (best,), best, None, (), {}, {}, None).code)
        groups = param_groups(model, lr=0.01, weight_decay=0.1, embeddings="decay")
        optimizer = AdamW(groups, lr=0.01, weight_decay=0.1)
        """
        if self.best is None:
            return ""
        spec, where = parse(self.spec), self.best.setting
        common = f"lr={where.lr!r}, weight_decay={where.weight_decay!r}"
        more = "".join(f", {key}={value!r}" for key, value in spec.arguments)
        return (
            f'groups = param_groups(model, {common}, embeddings="decay")\n'
            f"optimizer = {spec.class_name}(groups, {common}{more})"
        )


@dataclass(frozen=True)
class Tuning:
    """A whole ``adamantine tune``. ``tested``: whether fresh scores are of a test split."""

    title: str
    score_name: str
    score_unit: str
    tested: bool
    findings: tuple[Finding, ...]
    manifest: Mapping[str, Any] = field(default_factory=dict)

    @property
    def scores(self) -> Scores:
        """How scores are written: a typical spread over seeds shows two digits."""
        scale = 100.0 if self.score_unit == "%" else 1.0
        spreads = sorted(f.confirmed.std for f in self.findings if f.confirmed and f.confirmed.std > 0)
        finest = (spreads[len(spreads) // 2] if spreads else 0.01 / scale) * scale / 10
        return Scores(self.score_name, self.score_unit, min(max(-math.floor(math.log10(finest)), 0), 6))

    @property
    def judge(self) -> str:
        """What the fresh seeds were judged by."""
        return f"test {self.score_name}" if self.tested else self.score_name


def decay_words(units: Units) -> str:
    """The decay in all its units.

    >>> decay_words(Units(weight_decay=0.1, gamma=0.001, steps=1000.0, epochs=100.0))
    'λ 0.1 = γ 1e-3 per step at the peak lr = memory τ of 1000 steps, 100 epochs'
    >>> decay_words(Units(0.0, None, None, None))
    'no decay'
    """
    if units.weight_decay == 0:
        return "no decay"
    words = f"λ {setting(units.weight_decay)}"
    if units.gamma is None or units.steps is None:
        return words
    words += f" = γ {setting(units.gamma)} per step at the peak lr = memory τ of {_count(units.steps)} steps"
    return words + (f", {_count(units.epochs)} epochs" if units.epochs is not None else "")


def _count(value: float) -> str:
    """Three digits, and whole from a hundred on."""
    return f"{value:.3g}" if value < 100 else str(round(float(f"{value:.3g}")))


def advice(tuning: Tuning) -> list[str]:
    """What to do with the result, and what to doubt about it."""
    lines = []
    for finding in tuning.findings:
        lines += [f"{finding.name}: {line}" for line in _advice(finding, tuning)]
    return lines


def _advice(finding: Finding, tuning: Tuning) -> list[str]:
    diverged = sum(tried.status == "diverged" for tried in finding.tried)
    lines = []
    if finding.best is None:
        return [f"no trial came to its end ({counted(diverged, 'trial')} diverged); lower --lr."]
    if finding.space.note:
        lines.append(f"{finding.space.note}.")
    for edge in finding.edges:
        name, side = edge.split()
        low, high = finding.space.wider((edge,)).axes()[name]
        option = {"lr": "--lr", "gamma": "--gamma", "weight_decay": "--weight-decay"}[name]
        best = setting(finding.best.params[name])
        lines.append(
            f"its best {option[2:]}, {best}, is at the {side} end of its range: "
            f"a better one may lie outside. Search on with --widen 1, or anew with "
            f"{option} '{finding.spec}={low:g}:{high:g}'."
        )
    if finding.space.zero and finding.best.setting.weight_decay == 0:
        lines.append("no weight decay did best here.")
    if 2 * diverged > len(finding.tried):
        lines.append(
            f"{diverged} of {counted(len(finding.tried), 'trial')} diverged; a lower --lr spares them."
        )
    missing = finding.fresh_asked - len(finding.fresh)
    if missing:
        lines.append(
            f"{missing} of {counted(finding.fresh_asked, 'fresh seed')} diverged at the best setting."
        )
    return lines


def to_json(tuning: Tuning) -> bytes:
    """Everything, as strict JSON; what is not finite becomes ``null``."""
    return (
        json.dumps(_plain(_record(tuning)), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    ).encode()


def to_csv(tuning: Tuning) -> bytes:
    """A row per trial."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("method", "trial", "status", "lr", "weight_decay", "gamma", "validation", "by_seed"))
    for finding in tuning.findings:
        for tried in finding.tried:
            gamma = finding.space.units(tried.setting, None).gamma
            writer.writerow(
                (
                    finding.spec,
                    tried.number,
                    tried.status,
                    repr(tried.setting.lr),
                    repr(tried.setting.weight_decay),
                    "" if gamma is None else f"{gamma:.4g}",
                    repr(tried.score) if math.isfinite(tried.score) else "",
                    " ".join(map(repr, tried.scores)),
                )
            )
    return text.getvalue().encode()


def _record(tuning: Tuning) -> dict[str, Any]:
    return {
        "title": tuning.title,
        "score": {"name": tuning.score_name, "unit": tuning.score_unit, "fresh seeds on": tuning.judge},
        "methods": [
            {
                "name": finding.name,
                "method": finding.spec,
                "ranges": finding.space.axes(),
                "best": None
                if finding.best is None or finding.units is None
                else {
                    "trial": finding.best.number,
                    "lr": finding.best.setting.lr,
                    **vars(finding.units),
                    "validation": finding.best.score,
                },
                "edges": finding.edges,
                "fresh": {str(seed): score for seed, score in finding.fresh.items()},
                "confirmed": vars(finding.confirmed) if finding.confirmed else None,
                "importance": dict(finding.importance),
                "code": finding.code,
                "trials": [
                    {
                        "number": tried.number,
                        "status": tried.status,
                        **vars(tried.setting),
                        "validation": tried.score,
                        "by seed": tried.scores,
                    }
                    for tried in finding.tried
                ],
            }
            for finding in tuning.findings
        ],
        "advice": advice(tuning),
        "manifest": dict(tuning.manifest),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
