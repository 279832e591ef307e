"""A pytest plugin: the audit of a training script as a test, with fixtures instead of an import.

In `conftest.py`: ``pytest_plugins = ["adamantine.audit.pytest_plugin"]``. It is no entry point, since
that would load NumPy in every pytest run of everybody who has adamantine installed. torch is imported when a
fixture is used.

    def test_decay_is_what_we_think(assert_no_findings):
        model = build_model()
        optimizer, scheduler = configure_optimizers(model)
        assert_no_findings(optimizer, model, steps=20_000, scheduler=scheduler, ignore=["default-decay"])
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from adamantine.audit import Audit


@pytest.fixture(scope="session")
def assert_no_findings() -> Callable[..., None]:
    """Fails the test with the findings as its message if the audit has any of at least severity ``at_least``.

    Takes what `adamantine.audit.assert_no_findings` takes: optimizer, model, ``at_least`` ("warning" unless
    said otherwise), ``steps``, ``steps_per_epoch``, ``scheduler``, ``ignore``.
    """

    def check(optimizer: Any, model: Any, **options: Any) -> None:
        __tracebackhide__ = True  # the report points at the line of the test
        from adamantine.audit import assert_no_findings as imported

        try:
            imported(optimizer, model, **options)
        except AssertionError as error:
            message = str(error)
        else:
            return
        raise AssertionError(message)  # raised here, so that no frame of ours is shown

    return check


@pytest.fixture(scope="session")
def audit_optimizer() -> Callable[..., Audit]:
    """`adamantine.audit.audit`, for tests that look at findings, rows or the ledger themselves."""
    from adamantine.audit import audit

    return audit
