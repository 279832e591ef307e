"""All three verdicts, on made-up numbers."""

from __future__ import annotations

import math
from typing import Any

import pytest

from adamantine.report.words import Words
from adamantine.study.claims.claim import Prediction, Rule
from adamantine.study.claims.verdict import (
    claim_verdict,
    interval,
    judge,
    judged,
    measured_text,
    tolerance,
    verdict,
)

TEXT = Words("x", "x")


def prediction(rule: Rule = "value", low: float = -1.0, high: float = 1.0, name: str = "x") -> Prediction:
    return Prediction(name, TEXT, low, high, rule)


@pytest.mark.parametrize(
    ("rule", "measured", "expected"),
    [
        ("value", 0.5, "holds"),
        ("value", 1.0, "holds"),  # the bound is inside
        ("value", math.nextafter(1.0, 2.0), "refuted"),
        ("value", -3, "refuted"),
        ("value", math.nan, "not decided"),
        ("value", None, "not decided"),  # what JSON has for it
        ("value", math.inf, "refuted"),
        ("seeds", [0.1, 0.0, -0.1], "holds"),
        ("seeds", [5.0, 5.1, 4.9], "refuted"),
        ("seeds", [0.0, 1.0, 2.0], "not decided"),
        ("seeds", [0.0], "not decided"),  # one seed has no spread
        ("seeds", [0.1, None, 0.1], "not decided"),
        ("seeds", [0.3, 0.3, 0.3], "holds"),
        ("interval", [0.0, -0.9, 0.9], "holds"),
        ("interval", [2.0, 1.1, 3.0], "refuted"),
        ("interval", [0.0, -1.1, 0.9], "not decided"),
        ("interval", [0.0, -5.0, 5.0], "not decided"),  # wider than the tolerance on both sides
    ],
)
def test_a_prediction(rule: Rule, measured: Any, expected: str) -> None:
    assert judge(prediction(rule), measured) == expected


def test_a_negative_control_is_refuted_when_nothing_differs() -> None:
    control = prediction(low=0.1, high=math.inf)
    assert (judge(control, 0.5), judge(control, 0.0)) == ("holds", "refuted")


def test_the_interval_is_students() -> None:
    found = interval(prediction("seeds"), [1.0, 2.0, 3.0, 4.0])
    half = 3.182446 * math.sqrt(5 / 3) / 2  # t(0.975; 3)
    assert found.middle == 2.5
    assert found.high - found.middle == pytest.approx(half, rel=1e-6)


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        (["holds", "holds"], "holds"),
        (["holds", "not decided", "holds"], "not decided"),
        (["holds", "not decided", "refuted"], "refuted"),
        ([], "not decided"),
    ],
)
def test_a_claim(statuses: list[Any], expected: str) -> None:
    assert verdict(statuses) == expected


def test_predictions_and_measured_names_must_be_the_same() -> None:
    both = [prediction(name="a"), prediction(name="b")]
    assert judged(both, {"b": 9.0, "a": 0.0}) == ["holds", "refuted"]
    with pytest.raises(ValueError, match=r"\['a', 'b'\].*\['a'\]"):
        judged(both, {"a": 0.0})


@pytest.mark.parametrize(
    ("rule", "measured"), [("value", [1.0]), ("value", "x"), ("seeds", 1.0), ("interval", [1.0, 2.0])]
)
def test_a_wrong_form_is_named(rule: Rule, measured: Any) -> None:
    with pytest.raises(ValueError, match=f"rule '{rule}' wants"):
        judge(prediction(rule), measured)


def test_a_tolerance_cannot_be_empty() -> None:
    with pytest.raises(ValueError, match=r"low 2\.0 is above high 1\.0"):
        prediction(low=2.0, high=1.0)


def test_tolerances_are_shown_as_they_are() -> None:
    assert tolerance(prediction(low=0.9995, high=1.0005)) == "[0.9995, 1.0005]"
    assert tolerance(prediction(low=-math.inf, high=2.0)) == "≤ 2"
    assert measured_text(prediction("interval"), [0.5, 0.25, 0.75]) == "0.5 [0.25, 0.75]"
    assert measured_text(prediction(), None) == "–"


def test_an_aside_is_judged_and_shown_but_decides_nothing() -> None:
    aside = Prediction("size", Words("size", "大小"), 3.0, 5.0, role="aside")
    both = [prediction(name="a"), aside]
    values = {"a": 0.0, "size": 2.4}
    assert judged(both, values) == ["holds", "refuted"]
    assert claim_verdict(both, values) == "holds"
    assert claim_verdict(both, {"a": 9.0, "size": 4.0}) == "refuted"
    assert aside.said.en == "aside, no part of the verdict: size"
    assert claim_verdict([aside], {"size": 4.0}) == "not decided"  # an aside alone makes no claim hold
