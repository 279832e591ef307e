"""A dry run leaves the training as it was, to the bit, and is of the optimizer as it is now."""

from __future__ import annotations

import copy
import random
from typing import Any

import numpy as np
import pytest
import torch
from tests.probe import odd
from torch.optim.optimizer import register_optimizer_step_pre_hook

from adamantine.probe import ProbeError, behaviour_of, like, measure


def parameter(*shape: int) -> torch.nn.Parameter:
    size = shape or (3, 4)
    return torch.nn.Parameter(torch.randn(size, generator=torch.Generator().manual_seed(3)))


def stepped(cls: Any, **options: Any) -> torch.optim.Optimizer:
    """Two parameters, two groups, three steps, gradients still there."""
    optimizer: torch.optim.Optimizer = cls(
        [{"params": [parameter(), parameter(4)]}, {"params": [parameter(2, 2)], "lr": 0.5}], **options
    )
    for _ in range(3):
        for group in optimizer.param_groups:
            for p in group["params"]:
                p.grad = torch.full_like(p, 0.25)
        optimizer.step()
    return optimizer


def snapshot(optimizer: torch.optim.Optimizer) -> Any:
    """All that a run may have changed; tensors as bytes."""

    def frozen(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            grad = None if value.grad is None else value.grad.numpy().tobytes()
            return value.detach().numpy().tobytes(), grad, value._version
        if isinstance(value, dict):
            return {str(key) if isinstance(key, torch.Tensor) else key: frozen(v) for key, v in value.items()}
        if isinstance(value, list | tuple):
            return [frozen(item) for item in value]
        return copy.deepcopy(value)

    names = {name: id(value) for name, value in vars(optimizer).items()}
    return frozen(optimizer.param_groups), frozen(dict(optimizer.state)), names


CLASSES: list[tuple[Any, dict[str, Any]]] = [
    (torch.optim.SGD, {"momentum": 0.9}),
    (torch.optim.Adagrad, {}),
    (torch.optim.AdamW, {"lr": torch.tensor(1e-3)}),
    (odd.Beside, {}),
    (odd.Needs, {"model": object()}),
    (odd.WantsClosure, {}),
    (odd.Raises, {}),
    (odd.OwnShapesOnly, {}),
]


@pytest.mark.parametrize(("cls", "options"), CLASSES, ids=[cls.__name__ for cls, _ in CLASSES])
def test_the_original_stays_as_it_is(cls: Any, options: dict[str, Any]) -> None:
    fails = cls in (odd.Raises, odd.WantsClosure)
    optimizer = (
        cls([parameter()], weight_decay=0.1, **options)
        if fails
        else stepped(cls, weight_decay=0.1, **options)
    )
    before = snapshot(optimizer)
    for group in range(len(optimizer.param_groups)):
        behaviour_of(optimizer, group, known=False)
    assert snapshot(optimizer) == before


def test_random_states_stay_as_they_are() -> None:
    before = torch.get_rng_state(), random.getstate(), repr(np.random.get_state())  # noqa: NPY002
    behaviour_of(odd.SeededNoise([parameter()], weight_decay=0.1))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert repr(np.random.get_state()) == before[2]  # noqa: NPY002


def test_no_seed_is_left_for_cuda() -> None:
    """torch.manual_seed queues one for when CUDA is first used, which is the training's to choose."""
    before = len(torch.cuda._queued_calls)
    behaviour_of(odd.SeededNoise([parameter()], weight_decay=0.1))
    assert len(torch.cuda._queued_calls) == before


def test_hooks_are_not_run() -> None:
    """Neither the optimizer's own nor those for all optimizers; both work afterwards."""
    calls: list[str] = []
    optimizer = odd.Beside([parameter()], weight_decay=0.1)
    own = optimizer.register_step_post_hook(lambda *_: calls.append("own"))
    for_all = register_optimizer_step_pre_hook(lambda *_: calls.append("all"))
    try:
        behaviour_of(optimizer)
        assert calls == []
        optimizer.step()
        assert calls == ["all", "own"]
    finally:
        own.remove()
        for_all.remove()


def test_under_no_grad_and_inference_mode() -> None:
    optimizer = odd.WantsClosure([parameter()], weight_decay=0.1)
    with torch.no_grad():
        assert behaviour_of(optimizer).decay == "decoupled"
    with torch.inference_mode():
        assert behaviour_of(optimizer).decay == "decoupled"


def test_with_another_default_device() -> None:
    optimizer = odd.Beside([parameter()], weight_decay=0.1)
    with torch.device("meta"):
        assert behaviour_of(optimizer).decay == "decoupled"


def test_a_group_without_parameters_and_one_on_meta() -> None:
    with torch.device("meta"):
        far = torch.nn.Parameter(torch.empty(3, 4))
    optimizer = odd.Beside([{"params": []}, {"params": [far]}], weight_decay=0.1)
    assert [behaviour_of(optimizer, group).decay for group in (0, 1)] == ["decoupled", "decoupled"]


def test_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    class Talks(odd.Beside):
        def __init__(self, params: Any, lr: float = 1e-3, weight_decay: float = 0.0) -> None:
            print("please check your arguments")
            super().__init__(params, lr, weight_decay)

    optimizer = Talks([parameter()], weight_decay=0.1)
    capsys.readouterr()
    assert behaviour_of(optimizer).decay == "decoupled"
    assert capsys.readouterr().out == ""


def test_the_scheduler_keeps_its_wrapper() -> None:
    """torch's schedulers hang a wrapper of ``step`` on the optimizer, which knows the original."""
    optimizer = odd.Needs([parameter()], object(), weight_decay=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    wrapper = optimizer.step
    before = snapshot(optimizer)
    assert behaviour_of(optimizer).decay == "decoupled"
    assert snapshot(optimizer) == before
    assert optimizer.step == wrapper
    optimizer.step()
    scheduler.step()  # would warn, had the optimizer not been seen to step


def test_hyperparameters_are_those_of_now() -> None:
    optimizer = odd.Beside(
        [{"params": [parameter()]}, {"params": [parameter()], "lr": 1.0}], weight_decay=0.25
    )
    optimizer.param_groups[0]["lr"] = 0.5
    optimizer.param_groups[1]["weight_decay"] = 0.5
    assert behaviour_of(optimizer, 0).shrink == pytest.approx(0.125)
    assert behaviour_of(optimizer, 1).shrink == pytest.approx(0.5)


def test_attributes_that_no_group_has() -> None:
    """An argument that the optimizer keeps for itself is passed on."""

    class Strong(odd.Odd):
        def __init__(
            self, params: Any, lr: float = 1e-3, weight_decay: float = 0.0, factor: float = 1.0
        ) -> None:
            super().__init__(params, lr, weight_decay)
            self.factor = factor

        def update(self, p: Any, g: Any, group: Any, state: Any) -> None:
            p.mul_(1 - group["lr"] * group["weight_decay"] * self.factor)
            super().update(p, g, group, state)

    found = behaviour_of(Strong([parameter()], lr=0.1, weight_decay=0.1, factor=3.0))
    assert (found.decay, found.shrink) == ("other", pytest.approx(0.03))


def test_an_optimizer_around_another() -> None:
    """Lookahead and SAM hold one; the copy holds a copy."""

    class Around(torch.optim.Optimizer):
        def __init__(self, optimizer: torch.optim.Optimizer) -> None:
            self.optimizer = optimizer
            super().__init__(optimizer.param_groups, optimizer.defaults)
            self.param_groups = optimizer.param_groups

        def step(self, closure: Any = None) -> Any:
            return self.optimizer.step(closure)

    optimizer = Around(stepped(torch.optim.AdamW, weight_decay=0.1))
    before = snapshot(optimizer), snapshot(optimizer.optimizer)
    found = behaviour_of(optimizer)
    assert (found.decay, found.source) == ("decoupled", "probe")
    assert (snapshot(optimizer), snapshot(optimizer.optimizer)) == before


def test_a_holder_of_an_optimizer() -> None:
    """Lightning's and DeepSpeed's wrappers are no torch optimizers, and pass the step on."""

    class Holder:
        optimizer = torch.optim.Adam([parameter()], weight_decay=0.1)

    assert behaviour_of(Holder()).decay == "l2"
    assert behaviour_of(object()).decay == "unknown"
    assert behaviour_of(Holder(), 7).decay == "unknown"


def test_like_names_what_it_tried() -> None:
    optimizer = odd.Raises([parameter()])
    with pytest.raises(ProbeError, match=r"Raises cannot be run .*no kernel for this device"):
        like(optimizer, optimizer.param_groups[0])


def test_like_overrides_the_group() -> None:
    optimizer = torch.optim.SGD([parameter()], lr=1.0)
    tensor = torch.ones(2, requires_grad=True)
    tensor.grad = torch.ones(2)
    like(optimizer, optimizer.param_groups[0])([tensor], lr=0.25, weight_decay=1.0).step()
    assert tensor.tolist() == [0.5, 0.5]


def test_measure_with_a_stated_decay() -> None:
    """What the conformance kit asks of a class whose default is 0."""

    def factory(tensors: Any, **overrides: Any) -> torch.optim.Optimizer:
        return torch.optim.Adam(tensors, **{"lr": 0.01, **overrides})

    assert measure(factory).decay == "none"
    assert measure(factory, weight_decay=0.1).decay == "l2"
    assert measure(factory, weight_decay=0.1, dtype=torch.float32, shape=(5,)).decay == "l2"
