"""``--fix``: its programs run as they stand and mend what they say, on every script of the gallery."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from adamantine.audit import audit
from adamantine.audit.fix import Fix, fixed

GALLERY = Path(__file__).parents[1] / "gallery"


@pytest.fixture
def script(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """One script of the gallery, importable, for programs that take its optimizer class."""
    path: Path = request.param
    name = f"fixed_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[name]


def run(fix: Fix, model: Any) -> Any:
    """The program's optimizer, or its optimizers."""
    space: dict[str, Any] = {"model": model}
    exec(fix.program, space)
    found = [space[name] for name in sorted(space) if name.split("_")[0] == "optimizer"]
    return found[0] if len(found) == 1 else found


def codes(found: Any) -> set[str]:
    """Of the findings that fail a build."""
    return {finding.code for finding in found.findings if finding.severity != "note"}


@pytest.mark.parametrize(
    "script", sorted((GALLERY / "mistakes").glob("*.py")), ids=lambda path: path.stem, indirect=True
)
def test_what_is_said_to_be_mended_is(script: ModuleType) -> None:
    model, optimizer, *schedulers = script.build()
    plan = script.PLAN
    before = audit(optimizer, model, scheduler=schedulers[0] if schedulers else None, **plan)
    for style in ("adamantine", "torch"):
        fix = fixed(before.report, optimizer, model, style=style)  # type: ignore[arg-type]
        if not fix.mended:
            assert "optimizer =" not in fix.program
            continue
        after = codes(audit(run(fix, model), model, **plan))
        assert after.isdisjoint(fix.mended)
        assert after <= codes(before)
        if style == "torch" and type(optimizer).__module__.startswith("torch."):
            assert "adamantine" not in fix.program or "decay=" in fix.program


@pytest.mark.parametrize(
    "script", sorted((GALLERY / "correct").glob("*.py")), ids=lambda path: path.stem, indirect=True
)
def test_what_is_right_stays(script: ModuleType) -> None:
    model, optimizer, *_ = script.build()
    assert fixed(audit(optimizer, model, **script.PLAN).report, optimizer, model).mended == ()


def _net() -> nn.Module:
    return nn.ModuleDict({"a": nn.Linear(4, 4), "ln": nn.LayerNorm(4), "b": nn.Linear(4, 2)})


def _program(
    optimizer: torch.optim.Optimizer, model: nn.Module, style: Any = "adamantine", **plan: Any
) -> str:
    fix = fixed(audit(optimizer, model, **plan).report, optimizer, model, style=style)
    run(fix, model)
    return fix.program


def test_the_users_other_arguments_are_kept() -> None:
    model = _net()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1, amsgrad=True
    )
    program = _program(optimizer, model)
    assert "param_groups(model, lr=0.0003, weight_decay=0.1)" in program
    assert "torch.optim.AdamW(groups, betas=(0.9, 0.95), amsgrad=True)" in program


def test_learning_rates_by_layer_are_kept() -> None:
    model = _net()
    groups = [{"params": model["a"].parameters(), "lr": 1e-4}, {"params": [*model["ln"].parameters()]},
              {"params": model["b"].parameters(), "betas": (0.8, 0.9)}]  # fmt: skip
    optimizer = torch.optim.AdamW(groups, lr=1e-3, weight_decay=0.1)
    fix = fixed(audit(optimizer, model).report, optimizer, model)
    new = run(fix, model)
    by_name = {id(p): name for name, p in model.named_parameters()}
    seen = {
        by_name[id(p)]: (g["lr"], g["weight_decay"], g["betas"])
        for g in new.param_groups
        for p in g["params"]
    }
    usual = (0.9, 0.999)
    assert seen == {
        "a.weight": (1e-4, 0.1, usual),
        "a.bias": (1e-4, 0.0, usual),
        "ln.weight": (1e-3, 0.0, usual),
        "ln.bias": (1e-3, 0.0, usual),
        "b.weight": (1e-3, 0.1, (0.8, 0.9)),
        "b.bias": (1e-3, 0.0, (0.8, 0.9)),
    }


def test_adam_becomes_adamw_with_a_first_guess_that_is_said_to_be_one() -> None:
    model = _net()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-4)
    program = _program(optimizer, model, steps=5000)
    assert "torch.optim.AdamW(" in program
    assert "weight_decay=0.2" in program  # 1/(1e-3·5000)
    assert "no factor converts it" in program
    assert "only a starting point: tune it" in program


def test_momentum_that_a_scheduler_cycles_is_no_setting_of_the_user() -> None:
    model = _net()
    groups = [{"params": [p], "betas": (0.9, 0.97)} for p in model.parameters()]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.85, 0.97), weight_decay=0.1)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=100)
    found = audit(optimizer, model, scheduler=scheduler)
    (biases,) = [f for f in found.findings if f.code == "decays-bias"]
    assert "betas=(0.85, 0.97)" in biases.remedy.en  # not OneCycleLR's 0.95
    assert "betas=(0.85, 0.97)" in fixed(found.report, optimizer, model).program


def test_the_lr_before_a_schedule_is_meant() -> None:
    model = _net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (step + 1) / 100)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1e-5)
    program = _program(optimizer, model, scheduler=scheduler, steps=100)
    assert "lr=0.001" in program


def test_embeddings_that_the_user_decays_go_on_decaying() -> None:
    model = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    assert 'embeddings="decay"' in _program(optimizer, model)


def test_several_optimizers_keep_their_own_parameters() -> None:
    model = _net()
    first = torch.optim.AdamW(model["a"].parameters(), lr=1e-3, weight_decay=0.1)
    second = torch.optim.SGD([*model["ln"].parameters(), *model["b"].parameters()], lr=0.1)
    fix = fixed(audit([first, second], model).report, [first, second], model)
    new = run(fix, model)
    assert [type(o).__name__ for o in new] == ["AdamW", "SGD"]
    assert [sum(len(g["params"]) for g in o.param_groups) for o in new] == [2, 4]
    assert "decays-bias" not in codes(audit(new, model))


def test_a_sequence_of_models_is_one_in_the_program() -> None:
    models = [nn.Linear(4, 4), nn.Linear(4, 2)]
    optimizer = torch.optim.AdamW([p for m in models for p in m.parameters()], lr=1e-3, weight_decay=0.1)
    fix = fixed(audit(optimizer, models).report, optimizer, models)
    assert codes(audit(run(fix, models), models)) == set()


def test_nothing_to_mend_is_said() -> None:
    model = _net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    assert fixed(audit(optimizer, model).report, optimizer, model).program == "# Nothing to mend.\n"


def test_what_no_program_can_mend_stays_as_advice() -> None:
    model = _net().to(torch.bfloat16)
    optimizer = torch.optim.AdamW([model["a"].weight, model["b"].weight], lr=1e-4, weight_decay=0.1)
    for name in ("a.bias", "b.bias", "ln.weight", "ln.bias"):
        model.get_parameter(name).requires_grad_(False)
    fix = fixed(audit(optimizer, model).report, optimizer, model)
    assert fix.mended == ()
    assert "# Not mended here, rounds-to-nothing: " in fix.program


class OtherName(torch.optim.Optimizer):
    """λ is called wd."""

    def __init__(self, params: Any, lr: float = 1e-3, wd: float = 0.1) -> None:
        super().__init__(params, {"lr": lr, "wd": wd})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.mul_(1 - group["lr"] * group["wd"]).sub_(group["lr"] * p.grad.sign())


@pytest.mark.parametrize("style", ["adamantine", "torch"])
def test_the_class_is_called_with_its_own_name_of_the_decay(style: Any) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8))
    optimizer = OtherName(model.parameters(), lr=0.01, wd=0.05)
    fix = fixed(audit(optimizer, model).report, optimizer, model, style=style)
    made: Any = {"model": model, "OtherName": OtherName}
    exec("\n".join(line for line in fix.program.splitlines() if "import OtherName" not in line), made)
    assert [(g["lr"], g["wd"]) for g in made["optimizer"].param_groups] == [(0.01, 0.05), (0.01, 0.0)]
    assert codes(audit(made["optimizer"], model)) == set()


class _Keywords(torch.optim.AdamW):
    def __init__(self, params: Any, **settings: Any) -> None:
        super().__init__(params, **settings)


class _Groups:
    """All that an audit asks of an optimizer."""

    def __init__(self, params: Any, weight_decay: float = 0.1) -> None:
        self.param_groups = [{"params": list(params), "weight_decay": weight_decay}]

    def step(self) -> None: ...


def test_arguments_behind_keywords_are_kept() -> None:
    model = _net()
    optimizer = _Keywords(model.parameters(), lr=3e-4, weight_decay=0.1, betas=(0.9, 0.95))
    fix = fixed(audit(optimizer, model).report, optimizer, model)
    space: dict[str, Any] = {"model": model, "_Keywords": _Keywords}
    exec("\n".join(line for line in fix.program.splitlines() if __name__ not in line), space)
    assert {(g["lr"], g["betas"]) for g in space["optimizer"].param_groups} == {(3e-4, (0.9, 0.95))}


def test_optimizers_that_have_groups_alone() -> None:
    model = _net()
    optimizer = _Groups(model.parameters())
    assert "_Groups(" in fixed(audit(optimizer, model).report, optimizer, model).program


def test_the_optimizer_inside_a_wrapper_is_written() -> None:
    model = _net()
    inner = torch.optim.AdamW(model.parameters(), lr=3e-4, weight_decay=0.1)
    wrapper = SimpleNamespace(optimizer=inner, param_groups=inner.param_groups)
    assert "torch.optim.AdamW(" in fixed(audit(wrapper, model).report, wrapper, model).program


@pytest.mark.parametrize("style", ["adamantine", "torch"])
@pytest.mark.parametrize("name", ['a"b', "a'b", "\"); raise SystemExit(1) #'", "back\\slash", "a[0]*", "é"])
def test_no_name_gets_out_of_its_quotes(name: str, style: Any) -> None:
    model = nn.ModuleDict({name: nn.Linear(4, 4), "other": nn.Linear(4, 4)})
    groups = [
        {"params": [model[name].weight, model[name].bias]},
        {"params": [model["other"].weight], "lr": 0.1},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, weight_decay=0.1)
    fix = fixed(audit(optimizer, model).report, optimizer, model, style=style)
    assert codes(audit(run(fix, model), model)).isdisjoint(fix.mended)


def test_a_tensors_lr_is_the_number_that_was_typed() -> None:
    model = _net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=torch.tensor(1e-3), weight_decay=0.1)
    assert "lr=0.001," in _program(optimizer, model)
