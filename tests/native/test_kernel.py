"""The kernel has the bits of the Python rules: every target × rule × form × dtypes × sizes × misalignment.

The reference runs once per case over one long array, numbers at the edges among it; since every rule is
elementwise, what the kernel makes of any stretch of it must be the same stretch of that.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from adamantine.rules import RULES, apply

native = pytest.importorskip("adamantine._native", reason="this installation has no compiled kernel")

TILE = native.TILE
SIZES = (0, 1, 7, 15, 16, 17, 63, 64, 65, TILE - 1, TILE, TILE + 1, 5003)
LENGTH = 2 * 5003
GUARD = 40  # elements of sentinel on either side

#: dtypes of θ, g and the slots; what the kernel computes in is float64 for float64 and float32 for all else.
STORAGE = {
    "float32": ("float32", "float32", ("float32",) * 3),
    "float64": ("float64", "float64", ("float64",) * 3),
    "bfloat16": ("bfloat16", "bfloat16", ("bfloat16",) * 3),
    "float16": ("float16", "float16", ("float16",) * 3),
    "bfloat16, states in float32": ("bfloat16", "bfloat16", ("float32",) * 3),
    "float32, states in bfloat16": ("float32", "float32", ("bfloat16",) * 3),
    "each another": ("float16", "float32", ("bfloat16", "float32", "float16")),
}
FORMS = ("plain", "coupled", "cautious")
GRAD_SCALE, COUPLE, SHRINK, ETA = -0.7, 0.1, 0.97, 0.03

#: Steps at which the scalars are taken: RAdam has none to rectify with before the sixth.
CASES = [(name, 7) for name in RULES] + [("radam", 3)]

_BITS = {"float32": np.uint32, "float64": np.uint64, "bfloat16": np.uint16, "float16": np.uint16}


def decode(stored, dtype):
    """Stored bits → numbers in the precision that the rule is computed in."""
    if dtype == "bfloat16":
        return (stored.astype(np.uint32) << 16).view(np.float32)
    if dtype == "float16":
        return stored.view(np.float16).astype(np.float32)
    return stored.view(dtype)


def encode(numbers, dtype):
    """Numbers → stored bits, to the nearest, ties to even."""
    if dtype == "bfloat16":
        bits = numbers.view(np.uint32)
        low, high = bits & 0xFFFF, bits >> 16
        up = (low > 0x8000) | ((low == 0x8000) & (high & 1 == 1))
        return np.where(np.isnan(numbers), 0x7FC0, high + up).astype(np.uint16)
    with np.errstate(over="ignore"):
        return numbers.astype(dtype).view(_BITS[dtype])


def edges(dtype):
    """±0, denormals, the smallest normal, the largest, ∞ and NaN, in float32's or float64's range."""
    info = np.finfo(dtype)
    sizes = [0.0, info.smallest_subnormal, 5 * info.smallest_subnormal, info.tiny, 1e-20, 1.0, 1e18, info.max]
    return np.array([*sizes, np.inf, np.nan, *(-size for size in sizes), -np.inf], dtype)


@cache
def inputs(rule, storage):
    """(dtype, stored bits) of θ, g and the slots: normal numbers of many sizes, one in nine at an edge."""
    theta, g, slots = STORAGE[storage]
    compute = np.float64 if theta == "float64" else np.float32
    rng = np.random.default_rng(sorted(RULES).index(rule))
    arrays = []
    letters = ["theta", "g", *RULES[rule].slots]
    for letter, dtype in zip(letters, (theta, g, *slots), strict=False):
        x = rng.normal(size=LENGTH) * 10.0 ** rng.integers(-6, 3, size=LENGTH)
        x = (np.abs(x) if letter in "vswn" else x).astype(compute)  # second moments have no sign
        at = rng.choice(LENGTH, size=LENGTH // 9, replace=False)
        x[at] = rng.choice(edges(compute), size=at.size)
        arrays.append((dtype, encode(x, dtype)))
    return arrays


def scalars(rule, t):
    """What `direction` takes beside the arrays."""
    rule = RULES[rule]
    host, _ = rule.host(t, {**rule.hyper, "dampening": 0.25}, rule.carried)
    return host


#: Rule → names of its scalars, in the kernel's order.
SCALARS = {name: names.split() for name, _, names, _ in native.rules}


@cache
def expected(rule, t, form, storage):
    """Stored bits of θ and the slots after one step of the Python rule."""
    arrays = inputs(rule, storage)
    theta, g, *slots = (decode(stored, dtype) for dtype, stored in arrays)
    with np.errstate(all="ignore"):
        g = apply.scale(g, GRAD_SCALE)
        if form == "coupled":
            g = apply.penalize(g, theta, COUPLE)
        u, *slots = RULES[rule].direction(g, *slots, **scalars(rule, t))
        advance = apply.cautious_step if form == "cautious" else apply.step
        results = [advance(theta, u, SHRINK, ETA), *slots]
    assert all(x.dtype == theta.dtype for x in results)
    dtypes = [arrays[0][0], *(dtype for dtype, _ in arrays[2:])]
    return [encode(x, dtype) for x, dtype in zip(results, dtypes, strict=True)]


def assert_same(mine, its, dtype):
    """Bit for bit, but a NaN is a NaN."""
    if np.array_equal(mine, its):
        return
    x, y = decode(mine, dtype), decode(its, dtype)
    different = (mine != its) & ~(np.isnan(x) & np.isnan(y))
    assert not different.any(), (np.flatnonzero(different), x[different], y[different])


class Memory:
    """One stream in sentinels, its first element as many elements off a cache line as is asked for."""

    def __init__(self, stored, dtype, off):
        item = stored.dtype.itemsize
        room = np.full(stored.size + 2 * GUARD + 64 // item + off, 0xA5A5, stored.dtype)
        skip = -(room.ctypes.data + GUARD * item) % 64 // item + off
        self.array = room[skip : skip + stored.size + 2 * GUARD]
        self.array[GUARD : GUARD + stored.size] = stored
        self.dtype, self.before = dtype, self.array.copy()

    def stream(self, start):
        """As the kernel takes it: the address of the element that lies `start` before the first."""
        return self.array.ctypes.data + (GUARD - start) * self.array.itemsize, self.dtype

    @property
    def inside(self):
        return self.array[GUARD:-GUARD]

    def assert_sentinels(self):
        for side in (slice(0, GUARD), slice(-GUARD, None)):
            np.testing.assert_array_equal(self.array[side], self.before[side])


def step(target, rule, t, form, memories, start, size):
    numbers = [GRAD_SCALE, COUPLE, SHRINK, ETA]
    host = scalars(rule, t)
    numbers += [float("nan") if host[name] is None else float(host[name]) for name in SCALARS[rule]]
    streams = [memory.stream(start) for memory in memories]
    native.step(target, rule, FORMS.index(form), numbers, streams, start, start + size)


@pytest.mark.parametrize("target", native.targets)
@pytest.mark.parametrize(("rule", "t"), CASES)
def test_same_bits_as_the_python_rule(target, rule, t):
    for form in FORMS:
        for storage in STORAGE:
            arrays = inputs(rule, storage)
            results = expected(rule, t, form, storage)
            alone = [tuple(int(k == moved) for k in range(len(arrays))) for moved in range(len(arrays))]
            for number, size in enumerate(SIZES):
                first = 31 * number
                some = alone if size in {65, TILE + 1} else alone[number % 2 :: 2]
                for offsets in [(0,) * len(arrays), *some]:
                    start = (0, 5)[number % 2]
                    memories = [
                        Memory(stored[first : first + size], dtype, off)
                        for (dtype, stored), off in zip(arrays, offsets, strict=True)
                    ]
                    step(target, rule, t, form, memories, start, size)
                    written = [memories[0], *memories[2:]]
                    for memory, its in zip(written, results, strict=True):
                        assert_same(memory.inside, its[first : first + size], memory.dtype)
                    for memory in memories:
                        memory.assert_sentinels()
                    np.testing.assert_array_equal(memories[1].array, memories[1].before)


@pytest.mark.parametrize(("rule", "t"), CASES)
def test_the_comparison_is_of_numbers(rule, t):
    """Most of what is compared above is neither NaN nor unchanged."""
    for storage, (dtype, *_) in STORAGE.items():
        after = decode(expected(rule, t, "plain", storage)[0], dtype)
        before = decode(inputs(rule, storage)[0][1], dtype)
        assert np.isfinite(after).mean() > 0.6
        assert (after != before).mean() > 0.9
        assert np.isnan(after).any()


@pytest.mark.parametrize("form", FORMS)
def test_a_wrong_bit_would_be_seen(form):
    """The comparison sees an ulp in one element, and a sentinel that was written over."""
    (dtype, stored), *_ = inputs("adam", "float32")
    wrong = stored.copy()
    at = int(np.flatnonzero(np.isfinite(decode(stored, dtype)))[3])
    wrong[at] ^= 1
    with pytest.raises(AssertionError):
        assert_same(wrong, stored, dtype)
    memories = [Memory(x[:7], name, 0) for name, x in inputs("adam", "float32")]
    step(native.target, "adam", 7, form, memories, 0, 8)  # one too many
    with pytest.raises(AssertionError):
        memories[0].assert_sentinels()


def test_the_kernel_has_every_elementwise_rule():
    """Names, slots in order, scalars in the order in which `direction` takes them, slots without a sign."""
    ours = {
        name: (slots.split(), names.split(), {*unsigneds.split()})
        for name, slots, names, unsigneds in native.rules
    }
    its = {}
    for rule in RULES.values():
        if rule.elementwise:
            code = rule.direction.__code__
            names = list(code.co_varnames[: code.co_argcount])
            assert names[: 1 + len(rule.slots)] == ["g", *rule.slots]
            its[rule.name] = (list(rule.slots), names[1 + len(rule.slots) :], rule.unsigned)
    assert ours == its
