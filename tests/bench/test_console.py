"""What the terminal and the summary say about made-up numbers."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from adamantine.bench import report
from adamantine.bench.case import DEFAULT, FLAT, FUSED, LIMIT, OURS
from adamantine.bench.cases import RULES_BY_CLASS
from adamantine.bench.console import Display, show
from adamantine.bench.results import Outcome, Results

Make = Callable[..., Outcome]
ROUNDS = np.linspace(0.99, 1.01, 12)


def _said(results: Results, width: int = 100) -> str:
    text = io.StringIO()
    show(results, Console(file=text, width=width))
    return text.getvalue()


def _row(text: str, start: str) -> list[str]:
    (line,) = [line.split() for line in text.splitlines() if line.strip().startswith(start)]
    return line


def test_a_table_in_one_unit_with_ratios_round_by_round(
    outcome: Make, results: Callable[..., Results]
) -> None:
    found = outcome(
        "resnet18",
        {
            DEFAULT: 0.040 * ROUNDS,
            FUSED: 0.012 * ROUNDS,
            LIMIT: 0.0095 * ROUNDS,
            OURS: 0.010 * ROUNDS,
        },
    )
    text = _said(results(found))
    assert _row(text, "adamantine  ")[:4] == ["adamantine", "10.0", "1.05", "–"]
    assert _row(text, "memory limit ")[:4] == ["memory", "limit", "9.50", "–"]
    assert _row(text, "torch fused ") == ["torch", "fused", "12.0", "1.26", "1.20", "1.20", "to", "1.20"]
    assert _row(text, "torch default ")[2:5] == ["40.0", "4.21", "4.00"]
    order = [text.index(f"\n {name} ") for name in (OURS, LIMIT, FUSED, DEFAULT)]
    assert order == sorted(order)
    assert "A Processor (x86_64), 2 cores (L1 data 32K)" in text
    assert "not installed: optimi" in text


def test_goals_are_met_not_met_and_not_measured(outcome: Make, results: Callable[..., Results]) -> None:
    many = outcome(
        "many",
        {OURS: 1e-4 * ROUNDS, FUSED: 2e-3 * ROUNDS, DEFAULT: 5e-3 * ROUNDS},
        {FLAT: "there is no flatten() yet"},
    )
    one = outcome("one", {OURS: 1e-5 * np.ones(12), FUSED: 4e-5 * np.linspace(0.9, 1.2, 12)})
    text = " ".join(_said(results(many, one), 160).split())
    assert "torch fused ÷ adamantine ≥ 12 20.0 20.0 to 20.0 met" in text
    assert "torch default ÷ adamantine ≥ 100 50.0 50.0 to 50.0 not met" in text
    assert (
        "adamantine flat ≥ 40 – – not measured many adamantine flat: there is no flatten() yet" in text
        or "torch fused ÷ adamantine flat ≥ 40 – – not measured" in text
    )
    assert "adamantine flat not measured: there is no flatten() yet" in text
    assert "met, within noise" in text


def test_a_size_is_told_in_mebibytes(outcome: Make, results: Callable[..., Results]) -> None:
    text = _said(results(outcome("memory", {OURS: [2.0**18] * 7, FUSED: [2.0**25] * 7})))
    assert _row(text, "torch fused ") == ["torch", "fused", "32.00", "32.00", "to", "32.00"]
    assert "adamantine ≤ 1 MiB" in text
    assert "0.25 to 0.25" in text


def test_the_rules_share_a_table_and_a_goal(outcome: Make, results: Callable[..., Results]) -> None:
    slow = {"lion", "radam"}
    found = [
        outcome(f"rules/{rule}", {OURS: (1.3 if rule in slow else 1.02) * ROUNDS, LIMIT: ROUNDS})
        for rule in RULES_BY_CLASS
    ]
    text = _said(results(*found), 140)
    assert _row(text, "lion ")[:4] == ["lion", "20", "1300", "1.30"]
    assert _row(text, "sgd ")[:2] == ["sgd", "12"]
    assert "met by 12 of 14" in text
    assert "not met by 2 of 14: radam, lion" in " ".join(text.split())


def test_quick_judges_nothing(outcome: Make, results: Callable[..., Results]) -> None:
    text = _said(results(outcome("one", {OURS: ROUNDS}), quick=True))
    assert "judge no goal" in text
    assert "Goals" not in text


def test_a_busy_machine_and_other_threads_are_said(outcome: Make, results: Callable[..., Results]) -> None:
    text = _said(results(outcome("one", {OURS: ROUNDS}, others=0.38), threads=4))
    assert "Other programs took 38% of the processors meanwhile" in text
    assert "stated for 2 threads; here: 4" in text
    assert "Other programs" not in _said(results(outcome("one", {OURS: ROUNDS}, others=0.02)))


def test_a_busy_machine_meets_no_goal_about_time(outcome: Make, results: Callable[..., Results]) -> None:
    values = {OURS: ROUNDS, FUSED: 100 * ROUNDS}
    (time,) = outcome("one", values, others=0.11).verdicts
    assert (time.status, time.reason) == ("not measured", "other programs took 11% of the processors")
    (time,) = outcome("one", values, others=0.09).verdicts
    assert time.status == "met"
    (memory,) = outcome("memory", values, others=0.5).verdicts
    assert memory.status == "met"  # a high-water mark does not depend on who else runs


@pytest.mark.parametrize("width", [60, 80])
def test_nothing_is_wider_than_the_terminal(
    outcome: Make, results: Callable[..., Results], width: int
) -> None:
    values = {OURS: ROUNDS, LIMIT: ROUNDS, "pytorch_optimizer": 100 * ROUNDS}
    text = _said(
        results(outcome("tensor", values), outcome("rules/rmsprop_centered_momentum", values)), width
    )
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text


def test_a_case_that_nobody_could_run_is_explained(outcome: Make, results: Callable[..., Results]) -> None:
    text = _said(results(outcome("gpt2", {}, {OURS: "needs 3.2 GiB [bold]", LIMIT: "no native engine"})))
    assert "adamantine not measured: needs 3.2 GiB [bold]" in text
    assert "not measured" in text


def test_without_a_terminal_every_case_is_a_line(outcome: Make) -> None:
    text = io.StringIO()
    found = outcome("one", {OURS: ROUNDS, FUSED: ROUNDS})
    with Display(1, Console(file=text, width=40)) as display:
        display.begins(found.case, 2)
        display.says("round 1")
        display.finished(found)
    assert text.getvalue() == "one: 2 contestants, 12 rounds\n"


def test_nothing_draws_while_somebody_is_measured(outcome: Make) -> None:
    text = io.StringIO()
    threads = threading.active_count()
    with Display(2, Console(file=text, width=60, force_terminal=True)) as display:
        display.begins(outcome("one", {}).case, 2)
        display.says("round 1")
        drawn = text.getvalue()
        assert "One tensor of 256: round 1" in drawn
        assert threading.active_count() == threads


def test_the_folder_holds_numbers_text_and_figure(
    outcome: Make, results: Callable[..., Results], tmp_path: Path
) -> None:
    report.write(results(outcome("one", {OURS: ROUNDS, FUSED: 4 * ROUNDS})), tmp_path)
    summary = (tmp_path / "summary.txt").read_text("utf-8")
    assert summary.startswith("adamantine bench (2026-01-01T00:00:00+00:00)\n\nA Processor")
    assert "One tensor of 256" in summary
    assert {path.name for path in tmp_path.iterdir()} == {"results.json", "summary.txt", "figures"}
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {
        f"ratios-{theme}.{kind}" for theme in ("light", "dark") for kind in ("png", "svg")
    }
