"""lr and λ for another batch size, number of epochs or data size."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import pytest
from typer.testing import CliRunner

from adamantine.cli import app
from adamantine.rules.decay import MODES
from adamantine.study.compare import Run, compare
from adamantine.study.errors import StudyError
from adamantine.study.transfer import (
    LR_RULES,
    RULES,
    NoRule,
    Regime,
    Start,
    decay_of,
    described,
    side_by_side,
    transferred,
)

CIFAR = Regime(batch_size=128, train_size=50_000, epochs=100)
LONG = Regime(128, 50_000, 1500)
PROPORTIONAL = ("decoupled", "independent", "corrected", "cautious")
NUMBERS = ["--lr=1e-3", "--weight-decay=0.1", "--batch-size=128", "--train-size=50000", "--epochs=100"]


def test_the_vectors_of_normalized_decay() -> None:
    """Loshchilov & Hutter 2019, Appendix B: λ_norm 0.025 on CIFAR-10 for 100 and for 1500 epochs."""
    found = transferred(1e-3, 1.265e-4, CIFAR, LONG, rule="normalized", decay="independent")
    assert found.lambda_norm == pytest.approx(0.025, rel=2e-4)  # 1.265e-4 has four digits
    assert found.weight_decay == pytest.approx(3.27e-5, rel=2e-3)
    assert described(1e-3, 0.1265, CIFAR).lambda_norm == pytest.approx(0.025, rel=2e-4)


def test_the_timescale_in_epochs_is_kept() -> None:
    target = Regime(512, 200_000, 30)
    found = transferred(1e-3, 0.1, CIFAR, target, rule="timescale")
    assert found.tau_epochs == pytest.approx(described(1e-3, 0.1, CIFAR).tau_epochs)
    assert found.tau_epochs == pytest.approx(128 / (1e-3 * 0.1 * 50_000))
    assert found.lr * found.weight_decay == pytest.approx(1e-4 * 4 / 4)  # B/N is the same, so γ is


@pytest.mark.parametrize(
    ("target", "timescale", "normalized"),
    [
        (Regime(512, 50_000, 100), 2.0, 1.0),  # lr doubles; γ times 4, times 2
        (Regime(128, 200_000, 100), 1 / 4, 1 / 2),
        (Regime(128, 50_000, 400), 1.0, 1 / 2),
        (CIFAR, 1.0, 1.0),
    ],
)
def test_what_each_change_does_to_lambda(target: Regime, timescale: float, normalized: float) -> None:
    """By the default lr rule of adaptive methods."""
    for rule, factor in (("timescale", timescale), ("normalized", normalized)):
        found = transferred(1e-3, 0.1, CIFAR, target, rule=rule)  # type: ignore[arg-type]
        assert found.weight_decay == pytest.approx(0.1 * factor), rule


@pytest.mark.parametrize("mode", PROPORTIONAL)
@pytest.mark.parametrize("rule", RULES)
def test_all_modes_of_one_unit_agree_and_the_way_back_leads_home(rule: str, mode: str) -> None:
    target = Regime(64, 20_000, 10)
    decay = 1e-4 if mode == "independent" else 0.1
    there = transferred(1e-3, decay, CIFAR, target, rule=rule, decay=mode)  # type: ignore[arg-type]
    reference = transferred(1e-3, 0.1, CIFAR, target, rule=rule)  # type: ignore[arg-type]
    assert there.lr == reference.lr
    assert there.tau_steps == pytest.approx(reference.tau_steps)
    back = transferred(there.lr, there.weight_decay, target, CIFAR, rule=rule, decay=mode)  # type: ignore[arg-type]
    assert (back.lr, back.weight_decay) == pytest.approx((1e-3, decay))


@pytest.mark.parametrize(("lr_rule", "factor"), [("keep", 1.0), ("sqrt", 2.0), ("linear", 4.0)])
def test_lr_follows_its_named_rule_and_the_batch_size_alone(lr_rule: str, factor: float) -> None:
    target = Regime(512, 10_000, 7)
    found = transferred(1e-3, 0.1, CIFAR, target, rule="timescale", lr_rule=lr_rule)  # type: ignore[arg-type]
    assert found.lr == pytest.approx(1e-3 * factor)
    assert found.lr * found.weight_decay == pytest.approx(1e-4 * 4 * 5)  # γ does not depend on the lr rule
    assert set(LR_RULES) == {"keep", "sqrt", "linear"}


def test_sgd_scales_linearly_and_keeps_lambda_by_its_timescale() -> None:
    target = Regime(512, 50_000, 100)
    found = transferred(0.1, 5e-4, CIFAR, target, rule="timescale", decay="l2", family="sgd")
    assert (found.lr, found.weight_decay) == pytest.approx((0.4, 5e-4))  # Goyal et al. 2017 keep λ too
    decoupled = transferred(0.1, 5e-4, CIFAR, target, rule="timescale", family="sgd")
    assert found == decoupled  # Proposition 1: the same number


def test_l2_in_an_adaptive_method_is_refused_unless_there_is_none() -> None:
    with pytest.raises(NoRule, match="no timescale"):
        transferred(1e-3, 1e-4, CIFAR, LONG, rule="timescale", decay="l2")
    assert transferred(1e-3, 0.0, CIFAR, LONG, rule="timescale", decay="l2").weight_decay == 0


@pytest.mark.parametrize("mode", MODES)
def test_no_decay_stays_none(mode: str) -> None:
    for rule in RULES:
        found = transferred(1e-3, 0.0, CIFAR, Regime(512, 50_000, 10), rule=rule, decay=mode)
        assert found.weight_decay == found.lambda_norm == 0
        assert math.isinf(found.tau_epochs)
        assert found.lr == pytest.approx(2e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 0.0}, "--lr must be above 0"),
        ({"lr": math.nan}, "--lr must be above 0"),
        ({"weight_decay": -1.0}, "--weight-decay must be 0 or more"),
        ({"weight_decay": math.inf}, "--weight-decay must be 0 or more"),
        ({"decay": "coupled"}, "'coupled': there are none, l2"),
        ({"rule": "guess"}, "'guess': there are timescale, normalized"),
        ({"lr_rule": "cube"}, "'cube': there are keep, sqrt, linear"),
        ({"weight_decay": 2000.0}, "one step would remove whole weights"),
        ({"weight_decay": 300.0}, "removes whole weights in one step"),
    ],
)
def test_what_cannot_be_is_named(change: dict[str, object], message: str) -> None:
    arguments = {"lr": 1e-3, "weight_decay": 0.1, "source": CIFAR, "target": Regime(512, 50_000, 100)}
    with pytest.raises(StudyError, match=message):
        transferred(**{**arguments, "rule": "timescale", **change})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((0, 10, 1), "--batch-size"),
        ((1, 0, 1), "--train-size"),
        ((1, 1, math.nan), "--epochs"),
        ((9, 8, 1), "9"),
    ],
)
def test_a_regime_that_cannot_be_is_named(numbers: tuple[int, int, float], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        Regime(*numbers)


def test_decay_of_classes_that_are_not_ours() -> None:
    assert decay_of("AdamW", "cautious") == "cautious"
    assert decay_of("torch.optim:AdamW", "") == "decoupled"
    assert decay_of("torch.optim:Adam(decoupled_weight_decay=True)", "") == "decoupled"
    assert decay_of("torch.optim:RMSprop", "") == "l2"
    with pytest.raises(NoRule, match="not known"):
        side_by_side(Start("x", "theirs:Thing", "", 1e-3, 0.1), CIFAR, LONG, "keep")


def command(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["transfer", *arguments])
    return result.exit_code, " ".join(result.output.split())


def test_the_command_shows_both_rules_and_names_them() -> None:
    code, said = command(*NUMBERS, "--to-batch-size", "512", "--to-epochs", "400")
    assert code == 0
    assert "weight decay λ 0.1 0.2 0.05" in said
    assert "Malladi" in said
    for name in ("Wang & Aitchison", "Loshchilov & Hutter", "factor of 4"):
        assert name in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (NUMBERS, "nothing changes"),
        ([*NUMBERS[1:], "--to-epochs", "3"], "--lr: missing"),
        ([*NUMBERS, "--to-epochs", "0"], "--epochs must be above 0"),
        ([*NUMBERS, "--to-epochs", "3", "--decay", "l2"], "no timescale"),
        ([*NUMBERS, "--to-epochs", "3", "--lr-rule", "cube"], "there are keep, sqrt, linear"),
        (["there", *NUMBERS, "--to-epochs", "3"], "the folder says that"),
        (["there", "--to-epochs", "3"], "no run folder"),
    ],
)
def test_the_command_refuses_in_one_line(arguments: list[str], message: str) -> None:
    code, said = command(*arguments)
    assert code == 2
    assert message in said


def test_the_command_reads_a_run_folder(tiny: Callable[..., Run]) -> None:
    run = tiny(weight_decays={"": "0.1,0.2"})
    compare(run)
    code, said = command(str(run.out), "--to-batch-size", "4", "--to-train-size", "160")
    assert code == 0
    assert "batch size 16 → 4, training examples 40 → 160, epochs 3" in said
    assert "AdamW, decay decoupled" in said
    assert "Adam + L2: no suggestion" in said

    journal = run.out / "cells.jsonl"
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:-1]))
    assert "1 run still to do" in command(str(run.out), "--to-epochs", "9")[1]
    journal.write_text("")
    assert "no method has a setting" in command(str(run.out), "--to-epochs", "9")[1]


def test_no_timescale_is_claimed_where_momentum_would_change_it() -> None:
    l2 = ("--optimizer", "SGD(momentum=0.9)", "--decay", "l2")
    code, said = command(*NUMBERS, *l2, "--to-batch-size", "512")
    assert code == 0
    assert "weight decay λ 0.1 0.1 0.05" in said
    assert "τ in steps" not in said
    assert "one epoch and the whole training" not in said
    assert "τ in steps" in command(*NUMBERS, "--optimizer", "SGDW", "--to-batch-size", "512")[1]


@pytest.mark.parametrize("asked", ["report", "transfer"])
def test_the_folder_of_a_search_is_told_from_that_of_a_comparison(
    asked: str, tiny: Callable[..., Run]
) -> None:
    run = tiny()
    compare(run)
    manifest = json.loads((run.out / "manifest.json").read_text())
    (run.out / "manifest.json").write_text(json.dumps(manifest | {"budget": {"trials": 4}}))
    options = ["--to-epochs", "9"] if asked == "transfer" else []
    result = CliRunner().invoke(app, [asked, str(run.out), *options])
    assert result.exit_code == 2
    assert "is a run of adamantine tune" in result.stderr
