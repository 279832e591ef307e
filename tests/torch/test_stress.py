"""The world changes between steps, in any order: the native engine goes on with the generic one's bits.

Two copies of one world of parameters take every change alike: new, missing, strided and aliased gradients,
parameters and states that move, groups and options that change. ``auto`` steps one, ``generic`` the other.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from torch import Tensor, nn

import adamantine.torch as at
from adamantine.torch.engines import native

pytestmark = pytest.mark.skipif(native.native is None, reason="this installation has no compiled kernel")

SHAPES = [(), (3,), (4, 4), (3, 5), (2, 3, 2, 2), (0, 2), (40, 60)]
CLASSES = ["SGD", "AdamW", "Adam", "NAdam", "RMSprop", "Lion", "RAdam"]
MODES = ["none", "l2", "decoupled", "cautious"]
INDEX = st.integers(0, 10**6)


def laid_out(x: Tensor, how: str) -> Tensor:
    """The same numbers in other memory, and in another order or with holes."""
    if how == "transposed" and x.dim() > 1:
        return x.transpose(0, 1).contiguous().transpose(0, 1)
    if how == "holes" and x.dim() > 0:
        return torch.stack([x, x], -1)[..., 0]
    if how == "expanded" and x.dim() > 0 and x.numel() > 0:
        return x[:1].clone().expand(x.shape)
    if how == "inside":
        return torch.cat([x.new_zeros(1), x.reshape(-1), x.new_zeros(2)])[1 : x.numel() + 1].view(x.shape)
    return x.clone()


LAYOUTS = ["plain", "transposed", "holes", "inside"]


class World:
    """Parameters with their optimizer. Everything here is done twice, with the same random numbers."""

    def __init__(self, engine: str, name: str, options: dict[str, Any], seed: int) -> None:
        self.engine, self.name, self.options = engine, name, options
        self.generator = torch.Generator().manual_seed(seed)
        self.buffer = self.numbers((40,))  # what some parameters and gradients are views of
        self.params = [nn.Parameter(self.numbers(shape)) for shape in SHAPES[:4]]
        self.optimizer = at.OPTIMIZERS[name](self.params, lr=0.02, weight_decay=0.1, engine=engine, **options)

    def numbers(self, shape: Any) -> Tensor:
        return torch.randn(shape, generator=self.generator)

    def param(self, index: int) -> nn.Parameter:
        return self.params[index % len(self.params)]

    def add(self, p: nn.Parameter, **options: Any) -> None:
        self.params.append(p)
        self.optimizer.add_param_group({"params": [p], **options})

    def slot(self, index: int) -> tuple[dict[str, Any], str] | None:
        """A state and the key of one of its tensors that is no counter."""
        state = self.optimizer.state.get(self.param(index), {})
        keys = [key for key, value in state.items() if key not in {"step", "mu_product"}]
        return (state, keys[index % len(keys)]) if keys else None

    def everything(self) -> list[Tensor]:
        states = [self.optimizer.state.get(p, {}) for p in self.params]
        return [*self.params, *(value for state in states for _, value in sorted(state.items()))]


class Stress(RuleBasedStateMachine):
    @initialize(name=st.sampled_from(CLASSES), mode=st.sampled_from(MODES), seed=INDEX)
    def begin(self, name, mode, seed):
        self.threads = torch.get_num_threads()
        self.worlds = [World(engine, name, {"decay": mode}, seed) for engine in ("auto", "generic")]
        self.new_gradients("plain", set())

    def teardown(self):
        if hasattr(self, "threads"):
            torch.set_num_threads(self.threads)

    @rule(times=st.integers(1, 3))
    def step(self, times):
        for world in self.worlds:
            for _ in range(times):
                world.optimizer.step()

    @rule(layout=st.sampled_from([*LAYOUTS, "expanded"]), missing=st.sets(st.integers(0, 9)))
    def new_gradients(self, layout, missing):
        for world in self.worlds:
            for number, p in enumerate(world.params):
                g = laid_out(world.numbers(p.shape), layout).to(p.dtype)
                p.grad = None if number in missing else g

    @rule()
    def gradients_in_place(self):
        for world in self.worlds:
            for p in world.params:
                if p.grad is not None and not any(s == 0 for s in p.grad.stride()):
                    p.grad.data.copy_(world.numbers(p.shape))

    @rule(index=INDEX)
    def gradient_is_memory_of_its_parameter(self, index):
        for world in self.worlds:
            p = world.param(index)
            p.grad = p.data

    @rule(index=INDEX, value=st.sampled_from([float("nan"), float("inf")]))
    def a_gradient_breaks(self, index, value):
        for world in self.worlds:
            world.optimizer.on_nonfinite = "skip"
            p = world.param(index)
            if p.grad is not None:
                p.grad = torch.full_like(p.grad, value)

    @rule(index=INDEX, layout=st.sampled_from(LAYOUTS))
    def parameter_moves(self, index, layout):
        for world in self.worlds:
            p = world.param(index)
            p.data = laid_out(p.data, layout)

    @rule(index=INDEX, shape=st.sampled_from(SHAPES))
    def parameter_has_another_shape(self, index, shape):
        for world in self.worlds:
            p = world.param(index)
            p.grad = None
            p.data = world.numbers(shape)
            world.optimizer.state.pop(p, None)

    @rule(index=INDEX)
    def parameter_is_transposed_where_it_lies(self, index):
        for world in self.worlds:
            p = world.param(index)
            if p.dim() == 2 and p.shape[0] == p.shape[1]:
                p.data = p.data.t()

    @rule(index=INDEX, frozen=st.booleans())
    def parameter_is_frozen(self, index, frozen):
        for world in self.worlds:
            world.param(index).requires_grad_(not frozen)

    @rule(index=INDEX, layout=st.sampled_from(LAYOUTS), by=st.sampled_from(["entry", "data"]))
    def state_tensor_moves(self, index, layout, by):
        for world in self.worlds:
            if found := world.slot(index):
                state, key = found
                moved = laid_out(state[key], layout)
                if by == "entry":
                    state[key] = moved
                else:
                    state[key].data = moved

    @rule(index=INDEX)
    def state_tensor_is_transposed_where_it_lies(self, index):
        for world in self.worlds:
            found = world.slot(index)
            if found and found[0][found[1]].dim() == 2:
                tensor = found[0][found[1]]
                if tensor.shape[0] == tensor.shape[1]:
                    tensor.data = tensor.data.t()

    @rule(index=INDEX, dtype=st.sampled_from([torch.bfloat16, torch.float16, torch.float32, torch.float64]))
    def state_tensor_has_another_dtype(self, index, dtype):
        for world in self.worlds:
            if found := world.slot(index):
                found[0][found[1]] = found[0][found[1]].to(dtype)

    @rule(index=INDEX)
    def state_is_lost(self, index):
        for world in self.worlds:
            world.optimizer.state.pop(world.param(index), None)

    @rule()
    def state_dict_goes_round(self):
        errors = []
        for world in self.worlds:
            try:
                world.optimizer.load_state_dict(copy.deepcopy(world.optimizer.state_dict()))
            except ValueError as error:  # an option was switched on, and no step has filled the state since
                errors.append(str(error))
        assert len(set(errors)) <= 1
        assert len(errors) in {0, 2}

    @rule(shape=st.sampled_from(SHAPES), mode=st.sampled_from(MODES))
    def group_is_added(self, shape, mode):
        for world in self.worlds:
            if len(world.params) < 10:
                world.add(nn.Parameter(world.numbers(shape)), decay=mode, weight_decay=0.05)

    @rule(start=st.integers(0, 10), size=st.integers(1, 20))
    def parameter_in_the_common_buffer_is_added(self, start, size):
        """Views of one buffer: the same, or overlapping, or beside each other."""
        for world in self.worlds:
            if len(world.params) < 10:
                world.add(nn.Parameter(world.buffer[start : start + size]))

    @rule(index=INDEX, lr=st.sampled_from([0.0, 0.01, 0.1, 1]), maximize=st.booleans())
    def group_options_change(self, index, lr, maximize):
        for world in self.worlds:
            group = world.optimizer.param_groups[index % len(world.optimizer.param_groups)]
            group.update(lr=lr, maximize=maximize)

    @rule(index=INDEX, mode=st.sampled_from(MODES))
    def group_changes_its_mode(self, index, mode):
        for world in self.worlds:
            world.optimizer.param_groups[index % len(world.optimizer.param_groups)]["decay"] = mode

    @rule(index=INDEX, on=st.booleans())
    def group_changes_its_rule(self, index, on):
        for world in self.worlds:
            group = world.optimizer.param_groups[index % len(world.optimizer.param_groups)]
            for key, value in (("amsgrad", on), ("centered", on), ("momentum", 0.9 if on else 0.0)):
                if key in group:
                    group[key] = value

    @rule(max_norm=st.sampled_from([None, 0.1, 1e3]))
    def clipping_changes(self, max_norm):
        for world in self.worlds:
            world.optimizer.max_norm = max_norm

    @rule(threads=st.sampled_from([1, 2]))
    def threads_change(self, threads):
        torch.set_num_threads(threads)

    @rule()
    def explained(self):
        str(self.worlds[0].optimizer.explain())

    @invariant()
    def worlds_are_equal(self):
        if not hasattr(self, "worlds"):
            return
        ours, its = self.worlds
        assert ours.optimizer.skipped_steps == its.optimizer.skipped_steps
        for x, y in zip(ours.everything(), its.everything(), strict=True):
            assert x.dtype == y.dtype
            assert torch.equal(x.isnan(), y.isnan())
            assert torch.equal(x.nan_to_num(), y.nan_to_num())


Stress.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
TestStress = Stress.TestCase


def overlapping(engine: str, gradient: Tensor, *, big: bool = False) -> tuple[Tensor, Tensor]:
    """A buffer that two parameters write, after a step; and what one after the other gives."""
    n = 10_000 if big else 16
    buffer = torch.arange(float(n + 4))
    expected = buffer.clone()
    params = [nn.Parameter(buffer[:n].view(4, -1)), nn.Parameter(buffer[4:].view(4, -1))]
    for p, part in zip(params, (expected[:n], expected[4:]), strict=True):
        p.grad = gradient.repeat(1, n // 16) if big else gradient
        part.copy_((1 - 0.25 * 0.5) * part - 0.25 * p.grad.reshape(-1))
    at.SGD(params, lr=0.25, weight_decay=0.5, decay="decoupled", engine=engine).step()
    return buffer, expected


@pytest.mark.parametrize("engine", ["auto", "generic"])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("big", [False, True])
def test_overlapping_parameters_step_one_after_the_other(engine, transposed, big):
    g = torch.arange(16.0).view(4, 4)
    buffer, expected = overlapping(engine, g.t() if transposed else g, big=big)
    assert torch.equal(buffer, expected)


@pytest.mark.parametrize("engine", ["auto", "generic"])
@pytest.mark.parametrize("first", ["holes", "whole"])
def test_a_parameter_with_holes_takes_its_turn(engine, first):
    buffer, expected = torch.arange(8.0), torch.arange(8.0)
    params = {"holes": nn.Parameter(buffer[::2]), "whole": nn.Parameter(buffer)}
    for name in (first, *(params.keys() - {first})):
        p = params[name]
        p.grad = torch.full_like(p, 1.0 + len(name))
        part = expected[::2] if name == "holes" else expected
        part.copy_(0.875 * part - 0.25 * p.grad)
    order = [params[first], *(p for name, p in params.items() if name != first)]
    at.SGD(order, lr=0.25, weight_decay=0.5, decay="decoupled", engine=engine).step()
    assert torch.equal(buffer, expected)


@pytest.mark.parametrize("order", ["reader first", "writer first"])
def test_a_gradient_in_another_parameters_memory(order):
    reader, writer = nn.Parameter(torch.ones(())), nn.Parameter(torch.ones(3))
    reader.grad, writer.grad = writer.data[0], torch.ones(3)
    params = [reader, writer] if order == "reader first" else [writer, reader]
    at.SGD(params, lr=0.5, engine="generic" if order == "writer first" else "auto").step()
    assert writer.tolist() == [0.5] * 3
    assert reader.item() == (0.5 if order == "reader first" else 0.75)
