"""How close is equal, and why: the numbers by which the dry run decides."""

from __future__ import annotations

#: A path agrees where it is this close, relative to what decay did in all: modes differ by tens of per cent.
TOLERANCE = 0.01
#: Share of the elements that has to agree. Not all: a rounding that falls to the other side may turn one sign
#: (Lion) or one code of an 8-bit state.
SHARE = 0.95
#: An effect stands out where it is this many times what rounding can do, so that it is known to 1 %.
CLEAR = 100.0
#: Rounding of θ per step, in units of eps·|θ|: shrinking, stepping and our own hand round by half a unit
#: each, and some optimizers keep several copies of the weight.
ROUNDINGS = 8.0
#: λ is raised by these factors until its effect stands out of rounding. 10⁶ takes lr·λ = 1e-9, the least that
#: is of use to anybody, to 1e-3, which float32 shows.
FACTORS = (1.0, 1e2, 1e4, 1e6)
#: A λ that leaves a trace if anything does: λθ is then as large as many of the gradients, so that it turns
#: their signs where only signs count.
SURELY_SEEN = 1.0
#: Of two hypotheses, the one this many times closer is taken for the better.
MUCH_CLOSER = 10.0
#: Rates that grow by more than this within the run are no constant share of the weight.
GROWTH = 1.1
