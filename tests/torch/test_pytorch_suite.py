"""PyTorch's own optimizer inputs and error inputs, and what its test_optim.py asks, put to our classes.

The inputs come from torch.testing._internal.common_optimizers, so that a new torch brings its new ones.
What torch asserts up to a tolerance (multi-tensor and single-tensor, complex and real) holds to the bit.
"""

from __future__ import annotations

import copy
import inspect
import io
import operator
import os
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch.nn import Parameter
from torch.optim import lr_scheduler

import adamantine.torch as at

try:
    import torch.testing._internal.common_optimizers as common

    INFO = {info.name: info for info in common.optim_db}
    STEP_ERROR = common.OptimizerErrorEnum.STEP_ERROR
except (ImportError, AttributeError) as error:
    if os.environ.get("CI") == "true":  # there it must not go unseen
        raise
    pytest.skip(f"private to torch, and moved, or without expecttest: {error}", allow_module_level=True)


def inputs_of(name):
    """torch's inputs for its class of this name, else for the class whose signature is the most alike.

    Between torch's Adam and AdamW, which have one signature, the decay mode decides.
    """

    def alikeness(candidate):
        mine, its = (set(inspect.signature(at.OPTIMIZERS[n]).parameters) for n in (name, candidate))
        modes = {at.OPTIMIZERS[n].foreign_decay for n in (name, candidate)}
        return len(mine & its) / len(mine | its), len(modes) == 1

    return INFO[name if name in INFO else max(at.OPTIMIZERS.keys() & INFO, key=alikeness)]


@dataclass(frozen=True)
class Config:
    """One class with one of torch's inputs; called with parameters, it makes the optimizer."""

    cls: type[at.Optimizer]
    kwargs: dict[str, Any]
    info: Any

    def __call__(self, params, **more):
        return self.cls(params, **{**copy.deepcopy(self.kwargs), **more})

    @property
    def climbs(self):
        return self.kwargs.get("maximize", False)


def configs():
    for name, cls in at.OPTIMIZERS.items():
        info = inputs_of(name)
        known = set(inspect.signature(cls).parameters)
        for given in info.optim_inputs_func(device="cpu"):
            if set(given.kwargs) <= known:
                yield pytest.param(Config(cls, given.kwargs, info), id=f"{name}-{given.desc}")


def error_inputs():
    for name in (name for name in at.OPTIMIZERS if name in INFO):
        for error in INFO[name].optim_error_inputs_func(device="cpu", dtype=torch.float32):
            yield pytest.param(at.OPTIMIZERS[name], error, id=f"{name}-{error.optimizer_error_input.desc}")


EVERY_CONFIG = pytest.mark.parametrize("config", list(configs()))
EVERY_CLASS = pytest.mark.parametrize("cls", at.OPTIMIZERS.values(), ids=list(at.OPTIMIZERS))


class Affine:
    """‖Wx + b‖², with W and b strided if so wished."""

    def __init__(self, dtype=torch.float32, contiguous=True):
        generator = torch.Generator().manual_seed(0)
        tail = () if contiguous else (2,)
        weight, bias, self.x = (
            torch.randn(*shape, generator=generator, dtype=dtype)
            for shape in ((10, 5, *tail), (10, *tail), (5,))
        )
        self.weight, self.bias = (
            Parameter(tensor if contiguous else tensor[..., 0]) for tensor in (weight, bias)
        )
        self.params = [self.weight, self.bias]

    def loss(self):
        for p in self.params:
            p.grad = None
        loss = (self.weight.mv(self.x) + self.bias).square().sum()
        loss.backward()
        return loss

    def goes_right(self, config, optimizer, schedulers=(), steps=20):
        """Twenty steps lower the loss, or raise it where the optimizer maximizes."""
        first = self.loss().item()
        for _ in range(steps):
            loss = optimizer.step(self.loss).detach()
            for scheduler in schedulers:
                if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
                    scheduler.step(loss)
                else:
                    scheduler.step()
        last = self.loss().item()
        return last > first if config.climbs else last < first


def same(a, b):
    """Equal to the bit, through dicts and lists."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def clone(params):
    return [p.detach().clone() for p in params]


# --- construction -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cls", "error"), list(error_inputs()))
def test_error_inputs(cls, error):
    given = error.optimizer_error_input
    at_step = error.error_on == STEP_ERROR
    expect = pytest.warns if issubclass(error.error_type, Warning) else pytest.raises
    optimizer = cls(given.params, **given.kwargs) if at_step else None
    with expect(error.error_type, match=error.error_regex):
        optimizer.step() if optimizer else cls(given.params, **given.kwargs)


@EVERY_CONFIG
def test_repr_shows_the_groups(config):
    text = repr(config(Affine().params))
    assert text.startswith(f"{config.cls.__name__} (")
    assert "weight_decay: " in text
    assert "decay: " in text


# --- direction --------------------------------------------------------------------------------------------


@EVERY_CONFIG
@pytest.mark.parametrize("contiguous", [True, False])
@pytest.mark.parametrize("foreach", [None, False])
def test_goes_the_right_way(config, contiguous, foreach):
    problem = Affine(contiguous=contiguous)
    assert problem.goes_right(config, config(problem.params, foreach=foreach))


@EVERY_CONFIG
def test_goes_the_right_way_under_schedulers(config):
    for makers in config.info.scheduler_inputs:
        problem = Affine()
        optimizer = config(problem.params)
        schedulers = [make(optimizer) for make in makers]
        assert problem.goes_right(config, optimizer, schedulers), makers


@EVERY_CONFIG
def test_groups_have_their_own_weight_decay(config):
    """A zero gradient moves the group that decays, and that group alone."""
    problem = Affine()
    optimizer = config([{"params": [problem.weight]}, {"params": [problem.bias], "weight_decay": 0.0}])
    problem.weight.grad, problem.bias.grad = map(torch.zeros_like, problem.params)
    weight, bias = clone(problem.params)
    optimizer.step()
    decays = optimizer.param_groups[0]["weight_decay"] > 0.0
    assert torch.equal(problem.weight, weight) is not decays
    assert torch.equal(problem.bias, bias)
    assert problem.goes_right(config, optimizer)


@EVERY_CONFIG
def test_groups_have_their_own_lr(config):
    problem, still = Affine(), Parameter(torch.ones(2))
    before = clone([still])
    groups = [{"params": problem.params, "lr": 1e-3, **copy.deepcopy(config.kwargs)}, {"params": [still]}]
    optimizer = config.cls(groups, lr=1e-28)
    optimizer.register_step_pre_hook(lambda *_: setattr(still, "grad", torch.ones(2)))
    assert problem.goes_right(config, optimizer)
    assert same(clone([still]), before)


# --- one result, however it is computed -------------------------------------------------------------------


@EVERY_CONFIG
def test_multi_tensor_equals_single_tensor(config):
    """Seven steps, since RAdam changes its rule at the sixth; the fourth has no gradients but a scalar's."""
    ends = []
    for foreach in (False, True):
        problem = Affine(torch.float64)
        scalar, empty = Parameter(torch.tensor(0.5)), Parameter(torch.empty(0, 3))
        scalar.grad, empty.grad = torch.tensor(0.25), torch.empty(0, 3)
        params = [*problem.params, scalar, empty]
        optimizer = config(params, foreach=foreach)
        for i in range(7):
            if i == 3:
                optimizer.zero_grad()
            else:
                problem.loss()
            optimizer.step()
        ends.append((clone(params), [optimizer.state[p] for p in params]))
    assert same(*ends)


@EVERY_CONFIG
@pytest.mark.parametrize("foreach", [None, False])
@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_complex_is_two_real_numbers(config, dtype, foreach):
    generator = torch.Generator().manual_seed(0)

    def randn(*shape):
        return torch.randn(shape, dtype=dtype, generator=generator)

    whole = [Parameter(value) for value in (randn(10, 5), randn(3), randn().real.clone())]
    halves = [
        Parameter(torch.view_as_real(p.detach()).clone() if p.is_complex() else p.detach().clone())
        for p in whole
    ]
    optimizers = [config(whole, foreach=foreach), config(halves, foreach=foreach)]
    for _ in range(3):
        for p, q in zip(whole, halves, strict=True):
            p.grad = randn(*p.shape) if p.is_complex() else randn(*p.shape).real.clone()
            q.grad = torch.view_as_real(p.grad) if p.is_complex() else p.grad
        for optimizer in optimizers:
            optimizer.step()
        for p, q in zip(whole, halves, strict=True):
            assert torch.equal(torch.view_as_real(p) if p.is_complex() else p, q)


@EVERY_CLASS
def test_lazily_conjugated_gradients(cls):
    """Autograd hands these out; torch.optim cannot read them."""
    ends = []
    for resolve in (torch.Tensor.conj_physical, torch.Tensor.conj):
        p = Parameter(torch.tensor([1.0 + 2.0j, -1.0j]))
        p.grad = resolve(torch.tensor([0.5 - 1.0j, 2.0 + 1.0j]))
        optimizer = cls([p], max_norm=1.0)
        optimizer.step()
        ends.append(p.detach())
    assert p.grad.is_conj()
    assert same(*ends)


@EVERY_CONFIG
@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_tensor_lr(config, shape):
    """A tensor lr means its value, also where a scheduler changes it in place."""
    ends = []
    for lr in (2.0**-8, torch.full(shape, 2.0**-8)):
        problem = Affine()
        optimizer = config(problem.params, lr=lr)
        scheduler = lr_scheduler.ExponentialLR(optimizer, 0.5)
        for _ in range(4):
            optimizer.step(problem.loss)
            scheduler.step()
        assert isinstance(optimizer.param_groups[0]["lr"], type(lr))
        ends.append(clone(problem.params))
    assert same(*ends)


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_tensor_betas(name):
    ends = []
    for betas in ((0.5, 0.75), (torch.tensor(0.5), torch.tensor([[0.75]]))):
        problem = Affine()
        optimizer = at.OPTIMIZERS[name](problem.params, betas=betas)
        for _ in range(3):
            optimizer.step(problem.loss)
        ends.append(clone(problem.params))
    assert same(*ends)


@EVERY_CLASS
def test_mixed_dtypes(cls):
    """Parameters of several dtypes in one group are each updated as if alone."""
    dtypes = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64]

    def params():
        torch.manual_seed(0)
        made = [Parameter(torch.randn(2, 3, dtype=dtype)) for dtype in dtypes]
        for p in made:
            p.grad = torch.randn_like(p)
        return made

    together, alone = params(), params()
    for optimizer in (cls(together), *(cls([p]) for p in alone)):
        for _ in range(7):
            optimizer.step()
    assert same(clone(together), clone(alone))


# --- steps that must do nothing ---------------------------------------------------------------------------


@EVERY_CONFIG
@pytest.mark.parametrize("flags", [{}, {"foreach": False}, {"differentiable": True}])
def test_nothing_to_do(config, flags):
    """No gradient: nothing happens. A zero gradient moves nothing without weight decay."""
    params = [torch.randn(2, 3, requires_grad=not flags.get("differentiable")) for _ in range(2)]
    before = clone(params)
    optimizer = config(params, **flags)
    assert optimizer.step(lambda: torch.tensor([1.0])) == 1.0
    assert same(clone(params), before)
    for group in optimizer.param_groups:
        group["weight_decay"] = 0.0
    for p in params:
        p.grad = torch.zeros_like(p)
    optimizer.step()
    assert same(clone(params), before)


# --- state dicts ------------------------------------------------------------------------------------------


def trained(config, steps=3):
    problem = Affine()
    optimizer = config(problem.params)
    for _ in range(steps):
        optimizer.step(problem.loss)
    return problem, optimizer


@EVERY_CONFIG
def test_state_is_not_empty(config):
    _, optimizer = trained(config)
    assert all(len(state) > 0 for state in optimizer.state.values())


@EVERY_CONFIG
def test_state_dict_is_deterministic(config):
    problem, optimizer = trained(config)
    twin = Affine()
    for p, q in zip(twin.params, problem.params, strict=True):
        p.data.copy_(q.detach())
    other = config(twin.params)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for _ in range(5):
        optimizer.step(problem.loss)
        other.step(twin.loss)
        assert same(clone(problem.params), clone(twin.params))
    assert same(optimizer.state_dict(), other.state_dict())
    other.param_groups.extend(other.param_groups)  # one group twice is described alike twice
    assert same(optimizer.state_dict()["param_groups"][-1], other.state_dict()["param_groups"][-1])


@EVERY_CONFIG
def test_older_state_dict_loads(config):
    """Written before torch had these flags, and when ``step`` was a number; it goes on as if nothing was."""
    (problem, optimizer), (twin, other) = trained(config), trained(config)
    state_dict = copy.deepcopy(optimizer.state_dict())
    for group in state_dict["param_groups"]:
        for flag in ("maximize", "foreach", "fused", "differentiable", "capturable"):
            group.pop(flag, None)
    for state in state_dict["state"].values():
        for key in {"step", "mu_product"} & state.keys():
            state[key] = state[key].item()
    other.load_state_dict(state_dict)
    optimizer.step(problem.loss)
    other.step(twin.loss)
    assert same(clone(problem.params), clone(twin.params))


@EVERY_CONFIG
def test_saved_and_loaded_with_weights_only(config):
    _, optimizer = trained(config)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)
    assert same(loaded, optimizer.state_dict())
    optimizer.load_state_dict(loaded)
    assert same(loaded, optimizer.state_dict())


@EVERY_CONFIG
def test_deepcopy_keeps_the_public_attributes(config):
    _, optimizer = trained(config)
    public = {name for name in vars(optimizer) if not name.startswith("_")}
    twin = copy.deepcopy(optimizer)
    assert public == {name for name in vars(twin) if not name.startswith("_")}
    assert same(optimizer.state_dict(), twin.state_dict())


@EVERY_CLASS
def test_state_of_no_parameter_passes_through(cls):
    _, optimizer = trained(cls)
    state_dict = optimizer.state_dict()
    state_dict["state"]["global"] = 7
    optimizer.load_state_dict(state_dict)
    assert optimizer.state["global"] == 7
    optimizer.step()


@EVERY_CLASS
def test_named_parameters(cls):
    model = torch.nn.Linear(2, 2)
    optimizer = cls([{"params": [("w", model.weight)]}, {"params": [("b", model.bias)], "lr": 0.5}])
    names = operator.itemgetter("param_names")
    assert [names(group) for group in optimizer.param_groups] == [["w"], ["b"]]
    assert [names(group) for group in optimizer.state_dict()["param_groups"]] == [["w"], ["b"]]
    assert optimizer.param_groups[0]["params"] == [model.weight]
