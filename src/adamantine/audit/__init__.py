"""Findings about any torch optimizer and model: what decays, by how much, and whether that can be meant."""

from __future__ import annotations

from adamantine.audit.errors import AuditError
from adamantine.audit.model import AuditReport, Finding, LedgerReport

__all__ = ["AuditError", "AuditReport", "Finding", "LedgerReport"]
