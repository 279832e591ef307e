"""The studies: which stores are measured in which cases, and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from quantization_cases import Roundtrip, Store, exact
from quantization_codes import (
    ANY,
    HEADER,
    TWO_A_DOUBLING,
    AnyRange,
    Fed,
    Oracle,
    Ours,
    Relative,
    Rounding,
    alone,
    any_range,
    by_ratio,
    by_sample,
    fixed,
    our_code,
    ours,
    relative,
)
from quantization_curves import Nearest16, logarithm, per_row, power, rank_one

from adamantine.formats.block import RELATIVE

CURVES = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0)  # octaves, for what is tried per block
POWERS = tuple(2.0**k for k in range(7))
SYNTHETIC = ("alike", "spread", "alike, mean 0", "spread, mean 0", "heavy tails", "rare", "shift")
SHORT = ("alike", "spread", "alike, mean 0", "heavy tails", "rare")  # for oracles, which try every curve
EVERY = (*SYNTHETIC, "text", "digits")
SLOPES = tuple(f"{d} decades" for d in range(7))


class Held(NamedTuple):
    """A store and its bytes per parameter, both moments, headers counted."""

    store: Store
    bytes: float


@dataclass(frozen=True)
class Study:
    """One question of docs/quantization.md."""

    question: str
    cases: tuple[str, ...]
    stores: Callable[[], dict[str, Held]] = field(repr=False)
    seeds: int = 3  # of synthetic gradients; recorded ones have one


def held(m: Roundtrip, v: Roundtrip) -> Held:
    """With the bytes that follow from the codes' own widths and block sizes."""
    return Held(Store(m, v), _bytes(m) + _bytes(v))


def _bytes(code: Any) -> float:
    match code:
        case Ours():
            return code.code.bits / 8 + HEADER / code.size
        case Nearest16():
            return 2.0
        case Fed():
            return _bytes(code.first) + _bytes(code.second)
        case Relative():
            return _bytes(code.code)
        case Oracle():
            return _bytes(code.candidates[0])
        case _ if code in (rank_one, per_row):
            return 0.0  # a row's numbers are shared by the whole row
        case _ if code is exact:
            return 4.0
        case _:
            return float(code.width / 8 + HEADER / code.size)


def _main() -> dict[str, Held]:
    found = {f"{m}/{v}": held(*ours(m, v)) for m, v in ((8, 8), (4, 8), (8, 4), (4, 4))}
    return found | {"bfloat16": held(Nearest16(), Nearest16()), "8/exact": held(ours(8, 8)[0], exact),
                    "exact/8": held(exact, ours(8, 8)[1]), "4/exact": held(ours(4, 8)[0], exact),
                    "exact/4": held(exact, ours(8, 4)[1])}  # fmt: skip


def _blocks() -> dict[str, Held]:
    return {
        f"{bits} bits, blocks of {size}": held(*ours(bits, bits, size))
        for bits in (8, 4)
        for size in (32, 64, 128, 256, 512, 2048)
    }


def _rounding() -> dict[str, Held]:
    ways: tuple[Rounding, ...] = ("nearest", "independent", "weyl")
    found = {}
    for bits in (8, 4):
        for way in ways:
            found[f"v {bits} bits, {way}"] = held(exact, Ours(our_code(bits, False), way))
        for way in ways:
            found[f"m {bits} bits, {way}"] = held(Ours(our_code(bits, True), way), exact)
    for way in ways:
        found[f"m/√v 4 bits, {way}"] = held(relative(4, way), exact)
    return found


def _ranges() -> dict[str, Held]:
    """What powers of two cost, together and for each moment."""
    found = {}
    for bits in (8, 4):
        name, v = f"{bits}/{bits}", Ours(our_code(bits, False), "weyl")
        found[f"{name}, powers of two"] = held(*ours(bits, bits))
        found[f"{name}, and 1.5 times them"] = held(*any_range(bits, bits, TWO_A_DOUBLING))
        found[f"{name}, any half octave"] = held(*any_range(bits, bits))
        found[f"v {bits} bits, powers of two"] = held(exact, v)
        found[f"v {bits} bits, any half octave"] = held(exact, any_range(bits, bits)[1])
        found[f"m {bits} bits, powers of two"] = held(alone(bits), exact)
        found[f"m {bits} bits, any half octave"] = held(AnyRange(ANY[bits, True], "nearest"), exact)
    return found


def _families() -> dict[str, Held]:
    m, v = ANY[8, True], ANY[8, False]
    found = {"ours": held(*ours(8, 8)), "ours, any half octave": held(*any_range(8, 8))}
    families: dict[str, Callable[[bool], list[Any]]] = {
        "powers of two": lambda signed: [
            AnyRange(m if signed else v, "nearest" if signed else "weyl", choose=fixed(r)) for r in POWERS
        ],
        "straight lines": lambda signed: [
            AnyRange(m if signed else v, "nearest" if signed else "weyl", choose=fixed(r)) for r in CURVES
        ],
        "true logarithms": lambda signed: [
            logarithm(r, 8, signed, rounding="nearest" if signed else "weyl") for r in CURVES
        ],
        "powers": lambda signed: [
            power(p, 8, signed, rounding="nearest" if signed else "weyl")
            for p in (1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 12)
        ],
    }
    for name, make in families.items():
        found[f"{name}, by an oracle"] = held(Oracle(make(True), "m"), Oracle(make(False), "v"))
    for p in (1, 2, 3):
        found[f"x^{p} / x^{2 * p} for all blocks"] = held(power(p, 8, True), power(2 * p, 8, False))
    for r in (8, 14):
        found[f"logarithm, R = {r} / {2 * r} for all blocks"] = held(
            logarithm(r, 8, True), logarithm(2 * r, 8, False, rounding="weyl")
        )
    return found


def _choosers() -> dict[str, Held]:
    found = {}
    for bits in (8, 4):
        m, v = our_code(bits, True), our_code(bits, False)
        found[f"{bits}: oracle"] = held(
            Oracle([Ours(m, "nearest", choose=fixed(r)) for r in POWERS if bits == 8 or r <= 8], "m"),
            Oracle([Ours(v, "weyl", choose=fixed(r)) for r in POWERS], "v"),
        )
        found[f"{bits}: mean gap"] = held(alone(bits), Ours(v, "weyl"))
        for every in (4, 16):
            found[f"{bits}: mean gap of every {every}th"] = held(
                Ours(m, "nearest", choose=by_sample(every)), Ours(v, "weyl", choose=by_sample(every))
            )
        found[f"{bits}: largest/mean"] = held(
            Ours(m, "nearest", choose=by_ratio(2.25, -2.0)), Ours(v, "weyl", choose=by_ratio(2.5, 1.5))
        )
        for rm, rv in ((1, 2), (4, 8), (16, 32)):
            found[f"{bits}: R = {rm} / {rv} for all"] = held(
                Ours(m, "nearest", choose=fixed(rm)), Ours(v, "weyl", choose=fixed(rv))
            )
    return found


def _domains() -> dict[str, Held]:
    found = {}
    for bits in (8, 4):
        v = our_code(bits, False)
        halved = our_code(bits, False, offset=v.offset / 2)  # the gap of √v is half as large
        found[f"v {bits} bits: v"] = held(exact, Ours(v, "weyl"))
        found[f"v {bits} bits: √v"] = held(exact, Ours(halved, "weyl", domain="root"))
        found[f"v {bits} bits: log v (28 octaves)"] = held(exact, logarithm(28, bits, False, rounding="weyl"))
    return found


def _zeros() -> dict[str, Held]:
    found = {}
    for zero in ("excluded", "allowed"):
        found[f"√v linear, zero {zero}"] = held(exact, power(2, 8, False, zero=zero))
        found[f"v^(1/4), zero {zero}"] = held(exact, power(4, 8, False, zero=zero))
        found[f"logarithm 24, weyl, zero {zero}"] = held(
            exact, logarithm(24, 8, False, rounding="weyl", zero=zero)
        )
    return found


def _feedback() -> dict[str, Held]:
    m, v = alone(4), Ours(our_code(4, False), "weyl")
    rest = tuple(Ours(our_code(4, True, slope=0.0, offset=1.0), way) for way in ("nearest", "weyl"))
    return {
        "4/4": held(m, v),
        "4 + 4 / 4 + 4": held(Fed(m, rest[0]), Fed(Ours(v.code, "nearest"), rest[1])),
        "8/8": held(*ours(8, 8)),
    }


def _related() -> dict[str, Held]:
    """m coded by itself, and in units of the root of v as it is kept."""
    found = {}
    for m_bits, v_bits in ((8, 8), (4, 8), (4, 4)):
        v = Ours(our_code(v_bits, False), "weyl")
        found[f"{m_bits}/{v_bits}, m by itself"] = held(alone(m_bits), v)
        for way in ("nearest", "weyl"):
            found[f"{m_bits}/{v_bits}, m/√v, {way}"] = held(relative(m_bits, way), v)
        coarse = Relative(Ours(RELATIVE, "weyl"), "power of two")
        if m_bits == 4:
            found[f"4/{v_bits}, m/√v, power of two"] = held(coarse, v)
    return found


def _constants() -> dict[str, Held]:
    found = {}
    for bits in (8, 4):
        for slope in (1.6, 1.8, 1.95, 2.1, 2.25):
            for offset in (-4.5, -3.0, -1.5, -0.5, 0.5):
                v = our_code(bits, False, slope=slope, offset=offset)
                found[f"v {bits} bits, R = {slope:g}·gap {offset:+g}"] = held(exact, Ours(v, "weyl"))
    return found


def _shared() -> dict[str, Held]:
    return {
        "v 8 bits": held(exact, ours(8, 8)[1]),
        "v 4 bits": held(exact, ours(8, 4)[1]),
        "v rank one (Adafactor)": held(exact, rank_one),
        "v per row (Adam-mini)": held(exact, per_row),
    }


STUDIES = {
    "main": Study("Are the goals met, and which moment is the harder one?", (*EVERY, *SLOPES), _main),
    "blocks": Study("How many elements share a header?", (*SYNTHETIC, "text", "digits"), _blocks),
    "ranges": Study("What do ranges that are powers of two cost?", (*EVERY, *SLOPES), _ranges),
    "families": Study("Which family of curves?", SHORT, _families, seeds=1),
    "choosers": Study("How is a block's curve chosen?", SHORT, _choosers, seeds=1),
    "constants": Study("Which R for a mean gap?", SHORT, _constants, seeds=1),
    "rounding": Study("How is it rounded?", (*SYNTHETIC, "digits"), _rounding),
    "domains": Study("v, its root or its logarithm?", SYNTHETIC, _domains),
    "zeros": Study("May a positive v become zero?", SYNTHETIC, _zeros),
    "feedback": Study("Is what rounding leaves over worth its bits?", SYNTHETIC, _feedback),
    "related": Study("Is m coded by itself, or in units of √v?", (*EVERY, *SLOPES), _related),
    "shared": Study("Do rows and columns share a v?", ("text", "digits"), _shared),
}
