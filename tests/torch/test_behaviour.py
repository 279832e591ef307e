"""What an optimizer does beside its formula: closures, clipping, guards, groups, copies, other processes."""

from __future__ import annotations

import copy
import math
import pickle
import subprocess
import sys
import warnings

import pytest
import torch
from torch.nn import Parameter

import adamantine.torch as at
from adamantine.rules.decay import MODES

EVERY_CLASS = pytest.mark.parametrize("cls", at.OPTIMIZERS.values(), ids=list(at.OPTIMIZERS))


class Run:
    """Two named parameters, their optimizer, and gradients that depend on the step alone."""

    def __init__(self, cls, groups=None, dtype=torch.float64, **options):
        generator = torch.Generator().manual_seed(0)
        self.w = Parameter(torch.randn(4, 3, generator=generator, dtype=dtype))
        self.b = Parameter(torch.randn(3, generator=generator, dtype=dtype))
        named = [("w", self.w), ("b", self.b)]
        self.optimizer = cls(groups(named) if groups else named, **{"lr": 0.1, **options})

    def grads(self, seed):
        generator = torch.Generator().manual_seed(seed)
        for p in (self.w, self.b):
            p.grad = torch.randn(p.shape, generator=generator, dtype=p.dtype)

    def steps(self, *seeds):
        for seed in seeds:
            self.grads(seed)
            self.optimizer.step()
        return self

    def snapshot(self):
        """Parameters and state, as tensors in a fixed order."""
        states = [self.optimizer.state.get(p, {}) for p in (self.w, self.b)]
        values = [self.w, self.b, *(state[key] for state in states for key in sorted(state))]
        return [value.detach().clone() for value in values]

    def adopt(self, optimizer):
        """Go on with a copy of the optimizer and of its parameters."""
        self.optimizer = optimizer
        self.w, self.b = (p for group in optimizer.param_groups for p in group["params"])
        return self


def same(a, b):
    return len(a) == len(b) and all(map(torch.equal, a, b))


# --- closures ---------------------------------------------------------------------------------------------


@EVERY_CLASS
def test_closure(cls):
    """Its value is returned; gradients flow inside, and only inside, even under no_grad."""
    run = Run(cls, max_norm=1.0)
    before, modes = run.snapshot(), []

    def closure():
        modes.append(torch.is_grad_enabled())
        loss = (run.w @ run.b).square().sum()
        loss.backward()
        return loss

    run.optimizer.register_step_post_hook(lambda *_: modes.append(torch.is_grad_enabled()))
    with torch.no_grad():
        loss = run.optimizer.step(closure)
    assert loss == (before[0] @ before[1]).square().sum()
    assert modes == [True, False]
    assert not torch.equal(run.w, before[0])
    assert run.optimizer.step() is None


# --- clipping ---------------------------------------------------------------------------------------------


@EVERY_CLASS
@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("max_norm", [0.5, 1e-3, 1e3])
def test_max_norm_is_clip_grad_norm(cls, max_norm, maximize):
    """The same steps as torch's clipping before each; the gradients themselves are left as they are."""
    ours, torchs = Run(cls, max_norm=max_norm, maximize=maximize), Run(cls, maximize=maximize)
    for seed in range(5):
        ours.steps(seed)
        torchs.grads(seed)
        assert torch.equal(ours.w.grad, torchs.w.grad)
        norm = torch.nn.utils.clip_grad_norm_([torchs.w, torchs.b], max_norm)
        assert ours.optimizer.last_norm == pytest.approx(norm.item(), rel=1e-14)
        torchs.optimizer.step()
    for a, b in zip(ours.snapshot(), torchs.snapshot(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("cls", at.OPTIMIZERS.values())
def test_a_step_inside_a_compiled_function(cls):
    """torch.compile must run the step as it is: traced, it would break at host numbers and resume wrongly."""

    def end(compiled):
        torch.manual_seed(0)
        params = [torch.nn.Parameter(torch.randn(3, 2)) for _ in range(3)]
        optimizer = cls(params, lr=0.1)

        def one_step():
            optimizer.zero_grad()
            sum((p * p).sum() for p in params).backward()
            optimizer.step()

        run = torch.compile(one_step, backend="eager") if compiled else one_step
        for _ in range(4):
            run()
        return params

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # dynamo's own
        for p, q in zip(end(True), end(False), strict=True):
            assert torch.equal(p, q)


def test_a_guard_assigned_wrongly_is_an_error():
    p = torch.nn.Parameter(torch.ones(2))
    p.grad = torch.ones(2)
    optimizer = at.AdamW([p])
    optimizer.on_nonfinite = "rasie"
    with pytest.raises(ValueError, match="Invalid on_nonfinite: 'rasie'; choose one of ignore"):
        optimizer.step()


@pytest.mark.parametrize("name", ["max_norm", "on_nonfinite"])
def test_what_is_for_all_groups_is_refused_in_one(name):
    with pytest.raises(ValueError, match=f"{name} is for all groups together; give it to the optimizer"):
        at.AdamW([{"params": [torch.nn.Parameter(torch.zeros(2))], name: 1.0}])


def test_max_norm_may_change_between_steps():
    run = Run(at.SGD, max_norm=0.1).steps(0)
    run.optimizer.max_norm = None
    plain = Run(at.SGD)
    plain.w.data.copy_(run.w.detach())
    plain.b.data.copy_(run.b.detach())
    assert same(run.steps(1).snapshot(), plain.steps(1).snapshot())


def test_clipping_spans_the_groups():
    run = Run(at.SGD, lambda named: [{"params": [pair]} for pair in named], max_norm=0.5)
    assert same(run.steps(0).snapshot(), Run(at.SGD, max_norm=0.5).steps(0).snapshot())


# --- gradients that are not finite ------------------------------------------------------------------------


def poison(run, value):
    run.grads(99)
    run.b.grad[1] = value


@EVERY_CLASS
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_skip_leaves_every_bit(cls, value):
    run, clean = Run(cls, on_nonfinite="skip", max_norm=1.0), Run(cls, max_norm=1.0)
    before = run.steps(0).snapshot()
    poison(run, value)
    assert run.optimizer.step(lambda: 3.0) == 3.0
    assert same(run.snapshot(), before)
    assert run.optimizer.skipped_steps == 1
    assert not math.isfinite(run.optimizer.last_norm)
    assert same(run.steps(1).snapshot(), clean.steps(0, 1).snapshot())  # as if that step had never been
    assert run.optimizer.skipped_steps == 1


@pytest.mark.parametrize("kind", ["sparse", "complex"])
def test_skip_sees_every_kind_of_gradient(kind):
    p = Parameter(torch.ones(3, dtype=torch.complex64 if kind == "complex" else torch.float32))
    optimizer = at.SGD([p], on_nonfinite="skip")
    if kind == "complex":
        p.grad = torch.tensor([1.0, complex(1.0, math.nan), 1.0])
    else:
        p.grad = torch.sparse_coo_tensor([[1]], [math.inf], (3,), check_invariants=True)
    optimizer.step()
    assert optimizer.skipped_steps == 1
    assert torch.equal(p, torch.ones_like(p))


def test_the_count_survives_copies():
    run = Run(at.AdamW, on_nonfinite="skip").steps(0)
    poison(run, math.nan)
    run.optimizer.step()
    fresh = Run(at.AdamW, on_nonfinite="skip").optimizer
    fresh.load_state_dict(run.optimizer.state_dict())
    copies = [fresh, copy.deepcopy(run.optimizer), pickle.loads(pickle.dumps(run.optimizer))]
    assert [twin.skipped_steps for twin in copies] == [1, 1, 1]


@EVERY_CLASS
def test_raise_names_the_parameter(cls):
    run = Run(cls, on_nonfinite="raise")
    before = run.steps(0).snapshot()
    poison(run, math.nan)
    with pytest.raises(FloatingPointError, match=r"not finite \(global norm nan\): b\. .*'skip'"):
        run.optimizer.step()
    assert same(run.snapshot(), before)


def test_raise_without_names():
    params = [Parameter(torch.ones(2)) for _ in range(3)]
    optimizer = at.SGD([{"params": params[:1]}, {"params": params[1:]}], on_nonfinite="raise")
    for p in params:
        p.grad = torch.full((2,), math.inf)
    params[1].grad = torch.ones(2)
    with pytest.raises(FloatingPointError, match=": parameter 0 of group 0, parameter 1 of group 1"):
        optimizer.step()


def test_raise_when_only_the_norm_overflows():
    run = Run(at.SGD, on_nonfinite="raise")
    run.w.grad = torch.full_like(run.w, 1e200)
    with pytest.raises(FloatingPointError, match="none alone: their norm overflows"):
        run.optimizer.step()


@pytest.mark.parametrize("max_norm", [None, 1.0])
def test_ignore_is_what_torch_does(max_norm):
    run = Run(at.SGD, max_norm=max_norm)
    poison(run, math.nan)
    run.optimizer.step()
    assert run.b.isnan().any()
    assert run.optimizer.skipped_steps == 0


# --- groups -----------------------------------------------------------------------------------------------


@EVERY_CLASS
def test_each_group_has_its_own_mode(cls):
    """Two groups in two modes move as two optimizers would."""
    for first, second in zip(MODES, reversed(MODES), strict=True):
        apart = [Run(cls, weight_decay=0.3, decay=mode).steps(0, 1, 2) for mode in (first, second)]
        together = Run(
            cls,
            lambda named, modes=(first, second): [
                {"params": [pair], "decay": mode} for pair, mode in zip(named, modes, strict=True)
            ],
            weight_decay=0.3,
        ).steps(0, 1, 2)
        assert torch.equal(together.w, apart[0].w), first
        assert torch.equal(together.b, apart[1].b), second


@EVERY_CLASS
def test_add_param_group_in_training(cls):
    run = Run(cls, lambda named: named[:1], weight_decay=0.3, max_norm=1.0).steps(0)
    run.optimizer.add_param_group({"params": [("b", run.b)], "lr": 0.05, "decay": "corrected"})
    late = run.b.detach().clone()
    run.steps(1, 2)
    assert not torch.equal(run.b, late)
    other = Run(cls, lambda named: [{"params": [named[0]]}, {"params": [named[1]], "decay": "corrected"}])
    other.w.data.copy_(run.w.detach())
    other.b.data.copy_(run.b.detach())
    other.optimizer.max_norm = 1.0
    state_dict = run.optimizer.state_dict()
    other.optimizer.load_state_dict(state_dict)
    assert same(run.steps(3).snapshot(), other.steps(3).snapshot())


def test_a_rejected_group_changes_nothing():
    run = Run(at.AdamW)
    for wrong in ({"lr": -1.0}, {"betas": (0.9, 1.0)}, {"decay": "sometimes"}, {"lr": torch.ones(2)}):
        with pytest.raises(ValueError, match=r"lr|learning rate|beta|decay"):
            run.optimizer.add_param_group({"params": [("new", Parameter(torch.ones(1)))], **wrong})
    assert len(run.optimizer.param_groups) == 1


# --- sizes and dtypes -------------------------------------------------------------------------------------


@EVERY_CLASS
def test_foreach_is_only_a_way_to_run(cls):
    """Forced, forbidden or chosen, also past the size from which lists are not worth it."""

    def end(foreach):
        torch.manual_seed(0)
        params = [Parameter(torch.randn(shape)) for shape in ((), (0,), (5,), (100, 90))]
        params.append(Parameter(torch.randn(40, 300).t()))  # not contiguous
        optimizer = cls(params, weight_decay=0.1, foreach=foreach)
        for _ in range(3):
            for p in params:
                p.grad = torch.randn(p.shape)
            optimizer.step()
        return params

    assert same(end(True), end(False))
    assert same(end(True), end(None))


@EVERY_CLASS
@pytest.mark.parametrize(
    ("default", "expected"), [(torch.float64, torch.float64), (torch.float16, torch.float32)]
)
def test_step_is_counted_in_a_dtype_that_can(cls, default, expected):
    before = torch.get_default_dtype()
    torch.set_default_dtype(default)
    try:
        run = Run(cls).steps(0, 1)
    finally:
        torch.set_default_dtype(before)
    for state in run.optimizer.state.values():
        assert state.get("step", torch.tensor(2, dtype=expected)) == 2
        assert state.get("step", torch.tensor(2, dtype=expected)).dtype == expected


# --- copies, processes, and what torch builds on optimizers -----------------------------------------------


@EVERY_CLASS
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickling(cls, protocol):
    run = Run(cls, max_norm=1.0, on_nonfinite="skip", weight_decay=0.1).steps(0, 1)
    twin = Run(cls).adopt(pickle.loads(pickle.dumps(run.optimizer, protocol)))
    for name in ("max_norm", "on_nonfinite", "skipped_steps", "last_norm", "defaults"):
        assert getattr(twin.optimizer, name) == getattr(run.optimizer, name)
    assert same(run.steps(2).snapshot(), twin.steps(2).snapshot())


@EVERY_CLASS
def test_deepcopy_is_independent(cls):
    run = Run(cls).steps(0)
    twin = Run(cls).adopt(copy.deepcopy(run.optimizer))
    before = run.snapshot()
    twin.steps(1)
    assert same(run.snapshot(), before)
    assert same(run.steps(1).snapshot(), twin.snapshot())


def test_shared_between_processes(tmp_path):
    """A child process steps on parameters and sums that the parent sees (Hogwild)."""
    script = tmp_path / "hogwild.py"
    script.write_text(
        """
import torch, torch.multiprocessing
from adamantine.torch import Adagrad

def train(weight, optimizer):
    weight.grad = torch.full((3,), 2.0)
    optimizer.step()

if __name__ == "__main__":
    weight = torch.nn.Parameter(torch.ones(3).share_memory_())
    optimizer = Adagrad([weight], lr=0.5)
    optimizer.share_memory()
    child = torch.multiprocessing.get_context("spawn").Process(target=train, args=(weight, optimizer))
    child.start()
    child.join()
    assert child.exitcode == 0
    assert weight.tolist() == [0.5] * 3, weight
    assert optimizer.state[weight]["sum"].tolist() == [4.0] * 3
"""
    )
    subprocess.run([sys.executable, "-W", "error", script], check=True, timeout=120)


@EVERY_CLASS
def test_grad_scaler(cls):
    """Scaled by a power of two and unscaled again: the plain steps; a step that overflows is left out."""
    run, plain = Run(cls), Run(cls)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for seed in range(3):
        scaler.scale(torch.zeros(()))
        run.grads(seed)
        for p in (run.w, run.b):
            p.grad *= 1024.0
        scaler.step(run.optimizer)
        scaler.update()
    assert same(run.snapshot(), plain.steps(0, 1, 2).snapshot())
    poison(run, math.inf)
    scaler.step(run.optimizer)
    scaler.update()
    assert scaler.get_scale() == 512.0
    assert same(run.snapshot(), plain.snapshot())


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without distributed")
@pytest.mark.parametrize("mode", MODES)
@EVERY_CLASS
def test_distributed_checkpoints(cls, mode):
    """torch.distributed.checkpoint makes the state by a step at lr = 0; no decay mode may move a weight."""
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = cls(model.parameters(), lr=0.1, weight_decay=0.5, decay=mode)
    state_dict = get_optimizer_state_dict(model, optimizer)
    assert same([p.detach() for p in model.parameters()], before)
    assert state_dict["param_groups"][0]["params"] == ["weight", "bias"]
    fresh = cls(model.parameters(), lr=0.3, weight_decay=0.1, decay=mode)
    set_optimizer_state_dict(model, fresh, state_dict)
    assert same([p.detach() for p in model.parameters()], before)
    assert fresh.param_groups[0]["lr"] == 0.1
    assert fresh.param_groups[0]["decay"] == mode
