"""What was expected of the study, written down before it was run; docs/quantization.md says what came true.

Known by then: the pilot's errors of the committed codes at D = 0 and D = 4, and that nearest rounding of v is
off by 37 % in the test "shift", Weyl dither by about 10 %.

RANGES is younger: from when R became a power of two, so that a code is found with shifts. Known by then: what
an R of any half octave had given, and from the search for new constants most of what "cost" and "cost-4" put
beside it; "between" and "oracle" were written blind, except that "oracle" has
had the words "but for 'rare'" since the run: its check never had that case. The study was then run anew as a
whole, and all the predictions are held against its new numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Errors = Callable[[str, str, str], float]  # study, store, case → mean error


@dataclass(frozen=True)
class Prediction:
    """A sentence and whether the numbers agree."""

    text: str
    holds: Callable[[Errors], bool]


def _all(e: Errors, study: str, a: str, b: str, cases: tuple[str, ...], factor: float) -> bool:
    return all(e(study, a, case) <= factor * e(study, b, case) for case in cases)


def _over_decades(e: Errors, store: str) -> float:
    return sum(e("ranges", store, f"{d} decades") for d in range(7)) / 7


BOTH = ("alike", "spread")

PREDICTIONS: dict[str, Prediction] = {
    "goal-8": Prediction(
        "8 bits: at most 5 % with scales over 4 decades, at most 0.75 % with scales alike",
        lambda e: e("main", "8/8", "spread") <= 0.05 and e("main", "8/8", "alike") <= 0.0075,
    ),
    "goal-4": Prediction(
        "4 bits: at most 12 % with scales alike, below 100 % with scales over 4 decades",
        lambda e: e("main", "4/4", "alike") <= 0.12 and e("main", "4/4", "spread") <= 1.0,
    ),
    "spread": Prediction(
        "8 bits: the error grows steadily with the spread, and stays below 10 % at 6 decades",
        lambda e: (
            all(
                e("main", "8/8", f"{d} decades") <= 1.05 * e("main", "8/8", f"{d + 1} decades")
                for d in range(6)
            )
            and e("main", "8/8", "6 decades") < 0.1
        ),
    ),
    "blocks": Prediction(
        "from blocks of 32 to blocks of 2048 the 8-bit error at 4 decades grows by less than a factor of 2",
        lambda e: (
            e("blocks", "8 bits, blocks of 2048", "spread")
            <= 2 * e("blocks", "8 bits, blocks of 32", "spread")
        ),
    ),
    "straight": Prediction(
        "straight lines instead of a logarithm cost at most 10 %, both chosen by an oracle",
        lambda e: _all(
            e, "families", "straight lines, by an oracle", "true logarithms, by an oracle", BOTH, 1.1
        ),
    ),
    "family": Prediction(
        "powers lose to logarithms by 1.2 x or more at 4 decades, both chosen by an oracle",
        lambda e: (
            e("families", "powers, by an oracle", "spread")
            >= 1.2 * e("families", "true logarithms, by an oracle", "spread")
        ),
    ),
    "one-curve": Prediction(
        "no curve for all blocks is within 1.5 x of ours in both tests",
        lambda e: all(
            any(e("families", store, case) > 1.5 * e("families", "ours", case) for case in BOTH)
            for store in (
                "x^1 / x^2 for all blocks",
                "x^2 / x^4 for all blocks",
                "x^3 / x^6 for all blocks",
                "logarithm, R = 8 / 16 for all blocks",
                "logarithm, R = 14 / 28 for all blocks",
            )
        ),
    ),
    "chooser": Prediction(
        "the mean gap is within 25 % of the oracle in both tests",
        lambda e: _all(e, "choosers", "8: mean gap", "8: oracle", BOTH, 1.25),
    ),
    "sample": Prediction(
        "a quarter of the block is enough to choose by: within 10 % in both tests",
        lambda e: _all(e, "choosers", "8: mean gap of every 4th", "8: mean gap", BOTH, 1.1),
    ),
    "ratio": Prediction(
        "largest/mean, without logarithms, is 1.5 x worse or more at 4 decades",
        lambda e: e("choosers", "8: largest/mean", "spread") >= 1.5 * e("choosers", "8: mean gap", "spread"),
    ),
    "weyl": Prediction(
        "8-bit v that shifts: Weyl is at least 2 x better than nearest and than independent dither",
        lambda e: (
            _all(e, "rounding", "v 8 bits, weyl", "v 8 bits, nearest", ("shift",), 0.5)
            and _all(e, "rounding", "v 8 bits, weyl", "v 8 bits, independent", ("shift",), 0.5)
        ),
    ),
    "m-nearest": Prediction(
        "8-bit m: Weyl dither is 1.2 x worse than nearest or more, with scales alike",
        lambda e: (
            e("rounding", "m 8 bits, weyl", "alike") >= 1.2 * e("rounding", "m 8 bits, nearest", "alike")
        ),
    ),
    "root": Prediction(
        "√v instead of v changes the 8-bit error by less than 15 %; at 4 bits its dither is biased",
        lambda e: (
            _all(e, "domains", "v 8 bits: √v", "v 8 bits: v", BOTH, 1.15)
            and _all(e, "domains", "v 8 bits: v", "v 8 bits: √v", BOTH, 1.15)
            and e("domains", "v 4 bits: v", "alike") < e("domains", "v 4 bits: √v", "alike")
        ),
    ),
    "zero": Prediction(
        "linear √v over 4 decades: off by more than 100 % if zero is allowed, by at most 100 % if not",
        lambda e: (
            e("zeros", "√v linear, zero allowed", "spread") > 1.0
            and e("zeros", "√v linear, zero excluded", "spread") <= 1.0
        ),
    ),
    "unequal": Prediction(
        "with 12 bits for both, m is to have the 8: m at 8 and v at 4 beats m at 4 and v at 8, scales alike",
        lambda e: e("main", "8/4", "alike") < e("main", "4/8", "alike"),
    ),
    "feedback": Prediction(
        "4 bits and 4 more for what they leave over are no better than 8 bits in both tests",
        lambda e: _all(e, "feedback", "8/8", "4 + 4 / 4 + 4", BOTH, 1.0),
    ),
    "shared": Prediction(
        "on real gradients rank-one v and v per row are off by more than 10 %, 8 bits by less",
        lambda e: (
            all(
                e("shared", store, case) > 0.1
                for store in ("v rank one (Adafactor)", "v per row (Adam-mini)")
                for case in ("text", "digits")
            )
            and all(e("shared", "v 8 bits", case) < 0.1 for case in ("text", "digits"))
        ),
    ),
    "real": Prediction(
        "on real gradients 8 bits are off by less than 5 %, between the two tests' errors",
        lambda e: all(
            e("main", "8/8", "alike") <= e("main", "8/8", case) <= 0.05 for case in ("text", "digits")
        ),
    ),
    "peers": Prediction(
        "8-bit peers (bitsandbytes, torchao, FlashOptim): 3 x ours or more at 4 decades, none better alike",
        lambda e: all(
            e("peers", peer, "spread") >= 3 * e("main", "8/8", "spread")
            and e("peers", peer, "alike") >= e("main", "8/8", "alike")
            for peer in ("bitsandbytes 8-bit", "torchao 8-bit", "FlashOptim 8-bit")
        ),
    ),
}

RANGES: dict[str, Prediction] = {
    "cost": Prediction(
        "8 bits: powers of two cost at most 15 % with scales alike and on real gradients, 40 % elsewhere",
        lambda e: (
            _all(e, "ranges", "8/8, powers of two", "8/8, any half octave",
                 ("alike", "alike, mean 0", "text", "digits"), 1.15)
            and _all(e, "ranges", "8/8, powers of two", "8/8, any half octave",
                     ("heavy tails", "rare", "shift", *(f"{d} decades" for d in range(7))), 1.4)
        ),
    ),
    "cost-4": Prediction(
        "4 bits: powers of two cost at most 15 % everywhere, m being linear in units of √v",
        lambda e: _all(e, "ranges", "4/4, powers of two", "4/4, any half octave",
                       ("alike", "spread", "alike, mean 0", "spread, mean 0", "heavy tails", "rare", "shift",
                        "text", "digits", *(f"{d} decades" for d in range(7))), 1.15),
    ),
    "between": Prediction(
        "with 1.5 times them, half of what powers of two cost or more is won back, mean of 0 to 6 decades",
        lambda e: (
            _over_decades(e, "8/8, powers of two") - _over_decades(e, "8/8, and 1.5 times them")
            >= 0.5 * (_over_decades(e, "8/8, powers of two") - _over_decades(e, "8/8, any half octave"))
        ),
    ),
    "oracle": Prediction(
        "an oracle that chooses among powers of two is at most 25 % better than the mean gap, but for 'rare'",
        lambda e: _all(e, "choosers", "8: mean gap", "8: oracle",
                       ("alike", "spread", "alike, mean 0", "heavy tails"), 1.25),
    ),
}  # fmt: skip

PREDICTIONS |= RANGES
