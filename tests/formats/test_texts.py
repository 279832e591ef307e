"""The texts of the formats give torch's tensors the bits that they give NumPy's arrays."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from adamantine.formats import block, half, split, words
from adamantine.torch.storage import codecs
from adamantine.torch.storage.elements import Elements, Run, Runs, packed_size

SIZES = (1, 2, 127, 128, 129, 1000)
KEY = words.first_key(11, 3)
LOW, HIGH = words.halves(KEY)


def numbers(n: int, *, signed: bool = True) -> np.ndarray:
    """float32 of every kind: all exponents, subnormal ones, zeros, some blocks with infinities or NaN."""
    rng = np.random.default_rng(n)
    x = rng.normal(size=n) * 10.0 ** rng.uniform(-45, 36, n)
    x[rng.random(n) < 0.1] = 0.0
    if n > 900:
        x[300], x[700] = np.inf, np.nan
        x[384:512] = 1.0  # a block of one value
        x[512:640] = 0.0
        x[640:700] = rng.normal(size=60) * 1e-39
    return (x if signed else np.abs(x)).astype(np.float32)


def blocks(x: np.ndarray) -> np.ndarray:
    return np.concatenate([x, np.zeros(-len(x) % 128, x.dtype)]).reshape(-1, 128)


def run(start: int, n: int) -> Run:
    return Run(start, start + n, torch.device("cpu"))


def same_bits(mine: torch.Tensor, its: np.ndarray) -> None:
    """Equal as bits; one NaN is as good as another."""
    if its.dtype == np.float32:
        found, its = mine.numpy(), its.reshape(mine.shape)
        assert np.array_equal(np.isnan(found), np.isnan(its))
        number = ~np.isnan(its)
        np.testing.assert_array_equal(found.view(np.int32)[number], its.view(np.int32)[number])
    else:
        np.testing.assert_array_equal(mine.numpy(), its.reshape(mine.shape))


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("code", block.CODES.values(), ids=str)
@pytest.mark.parametrize("dithered", [False, True])
def test_blocks(n: int, code: block.Code, dithered: bool) -> None:
    x = numbers(n, signed=code.signed)
    within, number = np.arange(128, dtype=np.int32), np.arange(-(-n // 128), dtype=np.int32)[:, None]
    with np.errstate(all="ignore"):
        phases = words.phase(within, number, HIGH, 1) if dithered else np.int32(block.NEAREST)
        codes, headers = block.encode(blocks(x), phases, code)
        values = block.decode(codes, headers, code)
    given = codecs.phases(run(0, n), [KEY], 1) if dithered else codecs.NEAREST
    stored, heads = codecs.encode(torch.tensor(x), given, code)
    assert stored.dtype == torch.uint8
    assert stored.numel() == packed_size(n, code.bits) == (n if code.bits == 8 else (n + 1) // 2)
    same_bits(heads, headers)
    same_bits(run(0, n).unpack(stored, code.bits), codes * (np.arange(codes.size).reshape(codes.shape) < n))
    same_bits(codecs.decode(stored, heads, n, code), values.reshape(-1)[:n])


@pytest.mark.parametrize("n", SIZES)
def test_blocks_of_ratios(n: int) -> None:
    m, v = numbers(n), numbers(n + 1, signed=False)[:n]
    within, number = np.arange(128, dtype=np.int32), np.arange(-(-n // 128), dtype=np.int32)[:, None]
    with np.errstate(all="ignore"):
        codes, headers = block.encode_relative(
            blocks(m), blocks(v), words.phase(within, number, HIGH, 0), block.RELATIVE
        )
        values = block.decode_relative(codes, headers, blocks(v), block.RELATIVE)
    phases = codecs.phases(run(0, n), [KEY], 0)
    stored, heads = codecs.encode(torch.tensor(m), phases, block.RELATIVE, torch.tensor(v))
    same_bits(heads, headers)
    same_bits(run(0, n).unpack(stored, 4), codes * (np.arange(codes.size).reshape(codes.shape) < n))
    same_bits(codecs.decode(stored, heads, n, block.RELATIVE, torch.tensor(v)), values.reshape(-1)[:n])


@pytest.mark.parametrize("n", SIZES)
def test_packing_of_four_bits(n: int) -> None:
    """A block's first half in the low nibbles, its second in the high ones; the last block may be odd."""
    codes = np.random.default_rng(n).integers(0, 16, n).astype(np.int32)
    expected = []
    for start in range(0, n, 128):
        row = codes[start : start + 128]
        count = (len(row) + 1) // 2
        expected += [
            int(row[j]) | (int(row[count + j]) << 4 if count + j < len(row) else 0) for j in range(count)
        ]
    stored = run(0, n).pack(torch.tensor(blocks(codes)), 4)
    assert stored.tolist() == expected
    assert run(0, n).unpack(stored, 4).view(-1)[:n].tolist() == codes.tolist()


@pytest.mark.parametrize("start", [0, 256, 128 * 2**24])
def test_phases_of_a_piece(start: int) -> None:
    """A piece has the phases of its place in the parameter, also beyond 2³¹ elements."""
    index = np.arange(start, start + 300, dtype=np.int64)
    within, number = (index % 128).astype(np.int32), (index // 128).astype(np.int32)
    for slot in range(4):
        piece = run(start, 300)
        same_bits(piece.flat(codecs.phases(piece, [KEY], slot)), words.phase(within, number, HIGH, slot))


@pytest.mark.parametrize("start", [0, 1280, 2**31 - 128])
def test_stochastic_weights(start: int) -> None:
    x = numbers(1000)
    index = np.arange(start, start + 1000, dtype=np.int64).astype(np.int32)
    word = words.half_word(index, LOW, HIGH)
    short = codecs.stochastic(torch.tensor(x), run(start, 1000), [KEY], torch.bfloat16)
    same_bits(short.float(), half.decode_bfloat16(half.stochastic_bfloat16(x, word)))
    with np.errstate(all="ignore"):
        expected = half.stochastic_float16(x, word)
    short = codecs.stochastic(torch.tensor(x), run(start, 1000), [KEY], torch.float16)
    same_bits(short.float(), expected)


@pytest.mark.parametrize("code", [*block.CODES.values(), block.RELATIVE], ids=str)
def test_parameters_together_are_coded_as_alone(code: block.Code) -> None:
    """Laid end to end, each has its own blocks, bytes and phases."""
    sizes = (5, *SIZES, 128, 1)
    keys = [words.first_key(3, place) for place in range(len(sizes))]
    x = [torch.tensor(numbers(n, signed=code.signed)) for n in sizes]
    v = [torch.tensor(numbers(n + 1, signed=False)[:n]) for n in sizes]
    runs, is_relative = Runs(sizes, torch.device("cpu")), code is block.RELATIVE

    def through(
        x: torch.Tensor, v: torch.Tensor, elements: Elements, keys: list[int]
    ) -> tuple[torch.Tensor, ...]:
        kept = v if is_relative else None
        stored, headers = codecs.encode(x, codecs.phases(elements, keys, 1), code, kept, elements)
        return stored, headers, codecs.decode(stored, headers, elements, code, kept)

    alone = [through(x[i], v[i], run(0, n), [keys[i]]) for i, n in enumerate(sizes)]
    together = through(torch.cat(x), torch.cat(v), runs, keys)
    for mine, its in zip(together, zip(*alone, strict=True), strict=True):
        same_bits(mine, torch.cat(its).numpy())


def test_weights_together_are_rounded_as_alone() -> None:
    sizes = (5, *SIZES, 128, 1)
    keys = [words.first_key(3, place) for place in range(len(sizes))]
    x = [torch.tensor(numbers(n)) for n in sizes]
    runs = Runs(sizes, torch.device("cpu"))
    for dtype in (torch.bfloat16, torch.float16):
        alone = [codecs.stochastic(x[i], run(0, n), [keys[i]], dtype) for i, n in enumerate(sizes)]
        same_bits(
            codecs.stochastic(torch.cat(x), runs, keys, dtype).float(), torch.cat(alone).float().numpy()
        )
    pieces = [run(0, n) for n in sizes]
    alone = [piece.flat(codecs.phases(piece, [key], 3)) for piece, key in zip(pieces, keys, strict=True)]
    same_bits(runs.flat(codecs.phases(runs, keys, 3)), torch.cat(alone).numpy())


def test_nearest_weights_are_torchs() -> None:
    x = numbers(1000)
    same_bits(torch.tensor(x).to(torch.bfloat16).float(), half.decode_bfloat16(half.nearest_bfloat16(x)))


def test_split_weights() -> None:
    x = numbers(1000)
    theta, residual = codecs.split_off(torch.tensor(x), "split16", torch.bfloat16)
    hi, left = split.split16(x)
    same_bits(theta.float(), half.decode_bfloat16(hi))
    same_bits(residual.int(), left)
    same_bits(codecs.join(theta, residual), split.join16(hi, left))
    phases = words.phase(
        np.arange(1000, dtype=np.int32) % 128, np.arange(1000, dtype=np.int32) // 128, HIGH, 3
    )
    piece = run(0, 1000)
    given = piece.flat(codecs.phases(piece, [KEY], 3))
    theta, residual = codecs.split_off(torch.tensor(x), "split8", torch.bfloat16, given)
    hi, left = split.split8(x, phases)
    same_bits(theta.float(), half.decode_bfloat16(hi))
    same_bits(residual.int(), left)
    same_bits(codecs.join(theta, residual), split.join8(hi, left))
