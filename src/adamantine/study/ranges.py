"""The lr and weight decay that each method is searched over.

Coupled and decoupled decay are different quantities, so each method has its own range. The decay ranges
follow the AdamW paper's experiments and its successors: L2 about 1e-3 times 2^-5..2^4, decoupled about
1e-2 times 2^-2..2^9, here every second power of two. Each starts with 0, so that "no decay is best" is
something the study can find.
"""

from __future__ import annotations

import math

from adamantine.study.errors import StudyError
from adamantine.study.methods import Spec

#: Learning rates by class name: five values half a decade apart, around what small networks take.
LRS = {
    "SGD": "1e-2:1:5",
    "SGDW": "1e-2:1:5",
    "Adagrad": "3.16e-3,1e-2,3.16e-2,0.1,0.316",
    "Lion": "1e-4:1e-2:5",
    "RMSprop": "3.16e-4,1e-3,3.16e-3,1e-2,3.16e-2",
    **dict.fromkeys(("Adam", "AdamW", "Adamax", "NAdam", "RAdam", "AdamAtan2"), "1e-3:1e-1:5"),
}

#: Weight decays by decay mode. `independent` is multiplied by no lr: `decoupled` times a typical lr of 1e-2.
WEIGHT_DECAYS = {
    "none": "0",
    "l2": "0,3.125e-5,1.25e-4,5e-4,2e-3,8e-3",
    **dict.fromkeys(("decoupled", "corrected", "cautious"), "0,5e-3,2e-2,8e-2,0.32,1.28"),
    "independent": "0,5e-5,2e-4,8e-4,3.2e-3,1.28e-2",
}

FACTOR = 4.0  # by which an axis grows when it has too few values to tell


def parse_axis(text: str, option: str) -> tuple[float, ...]:
    """Ascending values from numbers and ``low:high:count`` (logarithmic), separated by commas.

    >>> parse_axis("0,1e-3:1e-1:3", "--weight-decay")
    (0.0, 0.001, 0.01, 0.1)
    """
    values: list[float] = []
    for part in text.split(","):
        numbers = [_number(number, text, option) for number in part.split(":")]
        if len(numbers) == 1:
            values += numbers
        elif len(numbers) == 3:
            low, high, count = numbers
            if not 0 < low < high or count != int(count) or count < 2:
                raise StudyError(
                    f"{option} {text!r}: in low:high:count, 0 < low < high and count is 2 or more"
                )
            values += _geometric(low, high, int(count))
        else:
            raise StudyError(f"{option} {text!r}: expected numbers or low:high:count, separated by commas")
    if len(set(values)) < len(values):
        raise StudyError(f"{option} {text!r}: a value occurs twice")
    if min(values) < 0 or (option == "--lr" and min(values) == 0):
        raise StudyError(
            f"{option} {text!r}: {min(values):g} is not {'positive' if option == '--lr' else '0 or more'}"
        )
    return tuple(sorted(values))


def default_lrs(spec: Spec) -> tuple[float, ...]:
    """The range for a class by its name; raises for one that is not known."""
    if spec.class_name not in LRS:
        raise StudyError(f"--method {spec}: no usual range is known; give --lr '{spec}=low:high:count'")
    return parse_axis(LRS[spec.class_name], "--lr")


def default_weight_decays(spec: Spec, mode: str) -> tuple[float, ...]:
    """The range for the decay mode; of torch's own classes AdamW is decoupled and every other is coupled."""
    if not mode:
        decoupled = spec.class_name == "AdamW" or dict(spec.arguments).get("decoupled_weight_decay")
        mode = "decoupled" if decoupled else "l2"
        if spec.module != "torch.optim":
            raise StudyError(
                f"--method {spec}: whether its decay is coupled is not known; "
                f"give --weight-decay '{spec}=0,low:high:count'"
            )
    values = parse_axis(WEIGHT_DECAYS[mode], "--weight-decay")
    if spec.class_name in ("SGD", "SGDW") and mode in ("decoupled", "corrected", "cautious"):
        return tuple(round_to(value / 10, 3) for value in values)  # its lr is ten times Adam's
    return values


def extended(axis: tuple[float, ...], side: str) -> tuple[float, ...]:
    """One more value on the ``"low"`` or ``"high"`` side, as far off as the last two are; 0 keeps its place.

    >>> extended((0.0, 0.01, 0.02), "high"), extended((0.0, 0.01, 0.02), "low")
    ((0.0, 0.01, 0.02, 0.04), (0.0, 0.005, 0.01, 0.02))
    """
    zeros = tuple(value for value in axis if value == 0)
    positive = axis[len(zeros) :]
    if side == "high":
        ratio = positive[-1] / positive[-2] if len(positive) > 1 else FACTOR
        return (*axis, _short(positive[-1] * ratio, positive[-1]))
    ratio = positive[1] / positive[0] if len(positive) > 1 else FACTOR
    return (*zeros, _short(positive[0] / ratio, positive[0]), *positive)


def round_to(value: float, digits: int) -> float:
    """``value`` to so many significant digits, so that grids read well and are the same on every machine."""
    return float(f"{value:.{digits}g}")


def _short(value: float, neighbour: float) -> float:
    """``value`` to within half a percent with as few digits as keep it on its side of its neighbour."""
    shorts = (round_to(value, digits) for digits in range(1, 17))
    close = (x for x in shorts if abs(x - value) <= 0.005 * value)
    return next((x for x in close if (x > neighbour) == (value > neighbour) and x != neighbour), value)


def _geometric(low: float, high: float, count: int) -> list[float]:
    exact = [low * (high / low) ** (index / (count - 1)) for index in range(count)]
    digits = next((n for n in range(3, 17) if len({round_to(x, n) for x in exact}) == count), 17)
    return [low, *(round_to(value, digits) for value in exact[1:-1]), high]


def _number(text: str, whole: str, option: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise StudyError(f"{option} {whole!r}: {text!r} is not a number") from None
    if not math.isfinite(value):
        raise StudyError(f"{option} {whole!r}: {text!r} is not finite")
    return value
