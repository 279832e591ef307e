"""What the codes promise for every block of numbers, with the bounds' reasons.

Where a bound is proved, a unit is one of a float32's bits: of 1 + x/scale for block codes, of the number
itself for weights.
"""

from __future__ import annotations

from collections.abc import Iterator

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

NEAREST = np.float32(0.5)

LARGEST = 2.0**127  # somewhere beyond, a scale may be infinite
finite = st.floats(-LARGEST, LARGEST, width=32, exclude_min=True, exclude_max=True)
moderate = st.floats(2.0**-60, 2.0**60, width=32)
phases = st.integers(0, 2**24 - 1).map(lambda k: np.float32(k * 2.0**-24))
inner = st.integers(2**12, 2**24 - 2**12).map(lambda k: np.float32(k * 2.0**-24))  # 2⁻¹² from the ends


def arrays(elements: st.SearchStrategy[float], most: int = 24) -> st.SearchStrategy[Array]:
    """One block, ``[1, n]``."""
    return st.integers(1, most).flatmap(lambda n: hnp.arrays(np.float32, (1, n), elements=elements))


@pytest.fixture(autouse=True)
def _as_the_engines_compute() -> Iterator[None]:
    with np.errstate(all="ignore"):  # overflow and NaN are results here, not accidents
        yield


def for_code(x: Array, code: Code) -> Array:
    return x if code.signed else np.abs(x)


def parts(header: Ints) -> tuple[NDArray[np.float64], Ints]:
    """Scale and ρ."""
    return floats(header & -128).astype(np.float64), header & 127


@EVERY_CODE
@given(x=arrays(finite), u=phases)
@settings(max_examples=40, deadline=None)
def test_roundtrip_is_within_a_code(code: Code, x: Array, u: np.float32) -> None:
    """\\|x̂ - x\\| ≤ k·h·2⁻²³·(scale + max(\\|x\\|, \\|x̂\\|)); k = 1/2 to nearest, 1 else.

    Codes are h units of 1 + x/scale apart; rounding is off by k·h units. From 2ᵉ to 2ᵉ⁺¹ numbers are 2ᵉ⁻²³
    apart, and 2ᵉ ≤ 1 + max(x, x̂)/scale for the upper of the two: times scale, that is the bound. An unsigned
    code lifts what is below its first code, by less than one. 0.003 codes more for what is not exact: x/scale
    in two roundings (3 units), the quotient of up to 2²⁹ units in three, and the scale, which keeps 17 bits
    (64 units of the largest value); h ≥ 2¹⁵.
    """
    x = for_code(x, code)
    for dither, share in ((NEAREST, 0.5 if code.signed else 1.0), (u, 1.0)):
        c, header = block.encode(x, dither, code)
        if header == 0:
            continue
        assert ((c >= 0) & (c < 2**code.bits)).all()
        y = block.decode(c, header, code)
        scale, rho = parts(header)
        step = block.curve(rho, code) * 2.0**-23
        reach = scale + np.maximum(np.abs(x.astype(np.float64)), np.abs(y.astype(np.float64)))
        assert (np.abs(y.astype(np.float64) - x) <= (share + 0.003) * step * reach).all()


@EVERY_CODE
@given(x=arrays(finite), u=phases)
@settings(max_examples=40, deadline=None)
def test_order_is_kept(code: Code, x: Array, u: np.float32) -> None:
    """With one u for all, of two numbers of a block the larger has no smaller decoded value."""
    x = np.sort(for_code(np.abs(x), code))
    y = block.decode(*block.encode(x, u, code), code)
    assert (np.diff(y) >= 0).all()


@EVERY_CODE
@given(x=arrays(finite), u=phases)
@settings(max_examples=40, deadline=None)
def test_zero_sign_and_divisors(code: Code, x: Array, u: np.float32) -> None:
    """Zero stays zero, no sign is lost, and in an unsigned code nothing else becomes zero, denormals too."""
    x = for_code(x, code)
    x[0, 0] = 0.0
    c, header = block.encode(x, u, code)
    y = block.decode(c, header, code)
    assert y[0, 0] == 0.0
    assert (y * np.sign(x) >= 0).all()
    if code.signed:
        assert (block.decode(*block.encode(-x, u, code), code) == -y).all()
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
@given(x=arrays(finite), u=phases)
@settings(max_examples=40, deadline=None)
def test_a_short_last_block_is_one_filled_with_zeros(code: Code, x: Array, u: np.float32) -> None:
    x = for_code(x, code)
    n = x.shape[1]
    full = np.zeros((1, BLOCK), np.float32)
    full[:, :n] = x
    c, header = block.encode(x, u, code)
    c_full, header_full = block.encode(full, u, code)
    assert header == header_full
    assert (c == c_full[:, :n]).all()
    assert not block.decode(c_full, header_full, code)[:, n:].any()


@EVERY_CODE
@given(top=st.sampled_from([SMALLEST, SMALLEST + 1, 0x03000000, 0x7EFFFFFF, 0x3F800000]), u=inner)
@settings(max_examples=40, deadline=None)
def test_edges_of_what_a_block_can_hold(code: Code, top: int, u: np.float32) -> None:
    """The smallest and the largest scales: the largest value comes back within 2⁻¹⁶ of itself.

    The scale keeps 17 bits, rounded: 2⁻¹⁷; three more float32 roundings.
    """
    largest = floats(np.array([[top]], np.int32))
    for others in (0.0, 1.0, 2.0**-20, 2.0**-100):  # 2⁻²⁰ of the smallest is denormal
        x = np.concatenate([largest, np.repeat(largest * np.float32(others), 20, 1)], axis=1)
        y = block.decode(*block.encode(x, u, code), code)
        assert np.abs(y[0, 0] / np.float64(largest[0, 0]) - 1) <= 2.0**-16


@EVERY_CODE
@given(x=arrays(finite), u=inner)
@settings(max_examples=40, deadline=None)
def test_what_was_decoded_encodes_to_itself(code: Code, x: Array, u: np.float32) -> None:
    """To the same bits for any dither, wherever the block asks for the same range again.

    A decoded value is within 2⁻¹³ of a whole code, so no u that leaves 2⁻¹² on either side moves it.
    """
    c, header = block.encode(for_code(x, code), NEAREST, code)
    y = block.decode(c, header, code)
    c2, header2 = block.encode(y, u, code)
    if np.abs(y).max() >= 2.0**-126 and (header2 & 127) == (header & 127):
        assert header2 == header
        assert (block.decode(c2, header2, code) == y).all()


@EVERY_CODE
@pytest.mark.parametrize("decades", [0, 4])
def test_blocks_left_alone_come_to_rest(code: Code, decades: float) -> None:
    """Decoded and encoded 300 times with new dither, all blocks end at fixed bits: no range walks."""
    rng = np.random.default_rng(2)
    y = random_blocks(rng, code, decades)
    for _ in range(300):
        before = y
        y = block.decode(*block.encode(y, phase_like(rng, y.shape), code), code)
    assert (y == before).all()


def phase_like(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return (rng.integers(2**12, 2**24 - 2**12, shape) * 2.0**-24).astype(np.float32)


@EVERY_CODE
@given(x=st.floats(LARGEST, width=32, allow_infinity=False), u=phases)
@settings(max_examples=40, deadline=None)
def test_beyond_the_largest_scale_nothing_is_silent(code: Code, x: float, u: np.float32) -> None:
    """A linear block's scale is up to top·8/7: beyond float32, the block comes back as infinities or NaN."""
    with np.errstate(over="ignore", invalid="ignore"):
        y = block.decode(*block.encode(np.full((1, 3), x, np.float32), u, code), code)
    assert (~np.isfinite(y) | (np.abs(y / np.float64(x) - 1) < 1 / 7 + 1e-5)).all()  # 1/7: a code of 4 bits


def random_blocks(rng: np.random.Generator, code: Code, decades: float) -> Array:
    x = rng.standard_normal((300, BLOCK)) * 10 ** rng.uniform(-decades, 0, (300, BLOCK))
    return (x if code.signed else x * x).astype(np.float32)


@EVERY_CODE
@pytest.mark.parametrize("decades", [0, 4])
def test_dither_rounds_up_in_the_share_that_is_due(code: Code, decades: float) -> None:
    """The mean over u is the number itself, along the bits of 1 + x/scale.

    Over K equidistant u the share of roundings up is off by at most 1/K; K = 64. What an unsigned code
    lifts to its first code, and the largest value, are left out.
    """
    x = random_blocks(np.random.default_rng(1), code, decades)
    codes, header = [], np.zeros(0)
    for k in range(64):
        c, header = block.encode(x, np.float32((k + 0.5) / 64), code)
        codes.append(c & (2**code.magnitude_bits - 1))
    scale, rho = parts(header)
    y = (np.abs(x) / scale + 1).astype(np.float64)
    e = np.floor(np.log2(y))
    expected = (e + y / 2.0**e - 1) * 2.0**23 / block.curve(rho, code)
    inside = (expected > 1) & (expected < 2**code.magnitude_bits - 1)
    assert inside.mean() > 0.1
    assert (np.abs(np.mean(codes, axis=0) - expected)[inside] <= 1 / 64 + 0.003).all()


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


@given(data=st.data(), n=st.integers(1, 24), u=phases)
@settings(max_examples=40, deadline=None)
def test_relative_codes_are_off_by_a_share_of_the_root(data: st.DataObject, n: int, u: np.float32) -> None:
    """\\|m̂ - m\\| ≤ 1.01·root(v)·max(\\|m\\|/root(v))/7: one of seven equal steps of the ratio."""
    v = data.draw(hnp.arrays(np.float32, (1, n), elements=moderate))
    share = data.draw(hnp.arrays(np.float32, (1, n), elements=st.floats(-30, 30, width=32)))
    m = (share * np.sqrt(v)).astype(np.float32)
    c, header = block.encode_relative(m, v, u, RELATIVE)
    y = block.decode_relative(c, header, v, RELATIVE).astype(np.float64)
    if header != 0:
        unit = block.root(v).astype(np.float64)
        assert (np.abs(y - m) <= 1.01 * unit * np.abs(m / unit).max() / 7).all()


def test_keys_and_phases_cover_the_unit_interval() -> None:
    """In time: of any n steps, the share below x differs from x by less than (2 + log₂ n)/n.

    Multiples of the golden ratio are among the most even sequences there are, well below that (Niederreiter
    1992, theorem 3.3 with partial quotients of 1; the phase's 32 bits are exact).
    """
    key = words.first_key(3, 5)
    u = []
    for _ in range(1024):
        _, high = words.halves(key)
        u.append(float(words.dither(np.zeros(1, np.int32), np.zeros(1, np.int32), high, 1)[0]))
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
    u = words.dither(within, number, 12345, 1)
    counts = np.histogram(u, 16, (0, 1))[0]
    assert np.abs(counts / (u.size / 16) - 1).max() < 0.1
    per_block = np.stack([np.histogram(row, 16, (0, 1))[0] for row in u])
    assert per_block.max() <= 12  # 8 are due


# -- weights ----------------------------------------------------------------------------------------------

everything = hnp.arrays(np.float32, 16, elements=st.floats(width=32))
WORDS = words.word(np.arange(1 << 18, dtype=np.int32), *words.halves(words.first_key(0, 0)))


def share_up(low: Array, word: Ints, kind: str) -> float:
    x = np.full(word.shape, low, np.float32)
    if kind == "bfloat16":
        y = half.decode_bfloat16(half.stochastic_bfloat16(x, word))
    else:
        y = half.stochastic_float16(x, word)
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
    """Away from zero in the share that is due, within six standard deviations of 2¹⁸ independent words.

    A correct generator fails one of these 48 with probability 10⁻⁷; the words are the same in every run.
    """
    x = np.float32(sign * (base + part * unit))
    due = (abs(float(x)) - base) / unit
    assert abs(share_up(x, WORDS, kind) - due) <= 6 * np.sqrt(due * (1 - due) / WORDS.size) + 2.0**-13


@given(x=everything, word=hnp.arrays(np.int32, 16))
@example(x=np.full(16, np.finfo(np.float32).max), word=np.full(16, -1, np.int32))
@settings(max_examples=40, deadline=None)
def test_stochastic_bfloat16_is_one_of_the_two_neighbours(x: Array, word: Ints) -> None:
    """What is finite stays so; what bfloat16 has, infinities and NaN stay."""
    y = half.decode_bfloat16(half.stochastic_bfloat16(x, word))
    below = floats(bits(x) & -0x10000)
    assert (np.isnan(y) == np.isnan(x)).all()
    assert (np.isfinite(y) == np.isfinite(x)).all()
    same = (below == x) | np.isinf(x)
    assert (y[same] == x[same]).all()
    n = np.isfinite(x)
    above = np.minimum((bits(below[n]) & 0x7FFFFFFF) + 0x10000, 0x7F7F0000)
    assert ((y[n] == below[n]) | ((bits(y[n]) & 0x7FFFFFFF) == above)).all()
    assert (np.signbit(y[n]) == np.signbit(x[n])).all()


@given(x=everything, word=hnp.arrays(np.int32, 16))
@settings(max_examples=40, deadline=None)
def test_stochastic_float16_is_a_float16_beside_it(x: Array, word: Ints) -> None:
    """float16 holds it exactly, less than a unit away; NumPy's own rounding of it is itself."""
    y = half.stochastic_float16(x, word)
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
