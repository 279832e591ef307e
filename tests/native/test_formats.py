"""Formats in the kernel: the bits of `adamantine.formats`, for every rule, form, format, size and target.

The reference decodes what is stored, runs the Python rule on it in float32 (float64 for float64 weights) and
encodes what comes of it, all by the NumPy texts. Nothing is compared with a tolerance.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from adamantine.formats import block, half, split, words
from adamantine.rules import RULES, apply

native = pytest.importorskip("adamantine._native", reason="this installation has no compiled kernel")

EVERY_TARGET = pytest.mark.parametrize("target", native.targets)
SIZES = (0, 1, 2, 127, 128, 129, 1000, native.TILE + 128, 2 * native.TILE + 1)
FORMS = ("plain", "coupled", "cautious")
GRAD_SCALE, COUPLE, SHRINK, ETA = -0.7, 0.1, 0.97, 0.03
KEY = words.first_key(7, 3)
LOW, HIGH = words.halves(KEY)
RULE_NAMES = [rule.name for rule in RULES.values() if rule.elementwise]
SCALARS = {name: names.split() for name, _, names, _ in native.rules}

#: Name → dtype of θ, its weights, dtype of g, formats of the slots.
FORMATS = {
    "8 bits": ("float32", "nearest", "float32", ("8bit",) * 3),
    "4 bits": ("float32", "nearest", "float32", ("4bit",) * 3),
    "4, 8 and 4 bits": ("float32", "nearest", "bfloat16", ("4bit", "8bit", "4bit")),
    "some in blocks": ("float32", "nearest", "float32", ("bfloat16", "8bit", "float32")),
    "float64, 8 bits": ("float64", "nearest", "float64", ("8bit", "float64", "4bit")),
    "bfloat16 to nearest, 8 bits": ("bfloat16", "nearest", "bfloat16", ("8bit",) * 3),
    "bfloat16 stochastic, 8 bits": ("bfloat16", "stochastic", "bfloat16", ("8bit",) * 3),
    "bfloat16 kahan, 4 bits": ("bfloat16", "kahan", "bfloat16", ("4bit",) * 3),
    "bfloat16 split8, 8 bits": ("bfloat16", "split8", "bfloat16", ("8bit",) * 3),
    "bfloat16 split16, 8 and 4 bits": ("bfloat16", "split16", "float32", ("8bit", "4bit", "8bit")),
    "bfloat16 stochastic": ("bfloat16", "stochastic", "bfloat16", ("float32",) * 3),
    "bfloat16 kahan": ("bfloat16", "kahan", "float32", ("bfloat16",) * 3),
    "bfloat16 split8": ("bfloat16", "split8", "bfloat16", ("bfloat16",) * 3),
    "bfloat16 split16": ("bfloat16", "split16", "bfloat16", ("float32",) * 3),
    "float16 stochastic": ("float16", "stochastic", "float16", ("float16",) * 3),
    "float16 kahan, 8 bits": ("float16", "kahan", "float16", ("8bit",) * 3),
}
BITS = {"float32": np.uint32, "float64": np.uint64, "bfloat16": np.uint16, "float16": np.uint16}
RESIDUAL = {"kahan": np.uint16, "split8": np.int8, "split16": np.int16}


def decode_dense(stored, dtype):
    if dtype == "bfloat16":
        return half.decode_bfloat16(stored.astype(np.int32))
    if dtype == "float16":
        return stored.view(np.float16).astype(np.float32)
    return stored.view(dtype)


@np.errstate(all="ignore")
def encode_dense(numbers, dtype):
    if dtype == "bfloat16":
        return half.nearest_bfloat16(numbers).astype(np.uint16)
    return numbers.astype(dtype).view(BITS[dtype])


def in_blocks(x):
    """Flat → ``[blocks, 128]``, the last one filled with zeros."""
    return np.pad(x, (0, -x.size % block.BLOCK)).reshape(-1, block.BLOCK)


def places(size, first=0):
    """Of each element from the first on, by blocks: its place within the block, and the block's number."""
    numbers = first // block.BLOCK + np.arange(-(-size // block.BLOCK), dtype=np.int32)
    return np.arange(block.BLOCK, dtype=np.int32)[None], numbers[:, None]


def code_of(name, signed):
    return block.CODES[int(name[0]), signed]


def pack(codes, size):
    """Two a byte: of a block's n the first ⌈n/2⌉ low, the others high."""
    packed = [np.zeros(0, np.uint8)]
    for first in range(0, size, block.BLOCK):
        c = codes[first : first + block.BLOCK].astype(np.uint8)
        n = -(-c.size // 2)
        packed.append(c[:n] | np.pad(c[n:], (0, 2 * n - c.size)) << 4)
    return np.concatenate(packed)


def unpack(packed, size):
    codes = [np.zeros(0, np.uint8)]
    for first in range(0, size, block.BLOCK):
        count = min(block.BLOCK, size - first)
        c = packed[first // 2 : first // 2 + -(-count // 2)]
        codes.append(np.concatenate([c & 15, c >> 4])[:count])
    return np.concatenate(codes)


@np.errstate(all="ignore")
def encode_slot(x, name, signed, slot, v=None, first=0):
    """Numbers → stored arrays: codes and headers, or the numbers' bits. v: as kept, of a relative slot."""
    if name not in ("8bit", "4bit"):
        return [encode_dense(x, name)]
    phase = block.NEAREST if signed and v is None else words.phase(*places(x.size, first), HIGH, slot)
    values = in_blocks(x.astype(np.float32))
    if v is None:
        codes, headers = block.encode(values, phase, code_of(name, signed))
    else:
        codes, headers = block.encode_relative(values, in_blocks(v), phase, block.RELATIVE)
    codes = codes.ravel()[: x.size].astype(np.uint8)
    return [pack(codes, x.size) if name == "4bit" else codes, headers.ravel().astype(np.int32)]


@np.errstate(all="ignore")
def decode_slot(stored, name, signed, size, v=None):
    if name not in ("8bit", "4bit"):
        return decode_dense(stored[0], name)
    codes = unpack(stored[0], size) if name == "4bit" else stored[0]
    codes = in_blocks(codes.astype(np.int32))
    if v is None:
        x = block.decode(codes, stored[1][:, None], code_of(name, signed))
    else:
        x = block.decode_relative(codes, stored[1][:, None], in_blocks(v), block.RELATIVE)
    return x.ravel()[:size]


@np.errstate(all="ignore")
def encode_slots(rule, slots, formats, first=0):
    """Every slot's arrays; a relative one in units of its partner as that is kept."""
    letters = list(RULES[rule].slots)
    stored: list[list[np.ndarray]] = [[] for _ in letters]
    for k in order(rule, formats):
        signed = letters[k] not in RULES[rule].unsigned
        partner = partner_of(rule, formats, k)
        v = None if partner is None else kept(rule, stored, formats, partner, slots[k].size)
        stored[k] = encode_slot(slots[k], formats[k], signed, k, v, first)
    return stored


def decode_slots(rule, stored, formats, size):
    return [kept(rule, stored, formats, k, size) for k in range(len(stored))]


def kept(rule, stored, formats, k, size):
    partner = partner_of(rule, formats, k)
    v = None if partner is None else kept(rule, stored, formats, partner, size).astype(np.float32)
    signed = list(RULES[rule].slots)[k] not in RULES[rule].unsigned
    return decode_slot(stored[k], formats[k], signed, size, v)


def partner_of(rule, formats, k):
    """The place of the slot in whose root this one is measured, or None."""
    letters = list(RULES[rule].slots)
    other = RULES[rule].relative.get(letters[k]) if formats[k] == "4bit" else None
    return None if other is None else letters.index(other)


def order(rule, formats):
    return sorted(range(len(RULES[rule].slots)), key=lambda k: partner_of(rule, formats, k) is not None)


@np.errstate(all="ignore")
def encode_theta(x, dtype, weights, first=0):
    """Numbers → stored arrays: θ and, of weights that have one, the residual."""
    index = (first + np.arange(x.size)).astype(np.uint32).view(np.int32)
    if weights == "stochastic":
        word = words.half_word(index, LOW, HIGH)
        if dtype == "bfloat16":
            return [half.stochastic_bfloat16(x, word).astype(np.uint16)]
        return [half.stochastic_float16(x, word).astype(np.float16).view(np.uint16)]
    if weights == "split8":
        phase = words.phase(*places(x.size, first), HIGH, 3).ravel()[: x.size]
        hi, residual = split.split8(x, phase)
        return [hi.astype(np.uint16), residual.astype(np.int8)]
    if weights == "split16":
        hi, residual = split.split16(x)
        return [hi.astype(np.uint16), residual.astype(np.int16)]
    theta = encode_dense(x, dtype)
    if weights == "kahan":
        return [theta, encode_dense(x - decode_dense(theta, dtype), dtype)]
    return [theta]


@np.errstate(all="ignore")
def decode_theta(stored, dtype, weights):
    if weights == "kahan":
        return decode_dense(stored[0], dtype) + decode_dense(stored[1], dtype)
    if weights in ("split8", "split16"):
        join = split.join8 if weights == "split8" else split.join16
        return join(stored[0].astype(np.int32), stored[1].astype(np.int32))
    return decode_dense(stored[0], dtype)


def edges():
    info = np.finfo(np.float32)
    sizes = [
        0.0,
        info.smallest_subnormal,
        info.tiny,
        1e-20,
        1e-7,
        1.0,
        65519.0,
        1e18,
        info.max,
        np.inf,
        np.nan,
    ]
    return np.array([*sizes, *(-size for size in sizes)], np.float32)


@cache
def inputs(rule, name, size):
    """(θ's arrays, g's, each slot's): blocks of like and of spread scales, of zeros, and with an edge."""
    dtype, weights, g_dtype, slots = FORMATS[name]
    rng = np.random.default_rng([size, RULE_NAMES.index(rule)])
    block_of = np.arange(size) // block.BLOCK

    def numbers(letter):
        kind = block_of % 4
        scale = np.where(kind == 1, 10.0 ** rng.uniform(-6, 0, size), 10.0 ** rng.uniform(-6, 2))
        x = (rng.normal(size=size) * scale).astype(np.float32)
        if letter in RULES[rule].unsigned:
            x = np.abs(x)
        x[kind == 2] = 0
        if size:
            at = rng.integers(size, size=1 + size // 300)
            x[at] = rng.choice(edges(), size=at.size)
        return np.abs(x) if letter in RULES[rule].unsigned else x

    wide = np.float64 if dtype == "float64" else np.float32
    theta = encode_theta(numbers("theta").astype(wide), dtype, weights)
    if dtype in ("bfloat16", "float16") and size:  # as if changed from outside, between two steps
        theta[0] ^= (rng.random(size) < 0.05).astype(np.uint16)
    g = encode_dense(numbers("g").astype(np.float64 if g_dtype == "float64" else np.float32), g_dtype)
    return theta, g, encode_slots(rule, [numbers(letter).astype(wide) for letter in RULES[rule].slots], slots)


def scalars(rule):
    host, _ = RULES[rule].host(7, {**RULES[rule].hyper, "dampening": 0.25}, RULES[rule].carried)
    return host


@cache
def expected(rule, form, name, size, first=0):
    dtype, weights, g_dtype, formats = FORMATS[name]
    theta_stored, g_stored, stored = inputs(rule, name, size)
    wide = np.float64 if dtype == "float64" else np.float32
    with np.errstate(all="ignore"):
        theta = decode_theta(theta_stored, dtype, weights)
        slots = [x.astype(wide) for x in decode_slots(rule, stored, formats, size)]
        g = apply.scale(decode_dense(g_stored, g_dtype), GRAD_SCALE)
        if form == "coupled":
            g = apply.penalize(g, theta, COUPLE)
        u, *slots = RULES[rule].direction(g, *slots, **scalars(rule))
        advance = apply.cautious_step if form == "cautious" else apply.step
        theta = advance(theta, u, SHRINK, ETA)
        assert theta.dtype == wide
        return [encode_theta(theta, dtype, weights, first), *encode_slots(rule, slots, formats, first)]


def run(target, rule, form, name, size, cuts=(), first=0):
    """The kernel's arrays after the same step, in as many calls as there are cuts and one.

    ``first``: the number of the first element; the tensors begin so far in front of the memory that is there.
    """
    dtype, weights, g_dtype, formats = FORMATS[name]
    theta, g, stored = inputs(rule, name, size)
    theta, stored = [x.copy() for x in theta], [[x.copy() for x in arrays] for arrays in stored]

    def begin(x, share=1):
        """The tensor's address; ``share``: how many elements there are to one of x."""
        return x.ctypes.data - first * x.itemsize // share

    arrays = [(begin(theta[0]), dtype, weights, begin(theta[1]) if len(theta) > 1 else 0)]
    arrays.append((begin(g), g_dtype))
    for k, (letter, f, x) in enumerate(zip(RULES[rule].slots, formats, stored, strict=False)):
        partner = partner_of(rule, formats, k)
        if f in ("8bit", "4bit"):
            signed = letter not in RULES[rule].unsigned
            more = () if partner is None else (partner,)
            arrays.append((begin(x[0], 8 // int(f[0])), f, signed, begin(x[1], block.BLOCK), *more))
        else:
            arrays.append((begin(x[0]), f))
    host = scalars(rule)
    host = [float("nan") if host[s] is None else host[s] for s in SCALARS[rule]]
    numbers = [GRAD_SCALE, COUPLE, SHRINK, ETA, *host]
    for start, stop in zip((0, *cuts), (*cuts, size), strict=True):
        native.step(
            target, rule, FORMS.index(form), numbers, arrays, first + start, first + stop, KEY % 2**64
        )
    return [theta, *stored]


def assert_same(mine, its, dtypes):
    """Bit for bit, but a NaN is a NaN."""
    for arrays, references, dtype in zip(mine, its, dtypes, strict=False):
        for x, y in zip(arrays, references, strict=True):
            if np.array_equal(x, y):
                continue
            different = x != y
            if x.dtype in (np.uint16, np.uint32, np.uint64) and dtype in BITS:
                different &= ~(np.isnan(decode_dense(x, dtype)) & np.isnan(decode_dense(y, dtype)))
            assert not different.any(), (
                dtype,
                np.flatnonzero(different)[:9],
                x[different][:9],
                y[different][:9],
            )


def dtypes_of(name):
    dtype, _, _, slots = FORMATS[name]
    return (dtype, *slots)


@EVERY_TARGET
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("rule", RULE_NAMES)
def test_the_kernel_has_the_bits_of_the_texts(target, rule, name):
    for form in FORMS:
        for size in SIZES:
            its = expected(rule, form, name, size)
            assert_same(run(target, rule, form, name, size), its, dtypes_of(name))


@pytest.mark.parametrize("name", FORMATS)
def test_where_it_is_cut_does_not_show(name):
    size = SIZES[-1]
    cuts = (128, 384, native.TILE, native.TILE + 256)
    its = run("", "amsgrad", "plain", name, size)
    assert_same(run("", "amsgrad", "plain", name, size, cuts), its, dtypes_of(name))


@EVERY_TARGET
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("first", [2**31 - 256, 2**32 - 256])
def test_elements_are_counted_beyond_32_bits(target, name, first):
    """Random words by the number modulo 2^32, as the texts count, blocks by their own number."""
    its = expected("adam", "plain", name, 1000, first)
    assert_same(run(target, "adam", "plain", name, 1000, first=first), its, dtypes_of(name))


@pytest.mark.parametrize("name", FORMATS)
def test_the_comparison_is_of_numbers(name):
    """Most of what is compared above is finite, and moved."""
    dtype, weights, _, slots = FORMATS[name]
    size = SIZES[-1]
    theta, *stored = expected("adam", "plain", name, size)
    before, _, stored_before = inputs("adam", name, size)
    after = decode_theta(theta, dtype, weights)
    assert np.isfinite(after).mean() > 0.5
    assert (after != decode_theta(before, dtype, weights)).mean() > 0.3
    assert all(np.isfinite(x).mean() > 0.5 for x in decode_slots("adam", stored, slots, size))
    for x, y in zip(stored, stored_before, strict=True):
        assert (x[0] != y[0]).mean() > 0.02  # v in bfloat16 hardly moves


def test_a_wrong_bit_would_be_seen():
    mine = run("", "adam", "plain", "8 bits", 1000)
    its = expected("adam", "plain", "8 bits", 1000)
    mine[2][0][500] ^= 1
    with pytest.raises(AssertionError):
        assert_same(mine, its, dtypes_of("8 bits"))


def test_formats_that_do_not_exist_are_refused():
    for arrays, text in [
        ([(0, "float32", "rounded", 0), (0, "float32")], "weights: 'rounded'; choose nearest, stochastic"),
        ([(0, "float32"), (0, "float32"), (0, "2bit", True, 0)], "state: '2bit'; choose dense, 8bit or 4bit"),
    ]:
        with pytest.raises(ValueError, match=text):
            native.step("", "heavy_ball", 0, [1.0] * 6, arrays, 0, 0)
