"""torch.optim's classes have exactly these violations, each looked at by hand; a new torch may mend some."""

from __future__ import annotations

import pytest
import torch

from adamantine.testing import ConformanceError, check_optimizer

#: Of torch.optim.Optimizer.load_state_dict: state is matched by position, and names saved with it overwrite
#: the live ones; and tensors of fitting dtype and device are kept, not copied, so that steps write into the
#: dictionary.
LOADING = {"named-order", "snapshot-kept"}

#: Loading replaces the groups with all that is in them, decoupled_weight_decay too. (AdamW sets it back to
#: True.)
FLIP = {"mode-flip"}

#: torch casts state to the weights' dtype on loading; NAdam's mu_product, a float32 scalar, becomes float64
#: (or, beside bfloat16 weights, bfloat16), and the steps that follow are not those of an uninterrupted run.
NADAM = {"resume", "state-is-safe"}

VIOLATIONS = {
    "SGD": set(),  # no state without momentum
    "Adagrad": LOADING,
    "RMSprop": LOADING,
    "Adam": LOADING | FLIP,
    "AdamW": LOADING,
    "Adamax": LOADING,
    "NAdam": LOADING | FLIP | NADAM,
    "RAdam": LOADING | FLIP,
    "Adadelta": LOADING,
    "Adafactor": LOADING,
    "Muon": LOADING,
    # What its steps use of the state is a function of their number alone, the same for every parameter.
    "ASGD": {"snapshot-kept"},
    # Steps are at least step_sizes[0] = 1e-6, whatever lr: it only sets the first step's size.
    "Rprop": LOADING | {"zero-lr"},
    # One state, kept under the first parameter; step() must be given a closure, which
    # torch.distributed.checkpoint does not; and __getstate__ leaves out _params, so that a copy cannot step.
    "LBFGS": LOADING | {"dcp-initialisation", "deepcopy"},
}


@pytest.mark.parametrize("name", [name for name in VIOLATIONS if hasattr(torch.optim, name)])
def test_violations(name):
    found = check_optimizer(getattr(torch.optim, name))
    assert set(found.violations) == VIOLATIONS[name], found.violations
    for result in found.results:
        if result.outcome.value == "violated":
            assert result.example is not None, result.check


def test_the_fused_kernel_takes_memory_in_order():
    """On a CPU it writes to the wrong elements where weight and gradient are laid out differently.

    On a GPU the same is refused ("must have same dtype, device, and layout", pytorch #106951, #110758).
    """
    found = check_optimizer(torch.optim.AdamW, hyper={"fused": True}, only=["shapes"])
    assert set(found.violations) == {"non-contiguous", "non-contiguous-gradient"}
    assert all(found[name].example for name in found.violations)


def test_what_cannot_take_dense_gradients_is_said():
    with pytest.raises(ConformanceError, match=r"SparseAdam does not step on a small weight.*dense"):
        check_optimizer(torch.optim.SparseAdam)


def test_inherited_is_not_counted():
    """A subclass that changes nothing about loading does not fail by it; torch's own class does."""

    class AdamW(torch.optim.AdamW):
        pass

    found = check_optimizer(AdamW, only=["named-order"])
    assert found["named-order"].inherited
    assert found.ok
    assert not check_optimizer(torch.optim.AdamW, only=["named-order"]).ok
