"""Findings about any torch optimizer and model: what decays, by how much, and whether that can be meant.

>>> import torch
>>> from adamantine.audit import audit
>>> model = torch.nn.Linear(4, 2)
>>> optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=0.1)
>>> [finding.code for finding in audit(optimizer, model).findings]
['l2-in-adaptive', 'decays-bias']
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adamantine.audit.api import Audit, assert_no_findings, audit
    from adamantine.audit.errors import AuditError
    from adamantine.audit.json import from_json, to_json
    from adamantine.audit.model import AuditReport, Finding, LedgerReport

_FROM = {
    "Audit": "api",
    "AuditError": "errors",
    "AuditReport": "model",
    "Finding": "model",
    "LedgerReport": "model",
    "assert_no_findings": "api",
    "audit": "api",
    "from_json": "json",
    "to_json": "json",
}

__all__ = [
    "Audit",
    "AuditError",
    "AuditReport",
    "Finding",
    "LedgerReport",
    "assert_no_findings",
    "audit",
    "from_json",
    "to_json",
]


def __getattr__(name: str) -> Any:
    """Imported when used: pytest loads this package's plugin in every run, and torch takes seconds."""
    if name not in _FROM:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_FROM[name]}"), name)
