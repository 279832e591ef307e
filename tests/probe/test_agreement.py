"""Read and measured agree: for every class of torch.optim, and every class, mode and engine of ours."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import adamantine.torch as ours
from adamantine.probe import Behaviour, behaviour_of
from adamantine.rules.decay import MODES

LR, DECAY = 1e-3, 0.01


def parameter() -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.linspace(-1.0, 1.0, 12).reshape(3, 4))


def both(optimizer: torch.optim.Optimizer) -> tuple[Behaviour, Behaviour]:
    read, measured = behaviour_of(optimizer), behaviour_of(optimizer, known=False)
    assert (read.source, measured.source) == ("class", "probe")
    return read, measured


def assert_alike(read: Behaviour, measured: Behaviour) -> None:
    assert measured.decay == read.decay, measured.evidence
    assert (measured.adaptive, measured.order) == (read.adaptive, read.order), measured.evidence
    assert measured.lr_power == read.lr_power, measured.evidence
    if read.shrink is None:
        assert measured.shrink is None
    else:
        assert measured.shrink == pytest.approx(read.shrink, rel=0.01)


TORCH: dict[str, tuple[type, dict[str, Any]]] = {
    "SGD": (torch.optim.SGD, {}),
    "SGD with momentum": (torch.optim.SGD, {"momentum": 0.9}),
    "SGD with damped momentum": (torch.optim.SGD, {"momentum": 0.9, "dampening": 0.5}),
    "SGD after Nesterov": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    "SGD uphill": (torch.optim.SGD, {"momentum": 0.9, "maximize": True}),
    "ASGD": (torch.optim.ASGD, {}),
    "Adadelta": (torch.optim.Adadelta, {}),
    "Adafactor": (torch.optim.Adafactor, {}),
    "Adagrad": (torch.optim.Adagrad, {}),
    "Adam": (torch.optim.Adam, {}),
    "Adam, AMSGrad": (torch.optim.Adam, {"amsgrad": True}),
    "Adam, flagged": (torch.optim.Adam, {"decoupled_weight_decay": True}),
    "Adam, one by one": (torch.optim.Adam, {"foreach": False}),
    "Adam, fused": (torch.optim.Adam, {"fused": True}),
    "Adam, lr in a tensor": (torch.optim.Adam, {"lr": torch.tensor(LR, dtype=torch.float64)}),
    "AdamW": (torch.optim.AdamW, {}),
    "AdamW uphill": (torch.optim.AdamW, {"maximize": True}),
    "AdamW, fused": (torch.optim.AdamW, {"fused": True}),
    "Adamax": (torch.optim.Adamax, {}),
    "NAdam": (torch.optim.NAdam, {}),
    "NAdam, flagged": (torch.optim.NAdam, {"decoupled_weight_decay": True}),
    "RAdam": (torch.optim.RAdam, {}),
    "RAdam, flagged": (torch.optim.RAdam, {"decoupled_weight_decay": True}),
    "RMSprop": (torch.optim.RMSprop, {}),
    "RMSprop, centered": (torch.optim.RMSprop, {"centered": True, "momentum": 0.9}),
}
if hasattr(torch.optim, "Muon"):
    TORCH["Muon"] = (torch.optim.Muon, {})


@pytest.mark.parametrize("name", TORCH)
def test_torch(name: str) -> None:
    cls, options = TORCH[name]
    assert_alike(*both(cls([parameter()], **{"lr": LR, "weight_decay": DECAY, **options})))


@pytest.mark.parametrize("name", ["Rprop", "SparseAdam"])
def test_torch_without_decay(name: str) -> None:
    read, measured = both(getattr(torch.optim, name)([parameter()]))
    assert (read.decay, read.adaptive) == (measured.decay, measured.adaptive) == ("none", True)


def test_every_torch_class_is_in_the_table() -> None:
    """LBFGS alone is only read: it takes as many steps in one as it likes."""
    classes = {
        name
        for name, cls in vars(torch.optim).items()
        if isinstance(cls, type) and issubclass(cls, torch.optim.Optimizer) and name != "Optimizer"
    }
    tested = {cls.__name__ for cls, _ in TORCH.values()} | {"Rprop", "SparseAdam", "LBFGS"}
    assert classes == tested
    assert behaviour_of(torch.optim.LBFGS([parameter()])).decay == "none"


def test_decay_of_asgd_without_weight_decay() -> None:
    read, measured = both(torch.optim.ASGD([parameter()], lr=LR))
    assert (read.decay, measured.decay) == ("other", "other")
    assert measured.shrink == pytest.approx(read.shrink, rel=0.01)


OURS = [
    (name, {"decay": mode, "engine": engine})
    for name in ours.OPTIMIZERS
    for mode in MODES
    for engine in (("native", "generic") if name in {"SGD", "AdamW", "Lion"} else ("auto",))
]
OURS += [
    ("SGD", {"decay": mode, **options})
    for mode in MODES
    for options in (
        {"momentum": 0.9},
        {"momentum": 0.9, "nesterov": True},
        {"momentum": 0.5, "maximize": True},
    )
]
OURS += [("AdamW", {"decay": mode, "amsgrad": True}) for mode in MODES]


@pytest.mark.parametrize(
    ("name", "options"), OURS, ids=[f"{name}-{'-'.join(map(str, o.values()))}" for name, o in OURS]
)
def test_ours(name: str, options: dict[str, Any]) -> None:
    optimizer = ours.OPTIMIZERS[name]([parameter()], lr=LR, weight_decay=DECAY, **options)
    read, measured = both(optimizer)
    if options["decay"] == "none":  # asked for by one argument, ignored for the eyes of the other
        assert (read.decay, measured.decay, measured.shrink) == ("none", "ignored", 0.0)
    elif name in {"SGD", "SGDW"} and "momentum" not in options and options["decay"] == "decoupled":
        # without momentum the weights are the same bits as with L2, which it is then called
        assert (read.decay, measured.decay) == ("decoupled", "l2")
        assert measured.shrink == pytest.approx(read.shrink)
        assert "the two are one" in measured.evidence
    else:
        assert_alike(read, measured)


@pytest.mark.parametrize("mode", ["independent", "corrected"])
@pytest.mark.parametrize("stated", [True, False])
def test_in_the_middle_of_a_schedule(mode: str, stated: bool) -> None:
    """The present lr is a tenth of the peak, which is stated, or remembered from the constructor."""
    options: dict[str, Any] = {"peak_lr": 0.1} if stated else {}
    optimizer = ours.AdamW([parameter()], lr=0.1, weight_decay=0.01, decay=mode, **options)
    optimizer.param_groups[0]["lr"] = 0.01
    read, measured = both(optimizer)
    assert_alike(read, measured)
    assert read.shrink == pytest.approx(1e-3 if mode == "independent" else 1e-5)


def test_a_checkpoint_makes_adam_decoupled() -> None:
    """torch's own trap: the flag of the saved group decides, whatever the class is called."""
    adamw = torch.optim.AdamW([parameter()], lr=LR, weight_decay=DECAY)
    adam = torch.optim.Adam([parameter()], lr=LR, weight_decay=DECAY)
    assert behaviour_of(adam).decay == "l2"
    adam.load_state_dict(adamw.state_dict())
    read, measured = both(adam)
    assert read.decay == measured.decay == "decoupled"


def test_a_subclass_with_its_own_step_is_not_known() -> None:
    class Silent(torch.optim.AdamW):
        def __init__(self, params: Any, lr: float = LR, weight_decay: float = DECAY) -> None:
            super().__init__(params, lr=lr, weight_decay=weight_decay)

    class Undoes(Silent):
        @torch.no_grad()
        def step(self, closure: Any = None) -> Any:
            for group in self.param_groups:
                for p in group["params"]:
                    p.div_(1 - group["lr"] * group["weight_decay"])
            return super().step(closure)

    assert behaviour_of(Silent([parameter()])).source == "class"
    undone = behaviour_of(Undoes([parameter()]))
    assert undone.source != "class"
    # dividing and multiplying round, so the weights differ by what cannot be told from rounding
    assert undone.decay in {"ignored", "unknown"}
