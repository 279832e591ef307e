"""`audit` leaves all as it was, counts what it says it counts, and takes what people give it."""

from __future__ import annotations

import copy
import random
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import adamantine.torch
from adamantine.audit import AuditError, assert_no_findings, audit, from_json, to_json
from adamantine.audit.checks import CATALOGUE


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 2))


class Odd(torch.optim.AdamW):
    """A class of the user's own, which is dry-run."""

    def step(self, closure: Any = None) -> Any:
        torch.rand(1)  # a dry run that shifts the random state would be seen
        return super().step(closure)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(16, 4)).square().mean().backward()
        optimizer.step()


def frozen_copy(value: Any) -> Any:
    """Everything in it, with tensors as bytes of memory, to compare bit by bit."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone().reshape(-1).view(torch.uint8).tolist(), value._version
    if isinstance(value, dict):
        return {key: frozen_copy(item) for key, item in value.items() if not callable(item)}
    if isinstance(value, list | tuple):
        return [frozen_copy(item) for item in value]
    return copy.copy(value)


@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.Adam(p, lr=1e-3, weight_decay=0.1),
        lambda p: Odd(p, lr=torch.tensor(1e-3), weight_decay=0.1),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-4),
        lambda p: adamantine.torch.AdamW(p, lr=1e-3, weight_decay=0.1),
    ],
    ids=["Adam", "Odd", "SGD", "ours"],
)
def test_nothing_of_the_users_changes(make: Callable[..., torch.optim.Optimizer], steps: int) -> None:
    model = network()
    optimizer = make(model.parameters())
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=50)
    train(model, optimizer, steps)

    def everything() -> Any:
        scheduling = {k: v for k, v in vars(scheduler).items() if k != "optimizer"}
        gradients = [None if p.grad is None else p.grad for p in model.parameters()]
        parts = (optimizer.state_dict(), dict(model.state_dict()), gradients, scheduling)
        randomness = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002
        return frozen_copy([*parts, list(vars(optimizer)), randomness])

    model.train()
    before = everything()
    audit(optimizer, model, scheduler=scheduler)
    assert everything() == before
    assert model.training


def test_training_goes_on_bit_by_bit_as_without() -> None:
    ends = []
    for looks in (False, True):
        model = network()
        optimizer = Odd(model.parameters(), lr=1e-2, weight_decay=0.1)
        torch.manual_seed(1)
        train(model, optimizer, 3)
        if looks:
            audit(optimizer, model, steps=10)
        train(model, optimizer, 3)
        ends.append(nn.utils.parameters_to_vector(model.parameters()).tolist())
    assert ends[0] == ends[1]


def test_rows_hold_what_the_optimizer_does() -> None:
    model = network()
    model[2].bias.requires_grad_(False)
    groups = adamantine.param_groups(model, lr=2e-3, weight_decay=0.05)
    found = audit(torch.optim.AdamW(groups), model, steps=1000, steps_per_epoch=100)
    rows = {row.name: row for row in found.report.parameters}
    weight = rows["0.weight"]
    assert weight.decays
    assert weight.should_decay
    assert weight.reason == "weight of Linear (2-D)"
    assert weight.shrink == pytest.approx(1e-4)
    assert weight.timescale == pytest.approx(10_000)
    assert weight.epochs == pytest.approx(100)
    assert weight.total_shrink == pytest.approx((1 - 1e-4) ** 1000)
    norm = rows["1.weight"]
    assert (norm.decays, norm.should_decay, norm.shrink, norm.total_shrink) == (False, False, 0.0, 1.0)
    assert (rows["2.bias"].trains, rows["2.bias"].group) == (False, None)
    assert found.findings == ()


def test_l2_in_an_adaptive_optimizer_has_no_single_number() -> None:
    model = nn.Linear(3, 3, bias=False)
    found = audit(torch.optim.Adam(model.parameters(), weight_decay=0.1), model, steps=10)
    row = found.report.parameters[0]
    assert (row.decays, row.shrink, row.timescale, row.total_shrink) == (True, None, None, None)
    assert found.report.trajectories == ()


def test_no_weight_is_read() -> None:
    """As large as GPT-2 small, and without memory: what is not there cannot be copied, nor slow."""
    with torch.device("meta"):
        blocks = [nn.TransformerEncoderLayer(768, 12, 3072, batch_first=True) for _ in range(12)]
        model = nn.Sequential(nn.Embedding(50_257, 768), *blocks)
    found = audit(Odd(model.parameters(), lr=6e-4, weight_decay=0.2), model, steps=10_000)
    assert sum(row.elements for row in found.report.parameters) > 120e6
    assert {f.code for f in found.findings} == {"decays-bias", "decays-norm", "decays-table"}


def test_several_optimizers_and_several_models_are_one_training() -> None:
    one, two = nn.Linear(3, 3, bias=False), nn.Linear(3, 1, bias=False)
    first = torch.optim.AdamW(one.parameters(), lr=1e-3, weight_decay=0.1)
    second = torch.optim.SGD(two.parameters(), lr=0.1)
    both = audit([first, second], [one, two])
    assert both.findings == ()
    assert [row.name for row in both.report.parameters] == ["0.weight", "1.weight"]
    assert [row.group for row in both.report.parameters] == [0, 1]
    alone = audit(first, [one, two])
    assert [(f.code, f.parameters) for f in alone.findings] == [("not-in-optimizer", ("1.weight",))]


def test_ignored_codes_are_not_told_and_patterns_name_parameters() -> None:
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)

    def found(*ignore: str) -> dict[str, tuple[str, ...]]:
        return {f.code: f.parameters for f in audit(optimizer, model, ignore=ignore).findings}

    assert found() == {"decays-bias": ("0.bias", "2.bias"), "decays-norm": ("1.weight", "1.bias")}
    assert found("decays-bias") == {"decays-norm": ("1.weight", "1.bias")}
    assert found("decays-bias:0.*", "decays-norm:1.*") == {"decays-bias": ("2.bias",)}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ignore": ["decays-biass"]}, "did you mean 'decays-bias'"),
        ({"ignore": "decays-bias"}, "give a sequence of codes"),
        ({"steps": 0}, "Invalid steps: 0"),
        ({"steps_per_epoch": True}, "Invalid steps_per_epoch: True"),
        ({"every": 2.5}, "Invalid every: 2.5"),
        ({"interval": "batch"}, "Invalid interval: 'batch'"),
        ({"interval": "epoch"}, "counts epochs: give steps_per_epoch"),
        ({"scheduler": object()}, "Invalid scheduler: object has no optimizer"),
    ],
)
def test_wrong_arguments_are_named(options: dict[str, Any], words: str) -> None:
    model = network()
    with pytest.raises(AuditError, match=words):
        audit(torch.optim.AdamW(model.parameters()), model, **options)


def test_what_is_no_optimizer_or_model_is_named() -> None:
    model = network()
    with pytest.raises(AuditError, match="Invalid optimizer: Sequential has no param_groups"):
        audit(model, torch.optim.AdamW(model.parameters()))
    with pytest.raises(AuditError, match="Invalid model: AdamW"):
        audit(torch.optim.AdamW(model.parameters()), torch.optim.AdamW(model.parameters()))
    with pytest.raises(AuditError, match="an empty sequence"):
        audit([], model)
    lazy = nn.LazyLinear(3)
    with pytest.raises(AuditError, match="lazy module and has no shape yet"):
        audit(torch.optim.AdamW(lazy.parameters()), lazy)


def test_assertion_fails_with_the_findings_as_text() -> None:
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    with pytest.raises(AssertionError) as caught:
        assert_no_findings(optimizer, model)
    text = str(caught.value)
    assert "2 findings" in text
    assert "[decays-bias]" in text
    assert "adamantine.param_groups(model, lr=1e-3, weight_decay=0.1)" in text
    assert_no_findings(optimizer, model, at_least="error")
    assert_no_findings(optimizer, model, ignore=["decays-bias", "decays-norm"])
    with pytest.raises(AuditError, match="Invalid at_least: 'fatal'"):
        assert_no_findings(optimizer, model, at_least="fatal")  # type: ignore[arg-type]


def test_with_gives_the_ledger_and_its_findings_join() -> None:
    model = network()
    optimizer = torch.optim.AdamW(adamantine.param_groups(model, lr=1e-3, weight_decay=0.1))
    audited = audit(optimizer, model, every=1, ignore=["nonfinite-gradients:2.*"])
    assert audited.report.ledger is None
    with audited:
        train(model, optimizer, 2)
        model(torch.full((1, 4), torch.nan)).sum().backward()
        optimizer.step()
    assert audited.report.ledger is not None
    assert audited.report.ledger.steps == 3
    (finding,) = [f for f in audited.findings if f.code == "nonfinite-gradients"]
    assert finding.parameters
    assert not any(name.startswith("2.") for name in finding.parameters)


def test_it_prints_without_a_terminal() -> None:
    model = network()
    audited = audit(torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1), model)
    assert "decays-norm" in str(audited)
    assert repr(audited) == "<Audit of torch.optim.adamw.AdamW: 2 warnings>"


def test_wrappers_of_optimizers_and_schedulers_are_opened() -> None:
    class Wrapped:
        def __init__(self, **inside: Any) -> None:
            vars(self).update(inside)

        @property
        def param_groups(self) -> Any:
            return self.optimizer.param_groups

    model = nn.Linear(3, 3, bias=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=5000)
    found = audit(Wrapped(optimizer=optimizer), model, scheduler=Wrapped(scheduler=scheduler))
    assert found.findings == ()
    assert found.report.optimizer == "torch.optim.adamw.AdamW"
    assert found.report.plan.steps == 5000


def test_numbers_that_are_none_are_no_crash() -> None:
    class Relative(torch.optim.Optimizer):
        """As Adafactor's relative step: no lr of its own."""

        def __init__(self, params: Any, lr: Any = None, weight_decay: float = 0.1) -> None:
            super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

        def step(self, closure: Any = None) -> None:
            with torch.no_grad():
                for p in (p for group in self.param_groups for p in group["params"] if p.grad is not None):
                    p.sub_(p.grad.sign() * 1e-3 + p * 1e-4)

    model = network()
    found = audit(Relative(model.parameters()), model, steps=100, steps_per_epoch=10)
    assert [f.code for f in found.findings] == ["decay-ignored"]
    assert to_json(from_json(to_json(found.report))) == to_json(found.report)
    assert str(found)


def test_the_package_imports_nothing_heavy() -> None:
    code = "import sys, adamantine.audit; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_every_code_of_the_catalogue_speaks_both_languages() -> None:
    assert len(CATALOGUE) >= 30
    for code, kind in CATALOGUE.items():
        assert code == kind.code
        for words in (kind.title, kind.why, kind.remedy):
            assert words.en
            assert any("\u4e00" <= letter <= "\u9fff" for letter in words.zh), code
        assert kind.source
