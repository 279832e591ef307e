"""Classes that need something before they step: found out, said, and written into the examples."""

from __future__ import annotations

import pytest
import torch

from adamantine.testing import ConformanceError, Outcome, check_optimizer, subject_of


class Named(torch.optim.SGD):
    def __init__(self, params, lr=0.1):
        params = list(params)
        pairs = [p for group in params for p in group["params"]] if isinstance(params[0], dict) else params
        if not all(isinstance(p, tuple) for p in pairs):
            raise TypeError("give named_parameters()")
        super().__init__(params, lr=lr)


class Float32(torch.optim.SGD):
    def step(self, closure=None):
        assert all(p.dtype == torch.float32 for group in self.param_groups for p in group["params"])
        return super().step(closure)


class Grouped(torch.optim.Optimizer):
    """As Muon with an AdamW beside it."""

    def __init__(self, params, lr=0.1):
        if not all(isinstance(group, dict) and "use_muon" in group for group in params):
            raise ValueError("every group must say use_muon")
        super().__init__(params, {"lr": lr})

    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.data -= group["lr"] * p.grad


class LrRequired(torch.optim.SGD):
    def __init__(self, params, lr):
        super().__init__(params, lr=lr)


class LrNone(torch.optim.SGD):
    def __init__(self, params, lr=None):
        super().__init__(params, lr=lr + 0)


class Closure(torch.optim.SGD):
    def step(self, closure):
        loss = closure()
        super().step()
        return loss


class WithMode(torch.optim.SGD):
    """Steps in training mode alone, like the schedule-free ones."""

    training = False

    def train(self):
        self.training = True

    def step(self, closure=None):
        if not self.training:
            raise RuntimeError("call optimizer.train()")
        return super().step(closure)


@pytest.mark.parametrize(
    ("cls", "needs"),
    [
        (Named, ("named parameters",)),
        (Float32, ("float32",)),
        (Grouped, ("groups with use_muon=True",)),
        (Closure, ("a closure",)),
        (LrRequired, ()),
        (LrNone, ()),
        (WithMode, ()),
    ],
)
def test_found_out(cls, needs):
    assert subject_of(cls).needs.words == needs
    found = check_optimizer(cls, only=["zero-lr", "group-independence", "resume"])
    assert found.needs == needs
    assert found.violations == {}
    assert {result.outcome for result in found.results} == {Outcome.PASSED}


def test_what_fits_no_way_is_told_with_its_own_words():
    def make(params):
        raise ValueError("only on Tuesdays")

    with pytest.raises(ConformanceError, match="make does not step on a small weight: ValueError: only on"):
        subject_of(make)


def test_a_class_that_fails_in_float32_too_is_told_with_both():
    class Half(torch.optim.SGD):
        def step(self, closure=None):
            if any(p.dtype != torch.float32 for group in self.param_groups for p in group["params"]):
                raise TypeError("wide")
            raise KeyError("momentum")

    with pytest.raises(ConformanceError, match=r"TypeError: wide; in float32: KeyError: 'momentum'"):
        subject_of(Half)


def test_a_momentum_that_goes_by_another_name_is_no_wrong_sgd():
    class SGD(torch.optim.SGD):
        def __init__(self, params, lr=0.1, beta=0.9):
            super().__init__(params, lr=lr, momentum=beta)
            for group in self.param_groups:
                group["beta"] = beta

    assert check_optimizer(SGD, only=["formula"])["formula"].outcome is Outcome.NOT_APPLICABLE


def test_epsilon_before_the_bias_correction_is_the_papers_too():
    """Kingma & Ba, end of section 2: α_t = α√(1-β₂ᵗ)/(1-β₁ᵗ), θ ← θ - α_t m/(√v + ε̂)."""

    class Adam(torch.optim.Optimizer):
        def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8):
            super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

        @torch.no_grad()
        def step(self, closure=None):
            for group in self.param_groups:
                beta1, beta2 = group["betas"]
                for p in group["params"]:
                    state = self.state[p]
                    m = state["m"] = beta1 * state.get("m", 0) + (1 - beta1) * p.grad
                    v = state["v"] = beta2 * state.get("v", 0) + (1 - beta2) * p.grad**2
                    t = state["t"] = state.get("t", 0) + 1
                    alpha = group["lr"] * (1 - beta2**t) ** 0.5 / (1 - beta1**t)
                    p -= alpha * m / (v.sqrt() + group["eps"])

    found = check_optimizer(Adam, only=["formula"])["formula"]
    assert found.outcome is Outcome.PASSED
    assert "the paper's ε̂" in found.statement
