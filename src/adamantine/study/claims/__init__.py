"""The article's claims as experiments that can fail: one file ``cNN_name.py`` each, with a `CLAIM`."""

from __future__ import annotations

import importlib
import pkgutil
import re

from adamantine.study.claims.claim import Claim, Effort, Measurement, Prediction
from adamantine.study.errors import StudyError

__all__ = ["Claim", "Effort", "Measurement", "Prediction", "load_claim", "modules"]


def modules() -> dict[int, str]:
    """Number → module of every claim, in order; a new file is found by its name."""
    found = {}
    for module in pkgutil.iter_modules(__path__):
        if match := re.fullmatch(r"c(\d\d)_\w+", module.name):
            found[int(match[1])] = f"{__name__}.{module.name}"
    return dict(sorted(found.items()))


def load_claim(module: str) -> Claim:
    """The claim that a module defines.

    Raises:
        StudyError: the module has no ``CLAIM``.
    """
    claim = getattr(importlib.import_module(module), "CLAIM", None)
    if not isinstance(claim, Claim):
        raise StudyError(f"{module}: no claim there; define CLAIM = Claim(...)")
    return claim
