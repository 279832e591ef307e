"""The conformance kit: what an optimizer promises by being one, as checks for anybody's class.

>>> import torch
>>> from adamantine.testing import check_optimizer
>>> found = check_optimizer(torch.optim.AdamW, only=["decay"])
>>> found["decay-order"].outcome.value
'passed'
"""

from __future__ import annotations

from adamantine.testing.errors import ConformanceError
from adamantine.testing.outcome import Conformance, Example, Outcome, Result
from adamantine.testing.parametrize import assert_passes, parametrize_with_checks
from adamantine.testing.resolve import subject_of
from adamantine.testing.run import check_optimizer
from adamantine.testing.subject import Needs, Subject

__all__ = [
    "Conformance",
    "ConformanceError",
    "Example",
    "Needs",
    "Outcome",
    "Result",
    "Subject",
    "assert_passes",
    "check_optimizer",
    "parametrize_with_checks",
    "subject_of",
]
