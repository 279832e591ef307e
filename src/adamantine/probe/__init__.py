"""What an optimizer really does to a weight, measured in a dry run on small tensors.

Nothing is believed because of a name: the optimizer steps on clones, with and without decay, with zero and
non-zero gradients of several sizes, and the decay's mode, size, order and dependence on lr are read from the
weights. The audit and the conformance kit both stand on it.
"""

from __future__ import annotations

from adamantine.probe.api import behaviour_of
from adamantine.probe.behaviour import Behaviour
from adamantine.probe.errors import ProbeError
from adamantine.probe.measure import measure
from adamantine.probe.sandbox import Factory, like

__all__ = ["Behaviour", "Factory", "ProbeError", "behaviour_of", "like", "measure"]
