"""The float64 rules against closed forms, and what must hold for every rule and decay mode."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adamantine import convert_weight_decay, normalized_weight_decay, timescale
from adamantine.reference import Optimizer
from adamantine.rules import RULES, bind
from adamantine.rules.decay import MODES, coefficients
from adamantine.rules.hyper import check

EVERY_RULE = pytest.mark.parametrize("rule", sorted(RULES))
EVERY_MODE = pytest.mark.parametrize("mode", MODES)
LAMBDA = 0.25


def train(
    rule, steps=30, *, mode="none", lam=0.0, lr=0.05, grads=None, theta=None, scale=1.0, dtype=float, **hyper
):
    """Noise plus a slope pulling towards 1; every call with the same arguments sees the same gradients."""
    rng = np.random.default_rng(7)
    w = {"w": np.array([1.5, -0.5, 0.3, 2.0] if theta is None else theta, dtype)}
    optimizer = Optimizer(rule, lr=lr, decay=mode, weight_decay=lam, **hyper)
    for _ in range(steps):
        g = (w["w"] - 1.0 + rng.normal(size=w["w"].shape)) if grads is None else np.asarray(grads)
        optimizer.step(w, {"w": (scale * g).astype(dtype)})
    return w["w"]


# --- closed forms -----------------------------------------------------------------------------------------


def test_sgd_is_a_sum_of_gradients():
    assert train("sgd", 10, lr=0.5, theta=[1.0], grads=[0.25])[0] == 1.0 - 10 * 0.5 * 0.25


def test_heavy_ball_constant_gradient():
    # m_t = g (1-μᵗ)/(1-μ), so θ_T = θ_0 - η g Σ_t (1-μᵗ)/(1-μ)
    mu, steps = 0.9, 25
    expected = 1.0 - 0.1 * 2.0 * sum((1 - mu**t) / (1 - mu) for t in range(1, steps + 1))
    np.testing.assert_allclose(
        train("heavy_ball", steps, lr=0.1, theta=[1.0], grads=[2.0])[0], expected, rtol=1e-13
    )


def test_nesterov_looks_one_step_ahead():
    mu, steps = 0.9, 25
    expected = 1.0 - 0.1 * 2.0 * sum(1 + mu * (1 - mu**t) / (1 - mu) for t in range(1, steps + 1))
    np.testing.assert_allclose(
        train("nesterov", steps, lr=0.1, theta=[1.0], grads=[2.0])[0], expected, rtol=1e-13
    )


def test_dampening_spares_the_first_gradient():
    m1, m2 = 2.0, 0.9 * 2.0 + 0.25 * 2.0
    theta = train("heavy_ball", 2, lr=1.0, theta=[0.0], grads=[2.0], dampening=0.75)
    np.testing.assert_allclose(theta[0], -(m1 + m2), rtol=1e-15)


def test_adagrad_constant_gradient():
    expected = -0.1 * sum(1 / math.sqrt(t) for t in range(1, 21))
    np.testing.assert_allclose(train("adagrad", 20, lr=0.1, theta=[0.0], grads=[3.0], eps=0.0)[0], expected)


def test_adagrad_anneals_with_lr_decay():
    expected = -0.1 * sum(1 / math.sqrt(t) / (1 + (t - 1) * 0.5) for t in range(1, 21))
    theta = train("adagrad", 20, lr=0.1, theta=[0.0], grads=[3.0], eps=0.0, lr_decay=0.5)
    np.testing.assert_allclose(theta[0], expected)


def test_rmsprop_constant_gradient():
    expected = -0.1 * sum(1 / math.sqrt(1 - 0.99**t) for t in range(1, 21))
    np.testing.assert_allclose(train("rmsprop", 20, lr=0.1, theta=[0.0], grads=[3.0], eps=0.0)[0], expected)


def test_centered_rmsprop_survives_a_gradient_without_variance():
    """v - a² is then rounding noise of either sign: its root must not be NaN."""
    assert np.isfinite(train("rmsprop_centered", 4000, lr=1e-9, theta=[0.0], grads=[0.1])).all()


@pytest.mark.parametrize("rule", ["adam", "amsgrad", "adamax"])
def test_adam_constant_gradient_moves_by_lr(rule):
    """Bias correction makes every step exactly ∓lr from the first on (up to ε)."""
    theta = train(rule, 50, lr=0.01, theta=[0.0, 0.0], grads=[5.0, -1e-3], eps=0.0)
    np.testing.assert_allclose(theta, [-0.5, 0.5], rtol=1e-12)


def test_amsgrad_remembers_the_largest_v():
    def two_phases(rule):
        optimizer = Optimizer(rule, lr=1.0, betas=(0.0, 0.5), eps=0.0)
        w = {"w": np.zeros(1)}
        optimizer.step(w, {"w": np.array([100.0])})
        for _ in range(30):
            before = w["w"].copy()
            optimizer.step(w, {"w": np.array([1.0])})
        return before - w["w"]

    assert two_phases("adam") == pytest.approx(1.0, rel=1e-3)
    assert two_phases("amsgrad") == pytest.approx(1 / math.sqrt(0.5 * 100**2), rel=1e-6)


def test_nadam_first_step():
    mu1 = 0.9 * (1 - 0.5 * 0.96 ** (1 * 4e-3))
    mu2 = 0.9 * (1 - 0.5 * 0.96 ** (2 * 4e-3))
    u = (1 - mu1) / (1 - mu1) + mu2 / (1 - mu1 * mu2) * 0.1
    np.testing.assert_allclose(
        train("nadam", 1, lr=1.0, theta=[0.0], grads=[4.0], eps=0.0)[0], -u, rtol=1e-14
    )


def test_radam_starts_as_momentum_and_ends_as_adam():
    np.testing.assert_allclose(train("radam", 5, lr=0.1, theta=[0.0], grads=[3.0])[0], -5 * 0.1 * 3.0)
    t, beta2 = 6, 0.999
    rho_inf = 2 / (1 - beta2) - 1
    rho = rho_inf - 2 * t * beta2**t / (1 - beta2**t)
    r = math.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
    sixth = train("radam", 6, lr=0.1, theta=[0.0], grads=[3.0], eps=0.0)[0]
    np.testing.assert_allclose(sixth, -5 * 0.1 * 3.0 - 0.1 * r, rtol=1e-12)


def test_lion_is_a_sign():
    np.testing.assert_array_equal(
        train("lion", 8, lr=0.125, theta=[0.0, 0.0], grads=[1e-9, -50.0]), [-1.0, 1.0]
    )


def test_adam_atan2_first_step_is_an_eighth_turn():
    theta = train("adam_atan2", 1, lr=1.0, theta=[0.0, 0.0], grads=[7.0, 0.0])
    np.testing.assert_allclose(theta, [-math.pi / 4, 0.0], rtol=1e-15)


# --- decay, for every rule --------------------------------------------------------------------------------


@EVERY_RULE
@EVERY_MODE
def test_without_lambda_all_modes_are_none(rule, mode):
    np.testing.assert_array_equal(train(rule, mode=mode, lam=0.0), train(rule))


@EVERY_RULE
@EVERY_MODE
def test_lr_zero_moves_nothing(rule, mode):
    """torch.distributed.checkpoint makes state by a step at lr = 0: no mode may move a weight there."""
    start = [1.5, -0.5, 0.3, 2.0]
    np.testing.assert_array_equal(train(rule, 3, mode=mode, lam=LAMBDA, lr=0.0), start)
    optimizer = Optimizer(rule, lr=0.1, decay=mode, weight_decay=LAMBDA)
    w = {"w": np.array(start)}
    optimizer.step(w, {"w": np.ones(4)})
    after, optimizer.lr = w["w"].copy(), 0.0
    optimizer.step(w, {"w": np.zeros(4)})
    np.testing.assert_array_equal(w["w"], after)


@EVERY_RULE
@pytest.mark.parametrize("mode", ["decoupled", "independent", "corrected", "cautious"])
def test_zero_gradient_decays_geometrically(rule, mode):
    steps, lr = 40, 0.05
    per_step = 1 - (LAMBDA if mode == "independent" else lr * LAMBDA)
    theta = train(rule, steps, mode=mode, lam=LAMBDA, lr=lr, theta=[1.0, -2.0], grads=[0.0, 0.0])
    np.testing.assert_allclose(theta, np.array([1.0, -2.0]) * per_step**steps, rtol=1e-12)


@EVERY_RULE
def test_modes_differ_when_lambda_counts(rule):
    """The negative control of every equality above. (SGD alone cannot tell l2 from decoupled.)"""
    ends = {mode: tuple(train(rule, mode=mode, lam=LAMBDA)) for mode in MODES if mode != "corrected"}
    same = {
        frozenset({a, b}) for a in ends for b in ends if a != b and np.allclose(ends[a], ends[b], rtol=1e-9)
    }
    assert same == ({frozenset({"l2", "decoupled"})} if rule == "sgd" else set())


def test_l2_and_decay_are_one_for_sgd_alone():
    """Proposition 1 of Loshchilov & Hutter, 2000 steps; with momentum they part (its negative control)."""
    for rule, tells_apart in (("sgd", False), ("heavy_ball", True)):
        a, b = (train(rule, 2000, mode=mode, lam=LAMBDA, lr=0.01) for mode in ("l2", "decoupled"))
        assert bool(np.max(np.abs(a - b) / np.abs(b)) > 1e-2) is tells_apart
        if not tells_apart:
            np.testing.assert_allclose(a, b, rtol=1e-13)


@EVERY_RULE
def test_corrected_follows_the_schedule_twice(rule):
    """At lr = η_max/2 and g = 0, corrected decays by λ·η²/η_max: half of what decoupled does there."""
    lr = 0.1
    optimizer = Optimizer(rule, lr=lr / 2, decay="corrected", weight_decay=LAMBDA, peak_lr=lr)
    w = {"w": np.array([1.0])}
    optimizer.step(w, {"w": np.zeros(1)})
    np.testing.assert_allclose(w["w"], 1 - (lr / 2) ** 2 / lr * LAMBDA, rtol=1e-15)


@EVERY_RULE
def test_cautious_shrinks_only_towards_zero(rule):
    """Gradients away from zero leave the decay out; the same steps with the decay are decoupled's."""
    for sign, twin in ((1.0, "decoupled"), (-1.0, "none")):
        theta, g = [1.0, -3.0], [sign * 0.5, -sign * 0.5]  # u·θ > 0 where g and θ agree in sign
        cautious, other = (
            train(rule, 3, mode=m, lam=LAMBDA, lr=0.01, theta=theta, grads=g) for m in ("cautious", twin)
        )
        np.testing.assert_array_equal(cautious, other)


@settings(max_examples=30, deadline=None)
@given(
    rule=st.sampled_from(sorted(RULES)),
    power=st.integers(-20, 20),
    mode=st.sampled_from(["none", "decoupled"]),
)
def test_scale_invariance(rule, power, mode):
    """Loss × 2ᵏ with ε × 2ᵏ changes nothing, bitwise, for rules that divide by the gradient's size."""
    if rule in {"sgd", "heavy_ball", "nesterov", "radam"}:
        return
    scale = 2.0**power
    eps = {"eps": 1e-8} if "eps" in RULES[rule].hyper else {}
    plain = train(rule, mode=mode, lam=LAMBDA, **eps)
    scaled = train(
        rule, mode=mode, lam=LAMBDA, scale=scale, **{name: value * scale for name, value in eps.items()}
    )
    np.testing.assert_array_equal(plain, scaled)


def test_l2_inside_adam_is_not_scale_invariant():
    plain, scaled = (train("adam", mode="l2", lam=LAMBDA, scale=s, eps=1e-8 * s) for s in (1.0, 1024.0))
    assert not np.allclose(plain, scaled, rtol=1e-3)
    np.testing.assert_array_equal(
        plain, train("adam", mode="l2", lam=LAMBDA * 1024, scale=1024.0, eps=1e-8 * 1024)
    )


# --- units, bad input, bind -------------------------------------------------------------------------------


@pytest.mark.parametrize(("epochs", "expected"), [(100, 1.265e-4), (1500, 3.27e-5)])
def test_normalized_weight_decay_vectors(epochs, expected):
    value = normalized_weight_decay(0.025, batch_size=128, examples=50_000, epochs=epochs)
    assert value == pytest.approx(expected, rel=2e-3)  # the paper prints three digits


@given(st.floats(0, 0.9), st.floats(1e-6, 10))
def test_conversion_there_and_back(lam, peak):
    there = convert_weight_decay(lam, source="independent", target="decoupled", peak_lr=peak)
    assert convert_weight_decay(
        there, source="decoupled", target="independent", peak_lr=peak
    ) == pytest.approx(lam)


@EVERY_RULE
def test_converted_lambda_gives_the_same_run(rule):
    lr = 0.05
    lam = convert_weight_decay(LAMBDA, source="decoupled", target="independent", peak_lr=lr)
    a, b = train(rule, mode="decoupled", lam=LAMBDA, lr=lr), train(rule, mode="independent", lam=lam, lr=lr)
    np.testing.assert_allclose(a, b, rtol=1e-12)


def test_no_conversion_of_l2():
    with pytest.raises(ValueError, match="no exact conversion of weight_decay from 'l2' to 'decoupled'"):
        convert_weight_decay(0.1, source="l2", target="decoupled", peak_lr=1e-3)


def test_timescale_of_no_decay_is_forever():
    assert timescale(lr=1e-3, weight_decay=0.0) == math.inf


@pytest.mark.parametrize(
    ("hyper", "message"),
    [
        ({"lr": -1.0}, "Invalid learning rate: -1.0; it must be finite and >= 0"),
        ({"lr": math.nan}, "Invalid learning rate: nan"),
        ({"lr": math.inf}, "Invalid learning rate: inf"),
        ({"lr": "fast"}, "Invalid learning rate: fast"),
        ({"eps": -1e-8}, "Invalid epsilon value: -1e-08"),
        ({"momentum": 1.5}, "Invalid momentum value: 1.5"),
        ({"betas": (0.9, 1.0)}, "Invalid beta parameter at index 1: 1.0"),
        ({"betas": (-0.1, 0.9)}, "Invalid beta parameter at index 0: -0.1"),
        ({"betas": 0.9}, r"Invalid betas: 0.9; give a pair"),
        ({"weight_decay": -0.5}, "Invalid weight_decay value: -0.5"),
        ({"weight_decay": math.nan}, "Invalid weight_decay value: nan"),
        ({"weight_decay": 1.0, "decay": "independent"}, "convert_weight_decay"),
        ({"decay": "l1"}, "Invalid decay mode: 'l1'; choose one of 'none', 'l2'"),
        ({"peak_lr": -1.0}, "Invalid peak_lr: -1.0"),
        ({"nesterov": True, "momentum": 0.0}, "Nesterov momentum requires a momentum and zero dampening"),
    ],
)
def test_bad_hyperparameters_say_name_value_and_remedy(hyper, message):
    with pytest.raises(ValueError, match=message):
        check(hyper)


def test_reference_refuses_what_it_cannot_mean():
    with pytest.raises(ValueError, match="Unknown rule: 'adm'; choose one of 'sgd'"):
        Optimizer("adm")
    with pytest.raises(TypeError, match=r"no hyperparameter \['momentum'\]; it has \['betas', 'eps'\]"):
        Optimizer("adam", momentum=0.9)
    with pytest.raises(ValueError, match="gradient 'b' has no parameter"):
        Optimizer("sgd").step({"w": np.ones(2)}, {"b": np.ones(2)})
    with pytest.raises(ValueError, match=r"shape \(3,\), its parameter \(2,\)"):
        Optimizer("sgd").step({"w": np.ones(2)}, {"w": np.ones(3)})


def test_stated_peak_below_lr_is_refused():
    with pytest.raises(ValueError, match=r"highest lr of the schedule, got peak_lr=0\.01 at lr=0\.1"):
        coefficients("independent", lr=0.1, weight_decay=0.1, peak_lr=0.01)


def test_a_peak_missed_by_an_ulp_is_no_error():
    """Schedulers that multiply their way up arrive beside the peak; a float32 lr is 4e-8 off."""
    for lr in (1e-3 * (1 + 2**-52), float(np.float32(1e-3)), np.nextafter(1e-3, 0)):
        found = coefficients("independent", lr=lr, weight_decay=0.1, peak_lr=1e-3).shrink
        assert found == pytest.approx(0.9, rel=1e-7)


@pytest.mark.parametrize("dtype", [complex, int])
def test_reference_takes_floating_arrays_only(dtype):
    with pytest.raises(ValueError, match="give float32 or float64 arrays"):
        Optimizer("adam").step({"w": np.ones(2, dtype)}, {"w": np.ones(2, dtype)})


@EVERY_RULE
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(), (0,), (3, 2)])
def test_reference_keeps_shape_and_dtype(rule, dtype, shape):
    w = {"w": np.ones(shape, dtype)}
    optimizer = Optimizer(rule, decay="cautious", weight_decay=0.1)
    for _ in range(7):
        optimizer.step(w, {"w": np.full(shape, 0.5, dtype)})
    assert w["w"].shape == shape
    assert w["w"].dtype == dtype
    for key in optimizer.rule.slots.values():
        assert optimizer.state["w"][key].dtype == dtype
    assert np.size(w["w"]) == 0 or (w["w"] < 1).all()


def test_bind_sees_only_the_given_names():
    with pytest.raises(NameError, match="sqrt"):
        bind(RULES["adam"].direction)(1.0, 0.0, 0.0, 0.9, 0.1, 0.999, 0.001, 10.0, 1000.0, 1e-8)
    with pytest.raises(TypeError, match="plain Python function"):
        bind(np.sqrt)
