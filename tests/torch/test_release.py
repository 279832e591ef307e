"""Gradient release takes the same steps, bit for bit, and frees every gradient; nothing moves twice."""

from __future__ import annotations

import copy
import doctest
import gc
import io
import pickle
import weakref
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import adamantine.torch as at
from adamantine.rules.decay import MODES

EVERY_CLASS = pytest.mark.parametrize("name", list(at.OPTIMIZERS))
STEPS = 4


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 70), nn.Tanh(), nn.Linear(70, 3), nn.Tanh(), nn.Linear(3, 2))


class Tied(nn.Module):
    """An embedding that is the output head too, a weight used twice, a frozen bias, an idle layer."""

    def __init__(self, sparse: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(11, 5, sparse=sparse)
        self.middle = nn.Linear(5, 5)
        self.middle.bias.requires_grad_(False)
        self.idle = nn.Linear(5, 5)
        self.head = nn.Linear(5, 11, bias=False)
        if not sparse:
            self.head.weight = self.embedding.weight

    def forward(self, x):
        tokens = (x.abs() * 10).long() % 11
        return self.head(torch.tanh(self.middle(torch.tanh(self.middle(self.embedding(tokens))))))


def batch(t: int) -> torch.Tensor:
    return torch.randn(8, 5, generator=torch.Generator().manual_seed(t))


def train(model, optimizer, steps=range(STEPS), *, released=None, schedule=None):
    for t in steps:
        optimizer.zero_grad()
        model(batch(t)).square().mean().backward()
        if released:
            assert all(p.grad is None for p in model.parameters())
        optimizer.step()
        if schedule:
            schedule.step()
    return model


def assert_same(model, other, optimizer=None, other_optimizer=None):
    for (name, p), q in zip(model.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q), name
    if optimizer is None:
        return
    left, right = optimizer.state_dict(), other_optimizer.state_dict()
    assert left["param_groups"] == right["param_groups"]
    assert left["state"].keys() == right["state"].keys()
    for number, entry in left["state"].items():
        assert entry.keys() == right["state"][number].keys()
        for key, value in entry.items():
            assert torch.equal(value, right["state"][number][key]), (number, key)


def both(make_model, make_optimizer, **how):
    """Trained by ordinary steps, and with release."""
    ends = []
    for released in (False, True):
        model = make_model()
        optimizer = make_optimizer(model)
        if released:
            optimizer.release_gradients()
        schedule = how["schedule"](optimizer) if "schedule" in how else None
        train(model, optimizer, released=released, schedule=schedule)
        ends.append((model, optimizer))
    (model, optimizer), (other, other_optimizer) = ends
    assert_same(model, other, optimizer, other_optimizer)
    return ends


@EVERY_CLASS
@pytest.mark.parametrize(
    ("engine", "state"),
    [("auto", None), ("auto", "bfloat16"), ("auto", "8bit"), ("auto", "4bit"), ("generic", "4bit")],
)
def test_every_rule_takes_the_same_steps(name, engine, state):
    both(mlp, lambda m: at.OPTIMIZERS[name](m.parameters(), lr=0.01, engine=engine, state=state))


@EVERY_CLASS
def test_the_variants_of_every_rule(name):
    variants = {
        "SGD": [{"momentum": 0.9, "dampening": 0.5}, {"momentum": 0.9, "nesterov": True}],
        "SGDW": [{"momentum": 0.9, "weight_decay": 0.1}],
        "Adam": [{"amsgrad": True, "weight_decay": 0.1}],
        "AdamW": [{"decay": "cautious", "weight_decay": 0.5}, {"maximize": True}],
        "RMSprop": [{"centered": True, "momentum": 0.9}],
    }
    for options in variants.get(name, [{"weight_decay": 0.1}]):
        both(mlp, lambda m, options=options: at.OPTIMIZERS[name](m.parameters(), lr=0.01, **options))


@pytest.mark.parametrize("decay", MODES)
@pytest.mark.parametrize("engine", ["auto", "generic"])
def test_every_decay_mode_takes_the_same_steps(decay, engine):
    both(mlp, lambda m: at.AdamW(m.parameters(), lr=0.01, weight_decay=0.5, decay=decay, engine=engine))


@pytest.mark.parametrize("engine", ["auto", "generic"])
@pytest.mark.parametrize("weights", ["nearest", "stochastic", "kahan", "split8", "split16"])
def test_every_format_of_the_weights_takes_the_same_steps(weights, engine):
    def make():
        return Wide(mlp().bfloat16())

    options = {"lr": 0.01, "weights": weights, "state": "8bit", "seed": 3, "engine": engine}
    both(make, lambda m: at.AdamW(m.parameters(), **options))


class Wide(nn.Module):
    """A bfloat16 network for float32 inputs."""

    def __init__(self, inner) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x.bfloat16()).float()


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("engine", ["auto", "generic"])
def test_tied_repeated_frozen_idle_and_sparse_parameters(sparse, engine):
    options = {"lr": 0.01} if sparse else {"lr": 0.01, "momentum": 0.9}
    both(lambda: Tied(sparse), lambda m: at.SGD(m.parameters(), engine=engine, **options))


def test_complex_and_channels_last_parameters():
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.conv = nn.Conv2d(1, 4, 3).to(memory_format=torch.channels_last)
            self.phase = nn.Parameter(torch.randn(4, dtype=torch.complex64))

        def forward(self, x):
            return (self.conv(x.reshape(1, 1, 8, 5)).mean((2, 3)) * self.phase).abs()

    both(Odd, lambda m: at.AdamW(m.parameters(), lr=0.01))


def test_groups_and_schedulers():
    def optimizer(m):
        groups = [
            {"params": [p for p in m.parameters() if p.dim() > 1], "weight_decay": 0.3},
            {"params": [p for p in m.parameters() if p.dim() == 1], "lr": 0.05},
        ]
        return at.AdamW(groups, lr=0.01, decay="corrected")

    def schedule(opt):
        return torch.optim.lr_scheduler.LinearLR(opt, 0.2, 1.0, total_iters=3)

    both(mlp, optimizer, schedule=schedule)


def test_names_are_those_of_the_whole():
    model = mlp()
    at_work = at.AdamW(model.named_parameters(), on_nonfinite="raise")
    at_work.release_gradients()
    poison(model[2].weight)
    with pytest.raises(FloatingPointError, match=r"^2\.weight: "):
        model(batch(0)).sum().backward()


def poison(p):
    """Its gradient is NaN from now on."""
    return p.register_hook(lambda grad: grad * float("nan"))


def test_the_gradient_is_freed_before_the_next_layer_s_is_there():
    model = mlp()
    optimizer = at.AdamW(model.parameters())
    optimizer.release_gradients()
    alive = []
    for p in model.parameters():
        p.register_post_accumulate_grad_hook(
            lambda p: alive.append(sum(q.grad is not None for q in model.parameters()))
        )
    model(batch(0)).sum().backward()
    assert alive == [0] * 6


def test_a_second_backward_pass_without_step_is_refused():
    model = mlp()
    optimizer = at.AdamW(model.parameters())
    optimizer.release_gradients()
    model(batch(0)).sum().backward()
    after = copy.deepcopy(model)
    with pytest.raises(RuntimeError, match=r"has taken this step already\. Call optimizer.step"):
        model(batch(0)).sum().backward()
    assert_same(model, after)
    optimizer.step()
    model(batch(0)).sum().backward()


def test_a_second_pass_over_a_retained_graph_is_refused():
    """The weights that the graph needs are no longer there; autograd knows by their version."""
    model = mlp()
    optimizer = at.AdamW(model.parameters())
    optimizer.release_gradients()
    loss = model(batch(0)).sum()
    loss.backward(retain_graph=True)
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_closures_and_hooks_run_once():
    ends = []
    for released in (False, True):
        model, calls = mlp(), []
        optimizer = at.AdamW(model.parameters())
        optimizer.register_step_pre_hook(lambda *_, calls=calls: calls.append("pre"))
        optimizer.register_step_post_hook(lambda *_, calls=calls: calls.append("post"))
        if released:
            optimizer.release_gradients()

        def closure(model=model, optimizer=optimizer, calls=calls):
            calls.append("closure")
            optimizer.zero_grad()
            loss = model(batch(0)).square().mean()
            loss.backward()
            return loss.detach()

        losses = [float(optimizer.step(closure)) for _ in range(3)]
        assert calls == ["pre", "closure", "post"] * 3
        ends.append((losses, model))
    assert ends[0][0] == ends[1][0]
    assert_same(ends[0][1], ends[1][1])


@pytest.mark.parametrize("state", [None, "8bit"])
def test_checkpoints_in_between(state):
    def optimizer(m):
        return at.AdamW(m.parameters(), lr=0.01, state=state)

    through = mlp()
    train(through, optimizer(through), range(6))

    model = mlp()
    first = optimizer(model)
    first.release_gradients()
    train(model, first, range(3))
    file = io.BytesIO()
    torch.save((model.state_dict(), first.state_dict()), file)
    train(model, first, range(3, 5))  # and back, in the same optimizer
    file.seek(0)
    weights, saved = torch.load(file)
    model.load_state_dict(weights)
    first.load_state_dict(saved)
    train(model, first, range(3, 6), released=True)
    assert_same(model, through)

    resumed = mlp()
    resumed.load_state_dict(weights)
    second = optimizer(resumed)
    second.load_state_dict(saved)
    second.release_gradients()
    train(resumed, second, range(3, 6), released=True)
    assert_same(resumed, through, second, first)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_copies_and_pickles_are_ordinary(copied):
    model = mlp()
    optimizer = at.AdamW(model.parameters(), lr=0.01)
    optimizer.release_gradients()
    train(model, optimizer)
    other, other_optimizer = copied((model, optimizer))
    for m, o in ((model, optimizer), (other, other_optimizer)):
        m(batch(9)).square().mean().backward()
        assert [p.grad is None for p in m.parameters()] == [m is model] * 6
        o.step()
    assert_same(other, model, other_optimizer, optimizer)


def test_parameters_that_come_thaw_or_leave():
    ends = []
    for released in (False, True):
        model, late = mlp(), nn.Linear(2, 2, bias=False)
        nn.init.eye_(late.weight)
        model[0].weight.requires_grad_(False)
        optimizer = at.AdamW(model.parameters(), lr=0.01)
        if released:
            optimizer.release_gradients()
        train(model, optimizer, range(2))
        optimizer.add_param_group({"params": late.parameters(), "lr": 0.1})
        model.append(late)
        model[0].weight.requires_grad_(True)
        train(model, optimizer, range(2, 5))
        optimizer.param_groups.pop()
        train(model, optimizer, range(5, 7))
        late.weight.grad = None
        ends.append(model)
    assert_same(*ends)


def test_a_gradient_that_is_set_by_hand():
    model = nn.Linear(2, 2)
    twin = copy.deepcopy(model)
    at_once, released = at.SGD(twin.parameters(), lr=0.1), at.SGD(model.parameters(), lr=0.1)
    released.release_gradients()
    for m in (model, twin):
        m.weight.grad, m.bias.grad = torch.ones(2, 2), torch.ones(2)
    at_once.step()
    released.step()
    assert_same(model, twin)
    assert model.weight.grad is None
    model(torch.ones(2)).sum().backward()
    model.weight.grad = torch.ones(2, 2)
    with pytest.raises(RuntimeError, match="has taken this step inside backward and has a gradient again"):
        released.step()


def test_the_handle_ends_it():
    model = mlp()
    optimizer = at.AdamW(model.parameters())
    with optimizer.release_gradients() as handle:
        with pytest.raises(ValueError, match=r"remove\(\) its handle"):
            optimizer.release_gradients()
        train(model, optimizer, released=True)
    handle.remove()  # once more does nothing
    model(batch(0)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    optimizer.release_gradients(accumulate=2)


def test_two_optimizers_of_one_parameter_are_refused():
    model = mlp()
    first, second = at.AdamW(model.parameters()), at.AdamW(model.parameters())
    first.release_gradients()
    second.release_gradients()
    with pytest.raises(RuntimeError, match="another optimizer or hook has released it"):
        model(batch(0)).sum().backward()


def test_an_optimizer_that_is_no_more_does_nothing():
    model = mlp()
    before = copy.deepcopy(model)
    at.AdamW(model.parameters()).release_gradients()
    gc.collect()
    model(batch(0)).sum().backward()
    assert_same(model, before)
    assert all(p.grad is not None for p in model.parameters())


def test_activation_checkpointing():
    def segment(m, x, reentrant):
        return checkpoint(m, x, use_reentrant=reentrant)

    ends = []
    for released in (False, True):
        model = mlp()
        optimizer = at.AdamW(model.parameters(), lr=0.01)
        if released:
            optimizer.release_gradients()
        for t in range(3):
            segment(model, batch(t), False).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        ends.append(model)
    assert_same(*ends)
    shared = nn.Linear(5, 5)
    optimizer = at.AdamW(shared.parameters())
    optimizer.release_gradients()
    x = batch(0).requires_grad_()
    with pytest.raises(RuntimeError, match="use_reentrant=False"):
        segment(shared, segment(shared, x, True), True).sum().backward()  # two passes, one inside the other


@pytest.mark.parametrize("engine", ["auto", "generic"])
def test_nonfinite_gradients_are_left_out_one_by_one(engine):
    model = mlp()
    before = copy.deepcopy(model)
    optimizer = at.AdamW(model.parameters(), on_nonfinite="skip", engine=engine)
    optimizer.release_gradients()
    poison(model[2].weight)
    model(batch(0)).sum().backward()
    optimizer.step()
    moved = {
        name
        for (name, p), q in zip(model.named_parameters(), before.parameters(), strict=True)
        if not p.equal(q)
    }
    assert moved == {"0.weight", "0.bias", "2.bias", "4.weight", "4.bias"}
    assert optimizer.skipped_steps == 1
    assert len(optimizer.gradient_statistics()) == 6
    assert optimizer.state_dict()["param_groups"][0]["skipped_steps"] == 1


def test_a_nonfinite_gradient_that_raises_says_who_has_moved():
    model = mlp()
    optimizer = at.AdamW(model.parameters(), on_nonfinite="raise")
    optimizer.release_gradients()
    handle = poison(model[2].weight)
    with pytest.raises(
        FloatingPointError, match=r"group 0: its gradient is not finite\. [23] parameters .*zero_grad"
    ):
        model(batch(0)).sum().backward()
    handle.remove()
    optimizer.zero_grad()
    train(model, optimizer, released=True)


def test_norms_are_known_after_the_step():
    ends = []
    for released in (False, True):
        model = mlp()
        optimizer = at.AdamW(model.parameters(), on_nonfinite="skip")
        if released:
            optimizer.release_gradients()
        train(model, optimizer)
        ends.append((optimizer.last_norm, optimizer.gradient_statistics()))
    assert ends[0] == ends[1]


def test_what_cannot_be_released_is_refused():
    model = mlp()
    with pytest.raises(ValueError, match=r"max_norm=1\.0 needs the norm of all gradients.*'two-pass'"):
        at.AdamW(model.parameters(), max_norm=1.0).release_gradients()
    with pytest.raises(ValueError, match="differentiable=True"):
        at.AdamW(model.parameters(), differentiable=True).release_gradients()
    optimizer = at.AdamW(model.parameters())
    with pytest.raises(ValueError, match="Invalid accumulate: 0"):
        optimizer.release_gradients(accumulate=0)
    with pytest.raises(ValueError, match="Invalid clip: 'global'"):
        optimizer.release_gradients("global")
    with pytest.raises(ValueError, match="has no bound"):
        optimizer.release_gradients("delayed")
    optimizer.release_gradients()
    optimizer.max_norm = 1.0
    with pytest.raises(RuntimeError, match="was set after release_gradients"):
        model(batch(0)).sum().backward()
    flat = mlp()
    at.flatten(flat)
    with pytest.raises(ValueError, match=r"undo\(\)"):
        at.AdamW(flat.parameters()).release_gradients()


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9, "dampening": 0.5}])
def test_all_states_are_made_at_once_and_only_where_they_are_used(options):
    """Made between gradients, they would leave holes in the heap. Dampening needs to know the first step."""
    model = nn.ModuleList([mlp(), mlp()])
    optimizer = at.SGD(model.parameters(), **options) if options else at.AdamW(model.parameters())
    made = []
    optimizer.release_gradients()
    alive = weakref.ref(optimizer)  # a hook's reference would make a cycle that torch cannot break
    for p in model.parameters():
        p.register_post_accumulate_grad_hook(lambda _: made.append(sum(map(bool, alive().state.values()))))
    for t in range(2):
        model[0](batch(t)).sum().backward()
        optimizer.step()
        assert set(optimizer.state) == set(model[0].parameters())
    assert made == [*([1, 2, 3, 4, 5, 6] if options else [12] * 6), *[6] * 6]


def test_the_examples_of_the_documentation():
    document = Path(__file__).parents[2] / "docs" / "release.md"
    failed, tried = doctest.testfile(str(document), module_relative=False)
    assert tried > 15
    assert failed == 0
