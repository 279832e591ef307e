"""Signatures and defaults as torch's, wrong values named with their remedy, flags that speak, imports."""

from __future__ import annotations

import inspect
import math
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import Parameter

import adamantine.torch as at

EVERY_CLASS = pytest.mark.parametrize("cls", at.OPTIMIZERS.values(), ids=list(at.OPTIMIZERS))
SHARED = pytest.mark.parametrize("name", [name for name in at.OPTIMIZERS if hasattr(torch.optim, name)])
OURS = ("decay", "peak_lr", "state", "weights", "max_norm", "on_nonfinite", "engine", "seed", "offload")

#: Hyperparameter → (how an error calls it, what it asks for, wrong values).
WRONG = {
    "lr": ("learning rate", "finite and >= 0", [-0.1, math.nan, math.inf, "fast", None]),
    "weight_decay": ("weight_decay value", "finite and >= 0", [-0.1, math.nan, math.inf, "some", None]),
    "eps": ("epsilon value", "finite and >= 0", [-1e-8, math.nan, math.inf, "tiny"]),
    "momentum": ("momentum value", r"in \[0, 1\]; 0.9 is usual", [-0.1, 1.5, math.nan, "x"]),
    "dampening": ("dampening value", r"in \[0, 1\]", [-0.1, 1.5, math.nan, "x"]),
    "alpha": ("alpha value", r"in \[0, 1\]; 0.99 is usual", [-0.1, 1.5, math.nan, "x"]),
    "lr_decay": ("lr_decay value", "finite and >= 0", [-0.1, math.nan, math.inf, "x"]),
    "momentum_decay": ("momentum_decay value", "finite and >= 0", [-0.1, math.nan, math.inf, "x"]),
    "initial_accumulator_value": (
        "initial_accumulator_value value",
        "finite and >= 0",
        [-0.1, math.nan, "x"],
    ),
    "betas": ("beta", r"in \[0, 1\)|give a pair", [(1.0, 0.9), (0.9, -0.1), (0.9, math.nan), 0.9, (0.9,)]),
    "peak_lr": ("peak_lr", r"None \(tracked\) or finite", [-0.1, math.nan, math.inf, "x"]),
    "max_norm": ("max_norm", r"None \(no clipping\) or > 0", [0.0, -1.0, math.nan, "x"]),
    "decay": ("decay mode", "choose one of 'none', 'l2', 'decoupled'", ["L2", "adamw", 0.1]),
    "on_nonfinite": ("on_nonfinite", "choose one of ignore, skip, raise", ["warn", None, True]),
}
BAD = [
    pytest.param(cls, name, value, id=f"{cls.__name__}-{name}-{value}")
    for cls in at.OPTIMIZERS.values()
    for name, (_, _, values) in WRONG.items()
    if name in inspect.signature(cls).parameters
    for value in values
]
#: What is wrong by its form, or together with something else.
CONTRADICTIONS = [
    (at.Adam, {"lr": torch.tensor(-1.0)}, "Invalid learning rate: -1.0"),
    (at.SGD, {"nesterov": True}, "requires a momentum and zero dampening; got momentum=0"),
    (at.SGD, {"nesterov": True, "momentum": 0.9, "dampening": 0.1}, "dampening=0.1"),
    (at.SGDW, {"decay": "independent", "weight_decay": 1.0}, "must be < 1.*convert_weight_decay"),
    (at.Adam, {"decoupled_weight_decay": True, "decay": "l2"}, "contradicts decay='l2'"),
    (at.AdamW, {"decay": None}, "Invalid decay mode: None"),
    (at.RAdam, {"differentiable": True, "max_norm": 1.0}, "clip with differentiable operations"),
    (at.Lion, {"differentiable": True, "on_nonfinite": "skip"}, "differentiable"),
    (at.AdamW, {"weight_decay": torch.ones(2)}, "Tensor weight_decay must be 1-element, got shape"),
    (at.AdamW, {"betas": (torch.ones(2), torch.ones(1))}, r"Tensor betas\[0\] must be 1-element"),
]


def params():
    return [Parameter(torch.ones(2))]


# --- signatures -------------------------------------------------------------------------------------------


@SHARED
def test_signature_starts_with_torchs(name):
    """Same names, order, defaults and kinds, so that any call of torch's class means the same here."""
    ours, torchs = (
        [(p.name, p.default, p.kind) for p in inspect.signature(cls).parameters.values()]
        for cls in (at.OPTIMIZERS[name], getattr(torch.optim, name))
    )
    assert ours[: len(torchs)] == torchs
    assert [(name, kind) for name, _, kind in ours[len(torchs) :]] == [
        (name, inspect.Parameter.KEYWORD_ONLY) for name in OURS
    ]


@SHARED
def test_groups_hold_torchs_keys(name):
    ours, torchs = at.OPTIMIZERS[name](params()), getattr(torch.optim, name)(params())
    assert torchs.defaults.items() <= ours.defaults.items()
    group, its = ours.param_groups[0], torchs.param_groups[0]
    assert its.keys() <= group.keys()
    assert all(group[key] == its[key] for key in its if key != "params")


@EVERY_CLASS
def test_is_a_torch_optimizer(cls):
    optimizer = cls(params())
    assert isinstance(optimizer, torch.optim.Optimizer)
    assert cls.__doc__
    assert ">>>" in cls.__doc__


def test_the_classes_torch_has_not():
    sgd, sgdw = (inspect.signature(cls).parameters for cls in (at.SGD, at.SGDW))
    assert list(sgd) == list(sgdw)
    assert sgdw["decay"].default == "decoupled"


@EVERY_CLASS
def test_default_modes(cls):
    """What torch has begins as torch's own, which the parity tests pin down; what torch has not decouples."""
    known = hasattr(torch.optim, cls.__name__)
    assert cls(params()).defaults["decay"] == (cls.foreign_decay if known else "decoupled")


# --- wrong values -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cls", "name", "value"), BAD)
def test_a_wrong_value_is_named(cls, name, value):
    """The message holds parameter, value and remedy; a group's own value is checked alike."""
    words, remedy, _ = WRONG[name]
    with pytest.raises(ValueError, match=words) as caught:
        cls(params(), **{name: value})
    shown = next((v for v in value if not 0 <= v < 1), value) if isinstance(value, tuple) else value
    assert str(shown) in str(caught.value)
    caught.match(remedy)
    if name not in {"max_norm", "on_nonfinite"}:  # of the optimizer, not of a group
        with pytest.raises(ValueError, match=words):
            cls([{"params": params(), name: value}])


@pytest.mark.parametrize(("cls", "options", "message"), CONTRADICTIONS)
def test_contradictions(cls, options, message):
    with pytest.raises(ValueError, match=message):
        cls(params(), **options)


@pytest.mark.parametrize("mode", ["independent", "corrected"])
def test_an_lr_above_the_stated_peak(mode):
    p = params()
    optimizer = at.AdamW(p, lr=0.1, peak_lr=0.01, decay=mode)
    p[0].grad = torch.ones(2)
    with pytest.raises(ValueError, match=r"got peak_lr=0.01 at lr=0.1; .*peak_lr=None"):
        optimizer.step()
    assert torch.equal(p[0], torch.ones(2))


# --- flags ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cls", "flag"),
    [
        (cls, flag)
        for cls in at.OPTIMIZERS.values()
        for flag in ("fused", "capturable")
        if flag in inspect.signature(cls).parameters
    ],
)
def test_a_flag_without_effect_says_so(cls, flag):
    with pytest.warns(UserWarning, match=rf"{cls.__name__}\({flag}=True\): .*same numbers") as caught:
        optimizer = cls(params(), engine="generic", **{flag: True})
    assert caught[0].filename == __file__
    plain = cls(params())
    for each in (optimizer, plain):
        each.param_groups[0]["params"][0].grad = torch.ones(2)
        each.step()
    assert torch.equal(optimizer.param_groups[0]["params"][0], plain.param_groups[0]["params"][0])


def test_fused_excludes_foreach():
    with pytest.raises(RuntimeError, match="`fused` and `foreach` cannot be `True` together"):
        at.AdamW(params(), fused=True, foreach=True)


@SHARED
def test_checkpoints_of_fused_and_capturable_torch(name):
    """The flags of the machine that saved must not stop the one that loads."""
    p = params()
    torchs = getattr(torch.optim, name)(p)
    p[0].grad = torch.ones(2)
    torchs.step()
    state_dict = torchs.state_dict()
    for flag in {"fused", "capturable"} & state_dict["param_groups"][0].keys():
        state_dict["param_groups"][0][flag] = True
    ours = at.OPTIMIZERS[name](p)
    ours.load_state_dict(state_dict)
    ours.step()


# --- what torch keeps to itself ---------------------------------------------------------------------------


@pytest.mark.parametrize(("ci", "outcome"), [("true", ImportError), ("", pytest.skip.Exception)])
def test_the_suite_of_torch_is_not_skipped_unseen(monkeypatch, ci, outcome):
    monkeypatch.setitem(sys.modules, "torch.testing._internal.common_optimizers", None)
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome):
        runpy.run_path(str(Path(__file__).with_name("test_pytorch_suite.py")))


# --- imports ----------------------------------------------------------------------------------------------


def python(code):
    return subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)


def test_adamantine_imports_no_framework():
    heavy = ["torch", "jax", "tensorflow", "matplotlib", "sklearn", "scipy", "rich", "typer", "jinja2"]
    done = python(f"import sys, adamantine; print(*sorted(set({heavy}) & set(sys.modules)))")
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


def test_without_torch_the_error_says_what_to_install():
    done = python(
        """
import sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NoTorch())
import adamantine.reference
try:
    import adamantine.torch
except ImportError as error:
    print(error)
"""
    )
    assert done.stdout.strip() == 'adamantine.torch needs PyTorch: pip install "adamantine[torch]"', (
        done.stderr
    )
