"""adamantine: AdamW, decoupled in the API, fused in the kernel, proven by experiment.

This package imports NumPy alone. Where the work is done:

- `adamantine.torch`: drop-in ``torch.optim`` optimizers with one vocabulary of weight decay;
- `adamantine.groups`, `adamantine.schedules`: what decays and why, and how the learning rate moves;
- `adamantine.reference`: the same rules over NumPy arrays, in float64, as the executable reference;
- ``adamantine compare`` on the command line: Adam + L2 against AdamW on real data.
"""

from __future__ import annotations

from adamantine.groups import param_groups
from adamantine.rules import RULES
from adamantine.rules.decay import convert as convert_weight_decay
from adamantine.rules.decay import normalized as normalized_weight_decay
from adamantine.rules.decay import timescale

__version__ = "0.1.0"

__all__ = [
    "RULES",
    "convert_weight_decay",
    "normalized_weight_decay",
    "param_groups",
    "timescale",
]
