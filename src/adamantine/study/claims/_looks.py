"""Strokes of the methods in these figures, the same as in a comparison; imports no plotting library."""

from __future__ import annotations

from adamantine.report.theme import stroke

ADAM_L2, ADAMW = stroke(1), stroke(2)
OTHERS = (stroke(3), stroke(4), stroke(5))
