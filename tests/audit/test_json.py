"""An audit's JSON gives an equal audit back, and nothing else is taken for one."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from adamantine.audit import AuditError, AuditReport, audit, from_json, to_json
from adamantine.audit.json import SCHEMA
from adamantine.audit.model import Distortion, LayerRow, LedgerReport


def report() -> AuditReport:
    model = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=500)
    return audit(optimizer, model, scheduler=scheduler).report


def test_there_and_back() -> None:
    found = report()
    row = LayerRow("0.weight", 1e-4, math.inf, 1e-3, 0.0, 1.0, None, 0.5, 0)
    ledger = LedgerReport(10, 2, 5, (row,), Distortion((1.0,), (2.0,), (1.5,), (2.5,), None), found.findings)
    for each in (found, replace(found, ledger=ledger)):
        assert from_json(to_json(each)) == each
        assert from_json(to_json(each, indent=None)) == each


def test_numbers_that_json_has_not_are_texts() -> None:
    found = replace(report(), ledger=None)
    group = replace(found.groups[0], lr=math.nan, peak_lr=-math.inf)
    text = to_json(replace(found, groups=(group,)))
    data = json.loads(text, parse_constant=pytest.fail)
    assert data["schema"] == SCHEMA
    assert (data["groups"][0]["lr"], data["groups"][0]["peak_lr"]) == ("nan", "-inf")
    back = from_json(text).groups[0]
    assert math.isnan(back.lr)
    assert back.peak_lr == -math.inf


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "found 'list'"),
        ("{}", "found None"),
        ('{"schema": "adamantine.audit/9"}', "found 'adamantine.audit/9'"),
        (json.dumps({"schema": SCHEMA}), "missing or unknown fields"),
    ],
)
def test_other_texts_are_refused(text: str, words: str) -> None:
    with pytest.raises(AuditError, match=words):
        from_json(text)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("plan", "steps"), "many"),
        (("plan", "steps"), True),
        (("groups",), {}),
        (("groups", 0, "lr"), None),
        (("groups", 0, "lr"), "0.1"),
        (("groups", 0, "behaviour"), "decoupled"),
        (("groups", 0, "behaviour", "decay"), "gentle"),
        (("findings", 0, "severity"), "fatal"),
        (("parameters", 0, "name"), 3),
        (("parameters", 0, "extra"), 3),
        (("versions", "torch"), 2.0),
    ],
)
def test_a_wrong_field_is_named(path: tuple[str | int, ...], value: object) -> None:
    data = json.loads(to_json(report()))
    inner = data
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(AuditError, match=r"no audit: report\." + str(path[0])):
        from_json(json.dumps(data))
