"""Severities and limits of the checks, each at both of its sides. The gallery has the realistic scripts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler as torch_schedulers
from torch.optim.optimizer import register_optimizer_step_post_hook

import adamantine.torch
from adamantine.audit import Finding, audit
from adamantine.audit.checks import CATALOGUE
from adamantine.torch.resolution import lost_below


def matrix(dtype: torch.dtype = torch.float32) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(8, 8, bias=False, dtype=dtype)


def told(optimizer: Any, model: Any, **options: Any) -> dict[str, str]:
    """Code → severity."""
    return {f.code: f.severity for f in audit(optimizer, model, **options).findings}


def only(findings: Sequence[Finding], code: str) -> Finding:
    (found,) = [f for f in findings if f.code == code]
    return found


# λ that is not called weight_decay


class _OtherName(torch.optim.Optimizer):
    """Decoupled decay whose λ is called wd, as in Moonlight's Muon; or kept out of the groups."""

    def __init__(self, params: Any, lr: float = 1e-3, wd: float = 0.1, in_groups: bool = True) -> None:
        super().__init__(params, {"lr": lr, "wd": wd} if in_groups else {"lr": lr})
        self.wd, self.in_groups = wd, in_groups

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.mul_(1 - group["lr"] * group.get("wd", self.wd)).sub_(group["lr"] * p.grad.sign())


def test_decay_under_another_name_is_decay() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8))
    found = audit(_OtherName(model.parameters()), model, steps=10_000)
    assert {f.code: f.severity for f in found.findings} == {
        "decays-bias": "warning",
        "decays-norm": "warning",
    }
    assert "'wd': 0.0" in only(found.findings, "decays-norm").remedy.en
    assert {(p.weight_decay, round(p.timescale or 0)) for p in found.report.parameters} == {(0.1, 10_000)}
    assert told(_OtherName(model.parameters(), wd=0.0), model) == {}


def test_decay_that_no_group_states_is_shown() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8))
    found = audit(_OtherName(model.parameters(), in_groups=False), model, steps=10_000)
    assert [(f.code, f.severity) for f in found.findings] == [("unknown-decay", "note")]
    assert "0.01 % of each weight" in found.findings[0].reason.en
    assert all(p.decays and p.shrink == pytest.approx(1e-4) for p in found.report.parameters)


def test_an_optimizer_without_an_lr() -> None:
    class Bare(torch.optim.Optimizer):
        def __init__(self, params: Any, weight_decay: float = 0.1) -> None:
            super().__init__(params, {"weight_decay": weight_decay})

        @torch.no_grad()
        def step(self, closure: Any = None) -> None:
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is not None:
                        p.mul_(1 - self.lr(group) * group["weight_decay"]).sub_(1e-3 * p.grad.sign())

        def lr(self, group: dict[str, Any]) -> float:
            return 1e-3

    model = matrix()
    found = audit(Bare(model.parameters()), model, steps=10_000)
    assert {f.code for f in found.findings} == {"decay-ignores-lr", "default-decay"}
    assert "nan" not in str(found)


def test_no_dry_run_is_seen_by_hooks_for_all_optimizers() -> None:
    class Own(torch.optim.AdamW):
        def step(self, closure: Any = None) -> Any:
            return super().step(closure)

    seen: list[Any] = []
    handle = register_optimizer_step_post_hook(lambda *_: seen.append(_))
    try:
        model = matrix(torch.float16).requires_grad_(False)
        audit(Own(model.parameters(), lr=1e-4, weight_decay=0.1), model)
        model.requires_grad_(True)
        audit(Own(model.parameters(), lr=1e-4, weight_decay=0.1), model)
    finally:
        handle.remove()
    assert seen == []


def test_weights_that_are_put_into_training_first_are_tried_too() -> None:
    class TwoFaced(torch.optim.AdamW):
        """Steps in training alone, as optimizers that keep an average do (schedulefree)."""

        training = False

        def train(self) -> None:
            self.training = True

        def step(self, closure: Any = None) -> Any:
            if not self.training:
                raise RuntimeError("call optimizer.train() first")
            return super().step(closure)

    model = matrix(torch.bfloat16)
    optimizer = TwoFaced(model.parameters(), lr=1e-4, weight_decay=0.1)
    assert told(optimizer, model)["rounds-to-nothing"] == "error"


class _Lars(torch.optim.Optimizer):
    """Barlow Twins': L2 under a trust ratio, for matrices alone."""

    def __init__(self, params: Any, lr: float = 0.2, weight_decay: float = 0.0, spares: bool = True) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "spares": spares})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                g = p.grad
                if g is not None and (p.ndim > 1 or not group["spares"]):
                    g = g + group["weight_decay"] * p
                    g = 1e-3 * p.norm() / g.norm() * g
                if g is not None:
                    p.sub_(group["lr"] * g)


@pytest.mark.parametrize("apart", [False, True])
def test_a_class_that_spares_vectors_by_itself(apart: bool) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8))

    def groups() -> list[Any]:
        vectors = [p for p in model.parameters() if p.ndim < 2]
        return [{"params": [model[0].weight]}, {"params": vectors}] if apart else list(model.parameters())

    found = audit(_Lars(groups(), weight_decay=1e-3), model)
    assert found.findings == ()
    assert [p.decays for p in found.report.parameters] == [True, False, False, False]
    assert told(_Lars(groups(), weight_decay=1e-3, spares=False), model) == {
        "decays-bias": "warning",
        "decays-norm": "warning",
    }


# Modes


@pytest.mark.parametrize(
    ("cls", "options", "severity"),
    [
        ("Adam", {}, "warning"),
        ("AdamW", {}, None),
        ("AdamW", {"decoupled_weight_decay": False}, "error"),  # as left by a checkpoint of Adam
        ("NAdam", {}, "warning"),
        ("NAdam", {"decoupled_weight_decay": True}, None),
        ("RMSprop", {}, "warning"),
        ("SGD", {}, None),
        ("SGD", {"momentum": 0.9}, None),
    ],
)
def test_l2_in_adaptive(cls: str, options: dict[str, Any], severity: str | None) -> None:
    model = matrix()
    given = {k: v for k, v in options.items() if cls != "AdamW"}
    optimizer = getattr(torch.optim, cls)(model.parameters(), lr=1e-3, weight_decay=0.05, **given)
    optimizer.param_groups[0].update(options)
    assert told(optimizer, model).get("l2-in-adaptive") == severity


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.Adam(p, lr=1e-3, betas=(0.9, 0.98), weight_decay=0.05),
        lambda p: torch.optim.RAdam(p, weight_decay=0.05),
        lambda p: torch.optim.RMSprop(p, alpha=0.9, momentum=0.9, weight_decay=0.05),
        lambda p: adamantine.torch.Adam(p, weight_decay=0.05),
    ],
    ids=["Adam", "RAdam", "RMSprop", "ours"],
)
def test_the_remedy_of_l2_can_be_typed_in(make: Any) -> None:
    model = nn.Linear(4, 4)
    optimizer = make(model.parameters())
    finding = only(audit(optimizer, model).findings, "l2-in-adaptive")
    typed = finding.remedy.en.partition(": ")[2].partition(". Choose")[0]
    mended = eval(typed, {"torch": torch, "adamantine": adamantine, "model": model})
    assert told(mended, model) == {}
    assert typed in finding.remedy.zh
    for key in ("lr", "betas", "momentum", "alpha"):
        assert mended.param_groups[0].get(key) == optimizer.param_groups[0].get(key)


def test_a_default_is_noted_where_all_groups_have_it() -> None:
    model = matrix()
    assert told(torch.optim.AdamW(model.parameters()), model) == {"default-decay": "note"}
    assert told(torch.optim.AdamW(model.parameters(), weight_decay=0.02), model) == {}
    assert told(torch.optim.Adam(model.parameters()), model) == {}


def test_what_cannot_be_dry_run_is_a_note() -> None:
    class Impossible(torch.optim.Optimizer):
        def __init__(self, params: Any) -> None:
            super().__init__(params, {"lr": 0.1, "weight_decay": 0.1})

        def step(self, closure: Any = None) -> None:
            raise RuntimeError("only on my machine")

    model = matrix()
    assert told(Impossible(model.parameters()), model) == {"unknown-decay": "note"}


# Who decays


def test_severity_of_decaying_vectors_is_the_optimizers() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.PReLU())
    codes = {"decays-bias", "decays-norm", "decays-scalar"}
    assert told(torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=1e-4), model) == dict.fromkeys(
        codes, "note"
    )
    assert told(torch.optim.AdamW(model.parameters(), weight_decay=0.1), model) == dict.fromkeys(
        codes, "warning"
    )
    lion = adamantine.torch.Lion(model.parameters(), lr=1e-4, weight_decay=0.1)
    assert told(lion, model) == dict.fromkeys(codes, "warning")


def test_tables_are_a_note_and_what_the_model_lists_a_warning() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pos_embed = nn.Parameter(torch.zeros(1, 4, 8))
            self.tokens = nn.Embedding(5, 8)
            self.head = nn.Linear(8, 2, bias=False)

    class Listing(Model):
        def no_weight_decay(self) -> set[str]:
            return {"pos_embed"}

    for cls, expected in (
        (Model, {"decays-table": "note"}),
        (Listing, {"decays-table": "note", "decays-listed": "warning"}),
    ):
        model = cls()
        assert told(torch.optim.AdamW(model.parameters(), weight_decay=0.1), model) == expected


def test_a_spared_matrix_is_told_only_beside_decay() -> None:
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 2, bias=False))

    def found(first: float, second: float) -> dict[str, str]:
        groups = [
            {"params": list(model[0].parameters()), "weight_decay": first},
            {"params": list(model[1].parameters()), "weight_decay": second},
        ]
        return told(torch.optim.AdamW(groups), model)

    assert found(0.0, 0.0) == {}
    assert found(0.1, 0.1) == {}
    assert found(0.1, 0.0) == {"spares-matrix": "warning"}


def test_a_spared_parameter_that_may_be_no_matrix_is_no_warning() -> None:
    class Memory(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.states = nn.Parameter(torch.ones(4, 4))

    model = nn.Sequential(nn.Linear(4, 4, bias=False), Memory())
    groups = [
        {"params": [model[0].weight], "weight_decay": 0.1},
        {"params": [model[1].states], "weight_decay": 0.0},
    ]
    assert told(torch.optim.AdamW(groups), model) == {}


def test_frozen_parameters_are_a_note_until_something_moves_them() -> None:
    class DecaysAll(torch.optim.Optimizer):
        def __init__(self, params: Any) -> None:
            super().__init__(params, {"lr": 0.01, "weight_decay": 0.1})

        def step(self, closure: Any = None) -> None:
            with torch.no_grad():
                for group in self.param_groups:
                    for p in group["params"]:
                        p.mul_(1 - group["lr"] * group["weight_decay"])
                        if p.grad is not None:
                            p.sub_(p.grad.sign(), alpha=group["lr"])

    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 2, bias=False))
    model[0].weight.requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.1)
    assert told(optimizer, model) == {"frozen-decays": "note"}
    assert told(DecaysAll(model.parameters()), model)["frozen-decays"] == "warning"
    model[0].weight.grad = torch.zeros(4, 4)
    assert told(optimizer, model) == {"frozen-decays": "warning"}


# Membership


def test_membership() -> None:
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 2, bias=False))
    first, second = model[0].weight, model[1].weight
    assert told(torch.optim.AdamW([first], weight_decay=0.1), model) == {"not-in-optimizer": "error"}
    both = torch.optim.AdamW([first, second], weight_decay=0.1)
    stranger = nn.Parameter(torch.ones(3))
    both.add_param_group({"params": [stranger], "weight_decay": 0.0})
    assert told(both, model) == {"not-of-model": "note"}
    orphan = nn.Parameter(second.detach().clone())
    swapped = torch.optim.AdamW([first, orphan], weight_decay=0.1)
    assert told(swapped, model) == {"not-in-optimizer": "error", "not-of-model": "error"}


def test_twice_within_one_optimizer_and_across_two() -> None:
    model = matrix()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.1)
    another = torch.optim.SGD(model.parameters(), lr=0.1)
    assert told([optimizer, another], model) == {"twice": "warning"}
    optimizer.param_groups.append({**optimizer.param_groups[0]})
    assert told(optimizer, model) == {"twice": "error"}


def test_tied_parameters_are_one_and_shared_memory_is_not() -> None:
    tied = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    tied[1].weight = tied[0].weight
    found = audit(torch.optim.AdamW(tied.parameters(), weight_decay=0.1), tied)
    assert found.findings == ()
    assert [row.aliases for row in found.report.parameters] == [("1.weight",)]
    shared = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    shared[1].weight.data = shared[0].weight.data
    optimizer = torch.optim.AdamW(shared.parameters(), weight_decay=0.1)
    assert told(optimizer, shared) == {"tied-split": "error"}


# Size


@pytest.mark.parametrize(
    ("lr", "weight_decay", "steps", "expected"),
    [
        (1e-3, 0.1, 10_000, {}),  # τ as long as the run
        (0.1, 10.0, 1000, {"shrink-above-one": "error"}),
        (0.1, 9.9, 1000, {"timescale-too-short": "warning"}),
        (0.1, 0.1, 1000, {"timescale-too-short": "warning"}),  # τ = 100
        (0.1, 0.1, 300, {}),  # but not in a run of 3 τ
        (0.1, 0.0999, 1000, {}),
        (1e-3, 1.0, 1_000_000, {"timescale-too-short": "warning"}),  # τ = 1000, a thousandth of the run
        (1e-3, 1.0, 999_000, {}),
        (1e-3, 1e-3, 10_000, {"unit-of-another-mode": "warning"}),  # takes 0.995 %: λ of SGD recipes
        (1e-3, 1e-3, 10_100, {}),  # takes 1.005 %
        (1e-4, 0.0102, 9_800, {"timescale-too-long": "note"}),  # as weak, and a λ of AdamW: fine-tuning
    ],
)
def test_size_of_decoupled_decay(
    lr: float, weight_decay: float, steps: int, expected: dict[str, str]
) -> None:
    model = matrix()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay)
    assert told(optimizer, model, steps=steps) == expected


def test_a_timescale_of_an_epoch_is_no_handful_of_steps() -> None:
    model = matrix()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)  # τ = 100
    assert told(optimizer, model, steps=10_000, steps_per_epoch=99) == {}
    assert "timescale-too-short" in told(optimizer, model, steps=10_000, steps_per_epoch=101)


def test_a_decoupled_number_in_independent_decay() -> None:
    model = matrix()
    optimizer = adamantine.torch.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1, decay="independent")
    finding = only(audit(optimizer, model, steps=1000).findings, "unit-of-another-mode")
    typed = finding.remedy.en.partition(": ")[2].partition(";")[0]
    assert eval(typed, {"adamantine": adamantine}) == pytest.approx(1e-4)
    optimizer.param_groups[0]["weight_decay"] = 0.0099
    assert told(optimizer, model, steps=200) == {}


def test_the_suggested_decay_is_one() -> None:
    model = matrix()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=5e-4)
    finding = only(audit(optimizer, model, steps=2000).findings, "unit-of-another-mode")
    assert finding.remedy.en.startswith("weight_decay=0.5 gives a τ as long as the run")
    optimizer.param_groups[0]["weight_decay"] = 0.5
    assert told(optimizer, model, steps=2000) == {}


# Precision


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_the_rounding_threshold(dtype: torch.dtype) -> None:
    """Every weight of an octave stays below it; above twice it, none does (for float32, of a sample)."""
    eps = torch.finfo(dtype).eps
    steps = torch.arange(0, min(int(1 / eps), 4096), dtype=torch.float64)
    weights = (1 + steps * eps).to(dtype)
    # As torch's mul_ by a number: in float32 for the two-byte types, in float64 and back for float32.
    wide = torch.float64 if dtype == torch.float32 else torch.float32

    def shrunk(r: float) -> torch.Tensor:
        return (weights.to(wide) * (1 - r)).to(dtype)

    limit = lost_below(dtype)
    assert torch.equal(shrunk(limit * 0.999), weights)
    assert not torch.equal(shrunk(limit * 1.01), weights)
    assert not torch.any(shrunk(limit * 2.01) == weights)


@pytest.mark.parametrize(
    ("dtype", "weight_decay", "severity"),
    [
        (torch.bfloat16, 1.9, "error"),  # lr 1e-3: r = 1.9e-3 < 2⁻⁹ = 1.95e-3
        (torch.bfloat16, 2.1, None),
        (torch.float16, 0.24, "error"),  # 2.4e-4 < 2⁻¹² = 2.44e-4
        (torch.float16, 0.26, None),
        (torch.float32, 2.8e-5, "note"),  # 2.8e-8 < 2⁻²⁵ = 2.98e-8
        (torch.float32, 3.2e-5, None),
    ],
)
def test_decay_that_rounds_to_nothing(dtype: torch.dtype, weight_decay: float, severity: str | None) -> None:
    model = matrix(dtype)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=weight_decay, eps=1e-4)
    assert told(optimizer, model).get("rounds-to-nothing") == severity


def test_stochastic_rounding_is_no_alarm() -> None:
    class Stochastic(torch.optim.Optimizer):
        def __init__(self, params: Any, lr: float = 1e-3, weight_decay: float = 0.1) -> None:
            super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

        def step(self, closure: Any = None) -> None:
            with torch.no_grad():
                for group in self.param_groups:
                    for p in (p for p in group["params"] if p.grad is not None):
                        exact = p.float() * (1 - group["lr"] * group["weight_decay"])
                        exact -= group["lr"] * p.grad.float().sign()
                        if p.dtype == torch.bfloat16:
                            bits = exact.view(torch.int32) + torch.randint_like(exact, 1 << 16).int()
                            exact = (bits & -(1 << 16)).view(torch.float32)
                        p.copy_(exact)

    model = matrix(torch.bfloat16)
    state = torch.get_rng_state()
    assert told(Stochastic(model.parameters(), weight_decay=0.2), model) == {}
    assert torch.equal(torch.get_rng_state(), state)


def test_epsilon_of_half_precision() -> None:
    def found(dtype: torch.dtype, eps: float, cls: Any = torch.optim.AdamW) -> str | None:
        model = matrix(dtype)
        optimizer = cls(model.parameters(), lr=1e-3, weight_decay=0.0, eps=eps)
        return told(optimizer, model).get("eps-too-small")

    assert found(torch.float16, 1e-8) == "error"
    assert found(torch.float16, 1e-4) is None
    assert found(torch.bfloat16, 1e-8) is None
    assert found(torch.float32, 1e-8) is None
    assert found(torch.float32, 0.0) == "error"  # 0/0 where a gradient is 0


@pytest.mark.parametrize(
    ("weights", "expected"), [(None, "error"), ("nearest", "error"), ("kahan", None), ("split8", None)]
)
def test_weights_that_keep_small_decay_are_no_alarm(weights: Any, expected: str | None) -> None:
    """Ours say how they store weights: r = 1e-4 is lost to nearest alone, 1e-6 to Kahan's residual too."""

    def found(lr: float, **options: Any) -> str | None:
        model = matrix(torch.bfloat16)
        optimizer = adamantine.torch.AdamW(
            model.parameters(), lr=lr, weight_decay=0.1, state="float32", **options
        )
        return told(optimizer, model).get("rounds-to-nothing")

    assert found(1e-3, weights=weights) == expected
    # Far less than any dry run of 20 steps could see of unbiased rounding.
    assert found(1e-6, weights="stochastic") is None
    assert found(1e-6, weights="split8") is None
    assert found(1e-5, weights="kahan") == "error"
    # What stochastic rounding is for has no meaning in float32.
    model = matrix(torch.float32)
    float32 = adamantine.torch.AdamW(model.parameters(), lr=1e-3, weight_decay=2.8e-5, weights="stochastic")
    assert told(float32, model).get("rounds-to-nothing") == "note"


def test_small_gradients_in_float16_state() -> None:
    """Ours computes in float32, where ε = 1e-8 is a number; their state loses the squares."""

    def found(**options: Any) -> Any:
        model = matrix(torch.float16)
        optimizer = adamantine.torch.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0, **options)
        findings = [f for f in audit(optimizer, model).findings if f.code == "eps-too-small"]
        return findings[0].reason.en if findings else None

    assert "moved weights by more than 100 × lr" in found()
    assert found(eps=1e-4) is None
    assert found(state="float32") is None
    assert found(state={"exp_avg_sq": "8bit"}) is None


def test_averages_that_cannot_fall() -> None:
    def found(dtype: torch.dtype, cls: Any = torch.optim.AdamW, **options: Any) -> str | None:
        model = matrix(dtype)
        optimizer = cls(model.parameters(), lr=1e-3, weight_decay=0.0, **options)
        return told(optimizer, model).get("averages-stall")

    bf16, float32 = torch.bfloat16, torch.float32
    assert found(bf16) == "warning"
    assert found(bf16, foreach=True) == "warning"
    assert found(bf16, amsgrad=True) == "warning"
    assert found(bf16, betas=(0.9, 0.99)) is None
    assert found(float32) is None
    assert found(bf16, torch.optim.Adamax) == "warning"
    assert found(bf16, torch.optim.RMSprop, alpha=0.999) == "warning"
    assert found(bf16, torch.optim.Adagrad) is None  # a sum, which is to stay
    assert found(bf16, torch.optim.SGD, momentum=0.9) is None
    assert found(bf16, adamantine.torch.AdamW, weights="stochastic") == "warning"
    assert found(bf16, adamantine.torch.AdamW, weights="stochastic", state="float32") is None
    assert found(bf16, adamantine.torch.AdamW, weights="stochastic", state="8bit") is None
    assert found(float32, adamantine.torch.AdamW, state="bfloat16") == "warning"
    assert found(float32, adamantine.torch.AdamW, state={"exp_avg": "bfloat16"}) is None
    assert found(torch.float16) is None  # 2⁻¹² is less than 1 - β₂


# Schedules


def test_decay_that_a_schedule_changes() -> None:
    class Warming(torch_schedulers.LRScheduler):
        """Writes λ into all groups, or only into those that have one."""

        def __init__(self, optimizer: Any, sparing: bool) -> None:
            self.sparing = sparing
            super().__init__(optimizer)

        def get_lr(self) -> Any:
            for group in self.optimizer.param_groups:
                if self.last_epoch > 0 and (group["weight_decay"] > 0 or not self.sparing):
                    group["weight_decay"] = 0.01 * self.last_epoch
            return [group["lr"] for group in self.optimizer.param_groups]

    class WeightDecaySchedule(Warming):
        pass

    model = nn.Linear(4, 4)
    for cls, sparing, expected in (
        (Warming, True, {"schedule-changes-decay": "warning"}),
        (WeightDecaySchedule, True, {}),
        (WeightDecaySchedule, False, {"schedule-changes-decay": "error"}),
    ):
        groups = adamantine.param_groups(model, lr=1e-3, weight_decay=0.1)
        optimizer = torch.optim.AdamW(groups)
        found = audit(optimizer, model, steps=100, scheduler=cls(optimizer, sparing))
        assert {f.code: f.severity for f in found.findings} == expected
        if not sparing:
            assert found.findings[0].parameters == ("bias",)


def test_a_cosine_that_climbs_again() -> None:
    model = matrix()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    scheduler = torch_schedulers.CosineAnnealingLR(optimizer, T_max=5000)
    assert told(optimizer, model, scheduler=scheduler, steps=10_000) == {"schedule-ends-early": "warning"}
    assert told(optimizer, model, scheduler=scheduler, steps=5_100) == {}
    per_epoch = torch_schedulers.CosineAnnealingLR(optimizer, T_max=100)
    assert told(optimizer, model, scheduler=per_epoch, steps=10_000, steps_per_epoch=100) == {}


def test_a_cosine_after_a_warmup_that_climbs_again() -> None:
    model = matrix()

    def found(make: Any, steps: int) -> dict[str, str]:
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
        warmup = torch_schedulers.LinearLR(optimizer, 0.01, 1.0, 500)
        cosine = torch_schedulers.CosineAnnealingLR(optimizer, T_max=5000)
        return told(optimizer, model, scheduler=make(optimizer, warmup, cosine), steps=steps)

    def sequence(optimizer: Any, *members: Any) -> Any:
        return torch_schedulers.SequentialLR(optimizer, list(members), [500])

    def chain(optimizer: Any, *members: Any) -> Any:
        return torch_schedulers.ChainedScheduler(list(members))

    for make, end in ((sequence, 5_500), (chain, 5_000)):
        assert found(make, end) == {}
        assert found(make, 2 * end) == {"schedule-ends-early": "warning"}


def test_what_is_left_of_a_run_does_not_make_its_decay_weak() -> None:
    model = matrix()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-3)
    scheduler = torch_schedulers.LambdaLR(optimizer, lambda step: 1.0)
    assert told(optimizer, model, scheduler=scheduler, steps=10_000) == {"unit-of-another-mode": "warning"}
    assert told(optimizer, model, scheduler=scheduler, steps=100_000) == {}
    optimizer.step()
    for _ in range(99_000):
        scheduler.step()
    assert told(optimizer, model, scheduler=scheduler, steps=100_000) == {}


def test_the_scheduler_of_another_optimizer() -> None:
    model = matrix()
    old, new = (torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1) for _ in range(2))
    scheduler = torch_schedulers.CosineAnnealingLR(old, T_max=10_000)
    assert told(new, model, scheduler=scheduler, steps=10_000) == {"schedule-of-another-optimizer": "error"}


def test_a_peak_that_is_not_the_schedules() -> None:
    def found(lr: float, factor: float, peak: float | None = None) -> str | None:
        model = matrix()
        group = {"params": list(model.parameters()), "peak_lr": peak}
        optimizer = adamantine.torch.AdamW([group], lr=lr, weight_decay=1e-3, decay="independent")
        scheduler = torch_schedulers.LambdaLR(optimizer, lambda step: factor * min(1.0, (step + 1) / 10))
        return told(optimizer, model, scheduler=scheduler, steps=1000).get("peak-lr-wrong")

    assert found(1e-3, 1.0) is None
    assert found(1.0, 1e-3) == "warning"  # taken for 1.0, reached: 1e-3
    assert found(1e-4, 10.0) == "warning"
    assert found(1e-4, 10.0, peak=1e-3) is None
    assert found(1e-3, 1.0, peak=5e-4) == "error"


def test_no_finding_is_outside_of_the_catalogue() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=2e3)
    assert told(optimizer, model, steps=100).keys() <= CATALOGUE.keys()


def test_layer_wise_groups_are_dry_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd(torch.optim.AdamW):
        def step(self, closure: Any = None) -> Any:
            return super().step(closure)

    from adamantine.audit import behaviours

    model = nn.Sequential(*(nn.Linear(4, 4, bias=False) for _ in range(9)))
    groups = [
        {"params": list(layer.parameters()), "lr": 1e-3 * 0.5**depth} for depth, layer in enumerate(model)
    ]
    runs = []
    really = behaviours.behaviour_of
    monkeypatch.setattr(behaviours, "behaviour_of", lambda *a: runs.append(a) or really(*a))
    rows = audit(Odd(groups, weight_decay=0.1), model).report.groups
    assert len(runs) == 1
    for row in rows:
        assert row.behaviour.shrink == pytest.approx(row.lr * 0.1)


def test_what_fsdp_has_flattened_is_not_judged() -> None:
    model = nn.Module()
    model.register_parameter("_flat_param", nn.Parameter(torch.ones(100)))
    assert told(torch.optim.AdamW(model.parameters(), weight_decay=0.1), model) == {"flattened": "note"}


def test_a_tensor_lr_is_tried_as_a_tensor() -> None:
    class Strict(torch.optim.AdamW):
        def step(self, closure: Any = None) -> Any:
            if not all(isinstance(group["lr"], torch.Tensor) for group in self.param_groups):
                raise RuntimeError("lr was changed to a non-Tensor object")
            return super().step(closure)

    model = matrix(torch.bfloat16)
    optimizer = Strict(model.parameters(), lr=torch.tensor(1e-3), weight_decay=0.1)
    assert told(optimizer, model).get("rounds-to-nothing") == "error"
