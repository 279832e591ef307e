"""What the codes promise for every block of numbers, with the bounds' reasons.

Where a bound is proved, a unit is one of a float32's bits: of 1 + x/scale for block codes, of the number
itself for weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from adamantine.formats import block, half, split, words
from adamantine.formats.block import BLOCK, CODES, NAN, RELATIVE, SMALLEST, Code
from adamantine.formats.ops import bits, floats

Array = NDArray[np.float32]
Ints = NDArray[np.int32]

ALL = {**{f"{width} {'signed' if signed else 'unsigned'}": c for (width, signed), c in CODES.items()}}
ALL["4 relative"] = RELATIVE
EVERY_CODE = pytest.mark.parametrize("code", ALL.values(), ids=ALL.keys())

NEAREST = np.int32(block.NEAREST)

LARGEST = 2.0**127  # somewhere beyond, a scale may be infinite
finite = st.floats(-LARGEST, LARGEST, width=32, exclude_min=True, exclude_max=True)
moderate = st.floats(2.0**-60, 2.0**60, width=32)
phases = st.integers(-(2**31), 2**31 - 1).map(np.int32)


def arrays(elements: st.SearchStrategy[float], most: int = 24) -> st.SearchStrategy[Array]:
    """One block, ``[1, n]``."""
    return st.integers(1, most).flatmap(lambda n: hnp.arrays(np.float32, (1, n), elements=elements))


@pytest.fixture(autouse=True)
def _as_the_engines_compute() -> Iterator[None]:
    with np.errstate(all="ignore"):  # overflow and NaN are results here, not accidents
        yield


def for_code(x: Array, code: Code) -> Array:
    return x if code.signed else np.abs(x)


def most_of(code: Code) -> int:
    return 2**code.magnitude_bits - 1


def with_range(code: Code, k: int) -> Code:
    """The same with R = 2ᵏ for every block."""
    return replace(code, slope=0.0, offset=2.0**k)


def parts(header: Ints) -> tuple[NDArray[np.float64], Ints]:
    """Scale and k."""
    return floats(header & -128).astype(np.float64), header & 7


@EVERY_CODE
@given(x=arrays(finite), phase=phases)
@settings(max_examples=40, deadline=None)
def test_roundtrip_is_within_a_code(code: Code, x: Array, phase: np.int32) -> None:
    """\\|x̂ - x\\| ≤ q·2ʰ·2⁻²³·(scale + max(\\|x\\|, \\|x̂\\|)); q = 1/2 to nearest, 1 else.

    Codes are 2ʰ units of 1 + x/scale apart; rounding is off by q·2ʰ units. From 2ᵉ to 2ᵉ⁺¹ numbers are 2ᵉ⁻²³
    apart, and 2ᵉ ≤ 1 + max(x, x̂)/scale for the upper of the two: times scale, that is the bound. An unsigned
    code lifts what is below its first code, by less than one. 0.005 codes more for what is not exact: the
    scale keeps 17 bits, so the largest value is off by 64 of its units, up to 128 of those of 1 + x/scale,
    and x/scale by a dozen; h ≥ 15.
    """
    x = for_code(x, code)
    for dither, share in ((NEAREST, 0.5 if code.signed else 1.0), (phase, 1.0)):
        c, header = block.encode(x, dither, code)
        if header == 0:
            continue
        assert ((c >= 0) & (c < 2**code.bits)).all()
        y = block.decode(c, header, code)
        scale, k = parts(header)
        step = 2.0 ** (block.distance(k, code) - 23)
        reach = scale + np.maximum(np.abs(x.astype(np.float64)), np.abs(y.astype(np.float64)))
        assert (np.abs(y.astype(np.float64) - x) <= (share + 0.005) * step * reach).all()


@EVERY_CODE
@pytest.mark.parametrize("exponent", [1, 2, 3, 63, 64, 65, 127, 128, 253])  # 2⁻¹²⁶ to 2¹²⁶
def test_the_largest_of_a_block_has_the_largest_code(code: Code, exponent: int) -> None:
    """For every k, 2¹³ mantissas and the phases at both ends: that code or the one below, never one beyond.

    To nearest it is that code, and comes back within 2⁻¹⁶ of itself: the scale keeps 17 bits, rounded, and
    three more float32 roundings. The range is not so large that the scale were no normal number.
    """
    mantissa = np.concatenate([np.arange(0, 1 << 23, 1 << 10), (1 << 23) - 1 - np.arange(16)])
    top = floats(((exponent << 23) | mantissa).astype(np.int32))[:, None]
    for k in range(code.most + 1):
        for phase in (0, 1, -1, 2**31 - 1, -(2**31)):
            c, header = block.encode(top, np.int32(phase), with_range(code, k))
            assert ((c == most_of(code)) | (c == most_of(code) - 1)).all()
        y = block.decode(c, header, code)  # of the last phase, to nearest
        assert (c == most_of(code)).all()
        assert (np.abs(y / top.astype(np.float64) - 1) <= 2.0**-16).all()
        scale, found = parts(header)
        assert (scale >= 2.0**-126).all()
        assert (found == k).all() or (exponent < 2 ** (k + 1) and (found < k).all())


@EVERY_CODE
@pytest.mark.parametrize("asked", [-3.0, 0.5, 1.0, 1.001, 2.0, 3.0, 4.0, 4.001, 63.0, 64.0, 65.0, 1e9])
def test_ranges_are_rounded_up_to_a_power_of_two(code: Code, asked: float) -> None:
    k = parts(block.encode(np.ones((1, 3), np.float32), NEAREST, replace(code, slope=0.0, offset=asked))[1])[
        1
    ]
    assert k == min(max(math.ceil(math.log2(max(asked, 1.0))), 0), code.most)


@EVERY_CODE
@given(x=arrays(finite), phase=phases)
@settings(max_examples=40, deadline=None)
def test_order_is_kept(code: Code, x: Array, phase: np.int32) -> None:
    """With one phase for all, of two numbers of a block the larger has no smaller decoded value."""
    x = np.sort(for_code(np.abs(x), code))
    y = block.decode(*block.encode(x, phase, code), code)
    assert (np.diff(y) >= 0).all()


@EVERY_CODE
@given(x=arrays(finite), phase=phases)
@settings(max_examples=40, deadline=None)
def test_zero_sign_and_divisors(code: Code, x: Array, phase: np.int32) -> None:
    """Zero stays zero, no sign is lost, and in an unsigned code nothing else becomes zero, denormals too."""
    x = for_code(x, code)
    x[0, 0] = 0.0
    c, header = block.encode(x, phase, code)
    y = block.decode(c, header, code)
    assert y[0, 0] == 0.0
    assert (y * np.sign(x) >= 0).all()
    if code.signed:
        assert (block.decode(*block.encode(-x, phase, code), code) == -y).all()
    elif header != 0:
        assert ((y > 0) == (x > 0)).all()


@EVERY_CODE
@given(x=arrays(st.floats(-(2.0**-126), 2.0**-126, width=32, exclude_min=True, exclude_max=True)))
@settings(max_examples=40, deadline=None)
def test_blocks_too_small_are_zeros(code: Code, x: Array) -> None:
    c, header = block.encode(for_code(x, code), NEAREST, code)
    assert header == 0
    assert not c.any()
    assert not block.decode(c, header, code).any()


@EVERY_CODE
@given(x=arrays(finite), value=st.sampled_from([np.nan, np.inf, -np.inf]), at=st.integers(0, 23))
@settings(max_examples=40, deadline=None)
def test_what_is_not_finite_is_seen_in_the_whole_block(code: Code, x: Array, value: float, at: int) -> None:
    x[0, at % x.shape[1]] = value
    c, header = block.encode(for_code(x, code), NEAREST, code)
    assert header == NAN
    assert not c.any()
    assert np.isnan(block.decode(c, header, code)).all()


@EVERY_CODE
@given(x=arrays(finite), phase=phases)
@settings(max_examples=40, deadline=None)
def test_a_short_last_block_is_one_filled_with_zeros(code: Code, x: Array, phase: np.int32) -> None:
    x = for_code(x, code)
    n = x.shape[1]
    full = np.zeros((1, BLOCK), np.float32)
    full[:, :n] = x
    c, header = block.encode(x, phase, code)
    c_full, header_full = block.encode(full, phase, code)
    assert header == header_full
    assert (c == c_full[:, :n]).all()
    assert not block.decode(c_full, header_full, code)[:, n:].any()


@EVERY_CODE
@pytest.mark.parametrize("top", [SMALLEST, SMALLEST + 1, 0x03000000, 0x3F800000, 0x7EFFFFFF])
@pytest.mark.parametrize("others", [0.0, 1.0, 2.0**-20, 2.0**-100])  # 2⁻²⁰ of the smallest is denormal
def test_edges_of_what_a_block_can_hold(code: Code, top: int, others: float) -> None:
    """The smallest and the largest scales: the largest value comes back within 2⁻¹⁶ of itself."""
    largest = floats(np.array([[top]], np.int32))
    x = np.concatenate([largest, np.repeat(largest * np.float32(others), 20, 1)], axis=1)
    y = block.decode(*block.encode(x, NEAREST, code), code)
    assert np.abs(y[0, 0] / np.float64(largest[0, 0]) - 1) <= 2.0**-16


@EVERY_CODE
@given(x=arrays(finite), phase=phases)
@settings(max_examples=40, deadline=None)
def test_what_was_decoded_encodes_to_itself(code: Code, x: Array, phase: np.int32) -> None:
    """To the same bits, to nearest and wherever the block asks for the same range; dithered, within a code.

    A decoded value is within a dozen units of a whole code, of which half is 2¹⁴ units or more.
    """
    c, header = block.encode(for_code(x, code), phase, code)
    y = block.decode(c, header, code)
    c2, header2 = block.encode(y, NEAREST, code)
    if np.abs(y).max() >= 2.0**-126 and parts(header2)[1] == parts(header)[1]:
        if (c & most_of(code)).max() == most_of(code):  # else the scale is another
            assert header2 == header
            assert (block.decode(c2, header2, code) == y).all()
        c3, header3 = block.encode(y, phase, code)
        assert header3 == header2
        assert (np.abs((c3 & most_of(code)) - (c2 & most_of(code))) <= 1).all()


@EVERY_CODE
@pytest.mark.parametrize("decades", [0, 4])
def test_blocks_left_alone_stay(code: Code, decades: float) -> None:
    """To nearest, blocks end at fixed bits: no scale climbs and no range walks.

    Dithered, a decoded value moves by a code with a probability below 2⁻¹¹: a dozen units of 2ʰ, h ≥ 15.
    """
    rng = np.random.default_rng(2)
    y = random_blocks(rng, code, decades)
    for _ in range(100):
        before = y
        y = block.decode(*block.encode(y, NEAREST, code), code)
    assert (y == before).all()
    c, _ = block.encode(y, NEAREST, code)
    moved = [block.encode(y, random_phases(rng, y.shape), code)[0] != c for _ in range(20)]
    assert np.mean(moved) < 2.0**-11


def random_phases(rng: np.random.Generator, shape: tuple[int, ...]) -> Ints:
    return rng.integers(-(2**31), 2**31, shape).astype(np.int32)


@EVERY_CODE
@given(x=st.floats(LARGEST, width=32, allow_infinity=False), phase=phases)
@settings(max_examples=40, deadline=None)
def test_beyond_the_largest_scale_nothing_is_silent(code: Code, x: float, phase: np.int32) -> None:
    """A linear block's scale is up to top·8/7: beyond float32, the block comes back as infinities or NaN."""
    y = block.decode(*block.encode(np.full((1, 3), x, np.float32), phase, code), code)
    assert (~np.isfinite(y) | (np.abs(y / np.float64(x) - 1) < 1 / 7 + 1e-5)).all()  # 1/7: a code of 4 bits


def random_blocks(rng: np.random.Generator, code: Code, decades: float) -> Array:
    x = rng.standard_normal((300, BLOCK)) * 10 ** rng.uniform(-decades, 0, (300, BLOCK))
    return (x if code.signed else x * x).astype(np.float32)


@EVERY_CODE
@pytest.mark.parametrize("decades", [0, 4])
def test_dither_rounds_up_in_the_share_that_is_due(code: Code, decades: float) -> None:
    """The mean over all phases is the number itself, along the bits of 1 + x/scale.

    Over K equidistant phases the share of roundings up is off by at most 1/K; K = 64. What an unsigned code
    lifts to its first code, and the largest value, are left out.
    """
    x = random_blocks(np.random.default_rng(1), code, decades)
    codes, header = [], np.zeros(0, np.int32)
    for i in range(64):
        c, header = block.encode(x, np.int32(words.signed((2 * i + 1) << 25, 32)), code)
        codes.append(c & most_of(code))
    scale, k = parts(header)
    y = (np.abs(x) / scale + 1).astype(np.float64)
    e = np.floor(np.log2(y))
    expected = (e + y / 2.0**e - 1) * 2.0 ** (23 - block.distance(k, code))
    inside = (expected > 1) & (expected < most_of(code))
    assert inside.mean() > 0.1
    assert (np.abs(np.mean(codes, axis=0) - expected)[inside] <= 1 / 64 + 0.003).all()


def dithered(v: Array, step: Callable[[Array], Array], steps: int, code: Code) -> Array:
    """v after so many steps, each stored with the dither of its time; the first of each block stays 1."""
    within, number = np.arange(BLOCK, dtype=np.int32)[None], np.arange(len(v), dtype=np.int32)[:, None]
    key = words.first_key(0, 0)
    for _ in range(steps):
        v = step(v)
        v[:, 0] = 1.0
        v = block.decode(*block.encode(v, words.phase(within, number, words.halves(key)[1], 1), code), code)
        key = words.next_key(key)
    return v[:, 1:]


@pytest.mark.parametrize("k", [5, 6])
def test_a_slow_drift_is_followed(k: int) -> None:
    """v falls by 2⁻¹⁰ of an octave per step, from its top down to its middle: on average so, within 1 %.

    A code is 2^(k - 8) octaves, so these are 4 and 2 codes: of 128 and 256 steps one does not round up.
    """
    code = with_range(CODES[8, False], k)
    start = np.ones((8, BLOCK), np.float32)
    start[:, 1:] = 2.0**-12 * 1.99
    fall = np.float32(2.0**-22)
    found = dithered(start, lambda v: v - fall, 512, code)
    assert (2.0**-12 * 1.99 - found.mean()) / (512 * fall) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(("k", "least", "most"), [(2, 1.0, 1.02), (5, 1.0, 1.1), (6, 1.0, 1.15)])
def test_a_slow_decay_is_followed(k: int, least: float, most: float) -> None:
    """v falls by a thousandth per step: on average so fast, or up to 15 % faster where codes are far apart.

    The share of steps that round down shrinks with v, and multiples of the golden ratio return to an interval
    that shrinks sooner than to one that stays. (Independent words hold the rate, with more noise.)
    """
    v = (2.0 ** np.random.default_rng(3).uniform(-20, -10, (8, BLOCK))).astype(np.float32)
    if k == 2:
        v = np.sqrt(np.sqrt(v))  # within a range of 4 octaves
    found = dithered(v.copy(), lambda v: v * np.float32(0.999), 700, with_range(CODES[8, False], k))
    rate = np.log((found / v[:, 1:].astype(np.float64)).mean()) / 700
    assert least <= rate / np.log(0.999) <= most


@given(v=st.floats(2.0**-126, width=32, allow_infinity=False))
@settings(max_examples=40, deadline=None)
def test_root_is_near_the_square_root(v: float) -> None:
    """1 ≤ root(v)/√v ≤ 3/√8: a straight line under the logarithm twice as long as the mantissa's.

    v = 2ᵉ(1 + f): for even e the root is 2^(e/2)·(1 + f/2), for odd e 2^((e-1)/2)·(3 + f)/2; the ratio is
    largest at f = 1 and f = 0, 1.5/√2, and 1 at the other ends; 2⁻²² for two roundings.
    """
    ratio = float(block.root(np.array([v], np.float32))[0]) / np.sqrt(v)
    assert 1 - 2.0**-22 <= ratio <= 1.5 / np.sqrt(2) * (1 + 2.0**-22)
    assert block.root(np.zeros(1, np.float32))[0] > 0


@given(data=st.data(), n=st.integers(1, 24), phase=phases)
@settings(max_examples=40, deadline=None)
def test_relative_codes_are_off_by_a_share_of_the_root(data: st.DataObject, n: int, phase: np.int32) -> None:
    """\\|m̂ - m\\| ≤ 1.01·root(v)·max(\\|m\\|/root(v))/7: one of seven equal steps of the ratio."""
    v = data.draw(hnp.arrays(np.float32, (1, n), elements=moderate))
    share = data.draw(hnp.arrays(np.float32, (1, n), elements=st.floats(-30, 30, width=32)))
    m = (share * np.sqrt(v)).astype(np.float32)
    c, header = block.encode_relative(m, v, phase, RELATIVE)
    y = block.decode_relative(c, header, v, RELATIVE).astype(np.float64)
    if header != 0:
        unit = block.root(v).astype(np.float64)
        assert (np.abs(y - m) <= 1.01 * unit * np.abs(m / unit).max() / 7).all()


def shares(phase: Ints) -> NDArray[np.float64]:
    """Of 2³²."""
    return (phase.astype(np.int64) & 0xFFFFFFFF) / 2.0**32


def test_keys_and_phases_cover_the_unit_interval() -> None:
    """In time: of any n steps, the share below x differs from x by less than (2 + log₂ n)/n.

    Multiples of the golden ratio are among the most even sequences there are, well below that (Niederreiter
    1992, theorem 3.3 with partial quotients of 1; the phase's 32 bits are exact).
    """
    key = words.first_key(3, 5)
    u = []
    for _ in range(1024):
        _, high = words.halves(key)
        u.append(float(shares(words.phase(np.zeros(1, np.int32), np.zeros(1, np.int32), high, 1))[0]))
        key = words.next_key(key)
    values = np.array(u)
    for n in (16, 100, 1024):
        for start in (0, 1024 - n):
            part = np.sort(values[start : start + n])
            discrepancy = np.max(np.abs(part - (np.arange(n) + 0.5) / n)) + 0.5 / n
            assert discrepancy < (2 + np.log2(n)) / n


def test_neighbours_do_not_round_alike() -> None:
    """In space: 128 elements of 64 blocks; each sixteenth of [0, 1) holds its share within 10 %."""
    within, number = np.arange(BLOCK, dtype=np.int32)[None], np.arange(64, dtype=np.int32)[:, None]
    u = shares(words.phase(within, number, 12345, 1))
    counts = np.histogram(u, 16, (0, 1))[0]
    assert np.abs(counts / (u.size / 16) - 1).max() < 0.1
    per_block = np.stack([np.histogram(row, 16, (0, 1))[0] for row in u])
    assert per_block.max() <= 12  # 8 are due


# -- weights ----------------------------------------------------------------------------------------------

everything = hnp.arrays(np.float32, 16, elements=st.floats(width=32))
half_words = hnp.arrays(np.int32, 16, elements=st.integers(0, 0xFFFF))
HALF_WORDS = words.half_word(np.arange(1 << 18, dtype=np.int32), *words.halves(words.first_key(0, 0)))


@pytest.mark.parametrize("apart", [1, 2, 3])
def test_half_words_are_independent_of_their_neighbours(apart: int) -> None:
    """Of the other half of the word and of the next words: 256 joint counts, 256 pairs of bits.

    χ² of 255 degrees of freedom has standard deviation √510; a share of n fair coins 1/(2√n). Six of them
    each; the words are the same in every run.
    """
    assert ((HALF_WORDS >= 0) & (HALF_WORDS <= 0xFFFF)).all()
    a, b = HALF_WORDS[:-apart:2], HALF_WORDS[apart::2]
    a = a[: len(b)]
    for shift in (0, 4, 8, 12):
        counts = np.bincount((((a >> shift) & 15) << 4) | ((b >> shift) & 15), minlength=256)
        due = len(a) / 256
        assert np.square(counts - due).sum() / due < 255 + 6 * np.sqrt(510)
    for i in range(16):
        alike = [np.mean(((a >> i) & 1) == ((b >> j) & 1)) for j in range(16)]
        assert np.abs(np.array(alike) - 0.5).max() < 3 / np.sqrt(len(a))


def share_up(low: Array, half_word: Ints, kind: str) -> float:
    x = np.full(half_word.shape, low, np.float32)
    if kind == "bfloat16":
        y = half.decode_bfloat16(half.stochastic_bfloat16(x, half_word))
    else:
        y = half.stochastic_float16(x, half_word)
    assert len(np.unique(y)) <= 2
    return float((np.abs(y) > np.abs(x)).mean())


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("kind", "base", "unit"),
    [("bfloat16", 1.0, 2.0**-7), ("bfloat16", 2.0**-120, 2.0**-127), ("float16", 1.0, 2.0**-10),
     ("float16", 2.0**-20, 2.0**-24), ("float16", 0.0, 2.0**-24), ("float16", 32768.0, 32.0)],
)  # fmt: skip
@pytest.mark.parametrize("part", [1 / 64, 0.3, 0.5, 0.9])
def test_stochastic_rounding_is_unbiased(kind: str, base: float, unit: float, part: float, sign: int) -> None:
    """Away from zero in the share that is due, within six standard deviations of 2¹⁸ independent half words.

    A correct generator fails one of these 48 with probability 10⁻⁷; the words are the same in every run.
    """
    x = np.float32(sign * (base + part * unit))
    due = (abs(float(x)) - base) / unit
    assert (
        abs(share_up(x, HALF_WORDS, kind) - due) <= 6 * np.sqrt(due * (1 - due) / HALF_WORDS.size) + 2.0**-13
    )


@given(x=everything, half_word=half_words)
@example(x=np.full(16, np.finfo(np.float32).max), half_word=np.full(16, 0xFFFF, np.int32))
@example(x=np.full(16, -np.finfo(np.float32).max), half_word=np.full(16, 0xFFFF, np.int32))
@settings(max_examples=40, deadline=None)
def test_stochastic_bfloat16_is_one_of_the_two_neighbours(x: Array, half_word: Ints) -> None:
    """What is finite stays so; what bfloat16 has, infinities and NaN stay."""
    y = half.decode_bfloat16(half.stochastic_bfloat16(x, half_word))
    below = floats(bits(x) & -0x10000)
    assert (np.isnan(y) == np.isnan(x)).all()
    assert (np.isfinite(y) == np.isfinite(x)).all()
    same = (below == x) | np.isinf(x)
    assert (y[same] == x[same]).all()
    n = np.isfinite(x)
    above = np.minimum((bits(below[n]) & 0x7FFFFFFF) + 0x10000, 0x7F7F0000)
    assert ((y[n] == below[n]) | ((bits(y[n]) & 0x7FFFFFFF) == above)).all()
    assert (np.signbit(y[n]) == np.signbit(x[n])).all()


NANS = [0x7F800001, 0x7FBFFFFF, 0x7FC00000, 0x7FFFFFFF]  # of every payload: quiet, signalling, all ones


@pytest.mark.parametrize("half_word", [0, 1, 0x7FFF, 0xFFFF])
@pytest.mark.parametrize("sign", [0, -(2**31)])
def test_what_is_no_number_stays_so(half_word: int, sign: int) -> None:
    """No payload is carried into a zero or an infinity, and no infinity into a NaN."""
    word = np.int32(half_word)
    nans = floats(np.array(NANS, np.int32) | np.int32(sign))
    infinity = floats(np.array([0x7F800000], np.int32) | np.int32(sign))
    assert np.isnan(half.decode_bfloat16(half.nearest_bfloat16(nans))).all()
    for stochastic in (lambda x: half.decode_bfloat16(half.stochastic_bfloat16(x, word)),
                       lambda x: half.stochastic_float16(x, word)):  # fmt: skip
        assert np.isnan(stochastic(nans)).all()
        assert (stochastic(infinity) == infinity).all()


@given(x=everything, half_word=half_words)
@settings(max_examples=40, deadline=None)
def test_stochastic_float16_is_a_float16_beside_it(x: Array, half_word: Ints) -> None:
    """float16 holds it exactly, less than a unit away; NumPy's own rounding of it is itself."""
    y = half.stochastic_float16(x, half_word)
    assert (np.isnan(y) == np.isnan(x)).all()
    n = np.abs(x) < 65504
    assert (y[n].astype(np.float16).astype(np.float32) == y[n]).all()
    unit = np.maximum(
        2.0 ** (np.floor(np.log2(np.maximum(np.abs(x[n].astype(np.float64)), 1e-45))) - 10), 2.0**-24
    )
    assert (np.abs(y[n].astype(np.float64) - x[n]) < unit).all()
    assert np.isinf(y[np.abs(x) >= 65520]).all()


@given(x=everything)
@settings(max_examples=40, deadline=None)
def test_split16_is_exact(x: Array) -> None:
    hi, residual = split.split16(x)
    assert ((residual >= -32768) & (residual <= 32767)).all()
    number = ~np.isnan(x)
    y = split.join16(hi, residual)
    assert (bits(y)[number] == bits(x)[number]).all()
    assert np.isnan(y[~number]).all()
    assert (half.decode_bfloat16(hi)[number] == _nearest(x[number])).all()


def _nearest(x: Array) -> Array:
    """bfloat16 to nearest, ties away from zero, as `split` rounds."""
    return floats(((bits(x) + 0x8000) >> 16) << 16)


@given(x=everything, phase=hnp.arrays(np.int32, 16))
@settings(max_examples=40, deadline=None)
def test_split8_is_within_its_bound(x: Array, phase: Ints) -> None:
    """Less than 256 units, 128 to nearest: 2⁻¹⁵ and 2⁻¹⁶ of a normal number, whose unit is ≤ 2⁻²³ of it.

    A number within 2⁻¹⁶ of the largest may become infinity; it is left out.
    """
    n = np.isfinite(x) & (np.abs(x) < 3.4e38)
    for p, most in ((phase, 256), (np.full_like(phase, -(2**31)), 129)):
        hi, residual = split.split8(x, p)
        assert ((residual >= -128) & (residual <= 127)).all()
        y = split.join8(hi, residual)
        assert (np.abs(bits(y)[n].astype(np.int64) - bits(x)[n]) < most).all()
        normal = n & (np.abs(x) >= 2.0**-126)
        assert (np.abs(y[normal].astype(np.float64) / x[normal] - 1) < most * 2.0**-23).all()
        assert np.isnan(y[np.isnan(x)]).all()


@given(x=hnp.arrays(np.float32, 16, elements=st.floats(2.0**-100, 2.0**100, width=32)))
@settings(max_examples=40, deadline=None)
def test_kahan_keeps_a_float32_within_two_roundings(x: Array) -> None:
    """For 1 ≤ x < 2 θ is off by at most 2⁻⁸, half of whose unit in bfloat16 is 2⁻¹⁷; the sum rounds once."""
    theta = half.decode_bfloat16(half.nearest_bfloat16(x))
    residual = half.decode_bfloat16(half.nearest_bfloat16(x - theta))
    assert (np.abs((theta + residual).astype(np.float64) - x) <= (2.0**-17 + 2.0**-24) * x).all()


@given(x=everything)
@settings(max_examples=40, deadline=None)
def test_nearest_bfloat16_is_nearest(x: Array) -> None:
    y = half.decode_bfloat16(half.nearest_bfloat16(x))
    assert (np.isnan(y) == np.isnan(x)).all()
    n = np.isfinite(x) & np.isfinite(y)
    lower, upper = floats(bits(x[n]) & -0x10000), floats((bits(x[n]) & -0x10000) + 0x10000)
    distance = np.abs(y[n].astype(np.float64) - x[n])
    assert (distance <= np.abs(lower.astype(np.float64) - x[n])).all()
    finite_upper = np.isfinite(upper)
    assert (distance[finite_upper] <= np.abs(upper.astype(np.float64) - x[n])[finite_upper]).all()
