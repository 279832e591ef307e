"""Coordinates, units and ranges."""

from __future__ import annotations

import math

import pytest

from adamantine.study.errors import StudyError
from adamantine.study.methods import parse
from adamantine.study.tune.space import Setting, Space, parse_range, space

ADAMW = space(parse("AdamW"), "decoupled")


def area(found: Space) -> float:
    return math.prod(math.log10(high / low) for low, high in found.axes().values())


def test_both_coordinates_search_an_area_of_one_size_around_one_middle() -> None:
    other = space(parse("AdamW"), "decoupled", coordinates="lambda")
    assert (ADAMW.axis, other.axis) == ("gamma", "weight_decay")
    assert area(ADAMW) == pytest.approx(area(other), rel=2e-3)  # ranges have three digits
    middles = [
        found.setting({name: math.sqrt(low * high) for name, (low, high) in found.axes().items()})
        for found in (ADAMW, other)
    ]
    assert middles[0].weight_decay == pytest.approx(middles[1].weight_decay, rel=2e-3)


@pytest.mark.parametrize(
    ("spec", "mode", "axis", "words"),
    [
        ("AdamW", "decoupled", "gamma", ""),
        ('AdamW(decay="cautious")', "cautious", "gamma", ""),
        ('AdamW(decay="corrected")', "corrected", "gamma", ""),
        ("torch.optim:AdamW", "", "gamma", ""),
        ("Adam", "l2", "weight_decay", "γ = lr·λ means nothing"),
        ('AdamW(decay="independent")', "independent", "weight_decay", "its λ is γ"),
        ("torch.optim:Adam", "", "weight_decay", "not known"),
        ('Adam(decay="none")', "none", "weight_decay", "lr alone"),
    ],
)
def test_a_mode_decides_what_is_searched_and_says_why(spec: str, mode: str, axis: str, words: str) -> None:
    found = space(parse(spec), mode)
    assert found.axis == axis
    assert words in found.note
    assert bool(found.note) == bool(words)


def test_without_decay_lr_alone_is_searched() -> None:
    for found in (space(parse("Adam"), "none"), space(parse("AdamW"), "decoupled", weight_decay=(0.0, 0.0))):
        assert list(found.axes()) == ["lr"]
        assert found.setting({"lr": 0.01}) == Setting(0.01, 0.0)


def test_setting_and_params_are_inverse() -> None:
    for found in (ADAMW, space(parse("Adam"), "l2", zero=True)):
        setting = Setting(0.003, 0.02)
        assert found.setting(found.params(setting)) == setting
    assert space(parse("Adam"), "l2", zero=True).setting(
        {"lr": 0.1, "weight_decay": 1e-3, "decay": "none"}
    ) == Setting(0.1, 0.0)


def test_units() -> None:
    units = ADAMW.units(Setting(0.02, 0.5), steps_per_epoch=10)
    assert (units.gamma, units.steps, units.epochs) == pytest.approx((0.01, 100.0, 10.0))
    independent = space(parse('AdamW(decay="independent")'), "independent")
    assert independent.units(Setting(0.02, 0.01), 10).steps == pytest.approx(100.0)
    assert space(parse("Adam"), "l2").units(Setting(0.02, 0.01), 10).gamma is None
    assert ADAMW.units(Setting(0.02, 0.0), 10).steps is None


def test_edges_and_wider() -> None:
    low, high = ADAMW.strength or (0.0, 0.0)
    assert ADAMW.edges({"lr": 0.01, "gamma": math.sqrt(low * high)}) == ()
    assert ADAMW.edges({"lr": 0.099, "gamma": low}) == ("lr high", "gamma low")
    wide = ADAMW.wider(("lr high", "gamma low"))
    assert wide.lr == (ADAMW.lr[0], pytest.approx(0.316))
    assert wide.strength is not None
    assert (wide.strength[0] < low / 3, wide.strength[1] == high) == (True, True)
    fixed = space(parse("AdamW"), "decoupled", lr=(0.01, 0.01))
    assert fixed.edges({"lr": 0.01, "gamma": 1e-3}) == ()


def test_no_decay_has_no_rim() -> None:
    found = space(parse("AdamW"), "decoupled", zero=True)
    assert found.edges({"lr": 0.01, "gamma": found.axes()["gamma"][0], "decay": "none"}) == ()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gamma": (1e-4, 1e-2), "weight_decay": (0.1, 1.0)}, "both given"),
        ({"gamma": (1e-4, 1e-2), "coordinates": "lambda"}, "--coordinates gamma"),
    ],
)
def test_ranges_that_contradict_each_other(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        space(parse("AdamW"), "decoupled", **arguments)  # type: ignore[arg-type]


def test_gamma_for_l2_is_refused() -> None:
    with pytest.raises(StudyError, match="give --weight-decay"):
        space(parse("Adam"), "l2", gamma=(1e-4, 1e-2))


@pytest.mark.parametrize("text", ["", "a:b", "1:2:3", "2:1", "0:1", "-1:1", "nan:1", "1:inf", "0"])
def test_a_range_that_is_none(text: str) -> None:
    with pytest.raises(StudyError, match="--lr"):
        parse_range(text, "--lr")


def test_weight_decay_0_is_a_range() -> None:
    assert parse_range("0", "--weight-decay") == (0.0, 0.0)
