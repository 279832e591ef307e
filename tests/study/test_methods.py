"""Method specs: read, refused, resolved and named."""

from __future__ import annotations

import pytest
import torch

from adamantine.study.errors import StudyError
from adamantine.study.methods import build, parse, probe, resolve, title, titles
from adamantine.study.ranges import LRS, WEIGHT_DECAYS
from adamantine.torch import OPTIMIZERS


@pytest.mark.parametrize(
    "text",
    [
        "AdamW",
        "AdamW(betas=(0.9, 0.99))",
        "torch.optim:RMSprop(alpha=0.9)",
        "a.b:C(x=[1, 'y'], z=None, w=-0.001)",
    ],
)
def test_spec_reads_what_it_writes(text: str) -> None:
    assert str(parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "AdamW(",
        "AdamW(0.1)",
        "AdamW(**{})",
        "AdamW(betas=tuple([1]))",
        "AdamW(eps=__import__('os').getpid())",
        "a + b",
        "AdamW()()",
        "AdamW; AdamW",
    ],
)
def test_what_is_no_literal_is_refused_and_never_run(text: str) -> None:
    with pytest.raises(StudyError, match="expected Class"):
        parse(text)


@pytest.mark.parametrize("text", ["AdamW(lr=0.1)", "AdamW(weight_decay=0.1)"])
def test_what_the_grid_varies_is_refused(text: str) -> None:
    with pytest.raises(StudyError, match="is what the grid varies"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("AdmaW", "did you mean AdamW"),
        ("no.such.module:X", "cannot import"),
        ("torch.optim:NoSuch", "NoSuch"),
        ("torch.nn:Linear", r"not a torch\.optim\.Optimizer"),
    ],
)
def test_unknown_classes(text: str, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        resolve(parse(text))


@pytest.mark.parametrize(
    ("text", "lr", "weight_decay", "message"),
    [
        ("AdamW", -1.0, 0.0, "lr"),
        ("AdamW", 0.1, -1.0, "weight_decay"),
        ("AdamW(betas=(2.0, 0.9))", 0.1, 0.0, "beta"),
        ('AdamW(decay="coupled")', 0.1, 0.0, "coupled"),
        ("AdamW(no_such=1)", 0.1, 0.0, "no_such"),
    ],
)
def test_wrong_arguments_are_found_before_the_run(
    text: str, lr: float, weight_decay: float, message: str
) -> None:
    with pytest.raises(StudyError, match=message):
        probe(parse(text), lr, weight_decay)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("AdamW", "AdamW"),
        ("Adam", "Adam + L2"),
        ("SGD(momentum=0.9)", "SGD + momentum + L2"),
        ("SGD(momentum=0.9, nesterov=True)", "SGD + Nesterov momentum + L2"),
        ("SGDW(momentum=0.9)", "SGDW + momentum"),
        ('AdamW(decay="cautious")', "AdamW (cautious)"),
        ("AdamW(eps=1e-06)", "AdamW [eps=1e-06]"),
        ("torch.optim:Adam", "torch.optim:Adam"),
    ],
)
def test_titles(text: str, shown: str) -> None:
    spec = parse(text)
    assert title(spec, probe(spec, 0.1, 0.0)) == shown


def test_titles_differ_where_methods_do() -> None:
    specs = [parse(text) for text in ("SGD(momentum=0.9)", "SGD(momentum=0.99)", "Adam", "Adam(decay='l2')")]
    assert titles(specs, ["l2"] * 4) == [
        "SGD + momentum + L2 [momentum=0.9]",
        "SGD + momentum + L2 [momentum=0.99]",
        "Adam + L2",
        "Adam + L2 [decay='l2']",
    ]
    specs = [parse("SGD(momentum=0.9, eps=1)"), parse("SGD(eps=1, momentum=0.99)")]
    assert titles(specs, ["l2"] * 2) == [
        "SGD + momentum + L2 [momentum=0.9, eps=1]",
        "SGD + momentum + L2 [eps=1, momentum=0.99]",
    ]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_of_ours_has_ranges(name: str) -> None:
    assert name in LRS
    assert probe(parse(name), 0.1, 0.0) in WEIGHT_DECAYS


def test_the_peak_of_the_schedule_is_stated_to_modes_that_need_it() -> None:
    group = {"params": [torch.nn.Parameter(torch.ones(2))], "weight_decay": 0.1}
    optimizer = build(parse('AdamW(decay="independent")'), [group], 0.25)
    assert optimizer.param_groups[0]["peak_lr"] == 0.25
