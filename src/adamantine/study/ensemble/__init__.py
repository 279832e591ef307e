"""Whole grids trained as one model: networks with a leading member axis, settings of each member's own."""

from __future__ import annotations

from adamantine.study.ensemble.model import Ensemble, NotBatchable
from adamantine.study.ensemble.trainer import OnEpoch, train

__all__ = ["Ensemble", "NotBatchable", "OnEpoch", "train"]
