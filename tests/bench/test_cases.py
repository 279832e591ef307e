"""The records: complete, true to the networks they name, and to the rules."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest
import torch

import adamantine.torch
from adamantine.bench.case import Case, Iteration, Step
from adamantine.bench.cases import CASES, EVERYONE, RULES_BY_CLASS, chosen
from adamantine.bench.contestants import entrants
from adamantine.bench.errors import BenchError
from adamantine.bench.peers import PEERS
from adamantine.bench.shapes import gpt2, resnet18
from adamantine.rules import RULES


def test_gpt2_small_has_its_parameters() -> None:
    shapes = gpt2()
    assert shapes[:2] == ((50257, 768), (1024, 768))
    assert shapes[2:14] == (
        *((768,), (768,), (768, 2304), (2304,), (768, 768), (768,)),
        *((768,), (768,), (768, 3072), (3072,), (3072, 768), (768,)),
    )
    assert shapes[-2:] == ((768,), (768,))


def test_resnet18_has_its_parameters() -> None:
    shapes = resnet18()
    assert shapes[:6] == ((64, 3, 7, 7), (64,), (64,), (64, 64, 3, 3), (64,), (64,))
    assert shapes[-2:] == ((1000, 512), (1000,))
    assert [s for s in shapes if s[2:] == (1, 1)] == [(128, 64, 1, 1), (256, 128, 1, 1), (512, 256, 1, 1)]
    assert sum(len(s) == 4 for s in shapes) == 20


def test_every_rule_but_adamws_has_a_case() -> None:
    assert set(RULES_BY_CLASS) == set(RULES) - {"adam"}


@pytest.mark.parametrize("rule", RULES_BY_CLASS)
def test_a_rules_case_runs_that_rule_and_counts_its_slots(rule: str) -> None:
    class_name, options, slots = RULES_BY_CLASS[rule]
    optimizer = getattr(adamantine.torch, class_name)([torch.nn.Parameter(torch.zeros(1))], lr=0.1, **options)
    found = optimizer.rule(optimizer.param_groups[0])
    assert found is RULES[rule]
    assert len(found.slots) == slots
    work = CASES[f"rules/{rule}"].work
    assert isinstance(work, Step)
    assert work.traffic == work.elements * 4 * (3 + 2 * slots)


def test_adamw_moves_28_bytes_per_parameter_and_22_with_half_of_it_in_bfloat16() -> None:
    for name, size in {"tensor": 28, "bfloat16": 22}.items():
        work = CASES[name].work
        assert isinstance(work, Step)
        assert work.traffic == size * 2**26


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_quick_is_the_same_work_on_tiny_sizes(case: Case) -> None:
    assert type(case.quick) is type(case.work)
    assert case.quick.memory <= min(case.work.memory, 16 * 2**20)
    if isinstance(case.work, Step) and isinstance(case.quick, Step):
        assert dataclasses.replace(case.quick, shapes=case.work.shapes) == case.work


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_goals_speak_of_those_who_take_part(case: Case) -> None:
    names = {entrant.name for entrant in entrants(case, case.work, tuple(PEERS.values()), 1)}
    for goal in case.goals:
        assert {goal.numerator, goal.denominator} <= names | {None}
        assert (goal.denominator is None) == (case.quantity == "bytes")


def test_peers_of_cases_are_peers() -> None:
    of_formats = {"bitsandbytes", "torchao8", "torchao4", "torchaofp8"}
    assert set(EVERYONE) == set(PEERS) - of_formats
    assert set(CASES["format-peers"].peers) == of_formats
    assert {key for case in CASES.values() for key in case.peers} <= set(PEERS)


def test_an_iterations_memory_is_that_of_its_parameters() -> None:
    assert Iteration((784, 256, 10)).memory == 16 * (784 * 256 + 256 + 256 * 10 + 10)


def test_choosing() -> None:
    assert chosen(()) == tuple(CASES.values())
    assert [case.name for case in chosen(("rules/lion", "gpt2"))] == ["gpt2", "rules/lion"]
    assert len(chosen(("rules",))) == len(RULES_BY_CLASS)
    with pytest.raises(BenchError, match="--case 'gpt3': there are tensor, gpt2, resnet18"):
        chosen(("gpt3",))


def test_the_records_need_no_torch() -> None:
    code = "import sys, adamantine.bench.cases; sys.exit(int('torch' in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
