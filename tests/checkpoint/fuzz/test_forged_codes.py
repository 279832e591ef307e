"""Forged checkpoints of state in 8 and 4 bits: whatever looks at them, and whatever they are loaded into."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

import forging
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import adamantine.torch as at
from adamantine import checkpoint
from adamantine.checkpoint import CheckpointError
from adamantine.checkpoint.codes import decoded
from adamantine.checkpoint.difference import diff
from adamantine.checkpoint.inspection import inspect

SHAPES = {"odd": (7, 19), "tiny": (3,), "two blocks": (200,)}
#: What makes a change that the reader's other checks would take: formats, dtypes, shapes, tensors of others.
values = st.sampled_from(
    ["8bit", "4bit", "float32", None, "bfloat16", "complex64", "float64", 0, 1, -1, 133, 2**40]
    + [[133], [7, 19, 1], [0], [2**31, 2**31], {}, {"exp_avg": "8bit"}, {"exp_avg_sq": "4bit"}]
    + [{"$tensor": f"optimizer/odd/{name}_codes"} for name in ("exp_avg", "exp_avg_sq")]
    + [{"$tensor": "optimizer/odd/exp_avg_codes_scale"}]
    + [{"$tensor": f"optimizer/{name}"} for name in ("tiny/residual", "tiny/step", "two blocks/rounding")]
    + ["adamantine.torch.Lion", "adamantine.torch.SGD", "torch.optim.AdamW", "nearest", "kahan", "split16"]
)
quick = settings(
    max_examples=150,
    deadline=5000,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)


def optimizer_of(seed: int, **options: object) -> at.AdamW:
    generator = torch.Generator().manual_seed(seed)
    params = [
        (name, nn.Parameter(torch.randn(shape, generator=generator).bfloat16()))
        for name, shape in SHAPES.items()
    ]
    optimizer = at.AdamW(params, **options)  # type: ignore[arg-type]
    for _, p in params:
        p.grad = torch.randn(p.shape, generator=generator).bfloat16()
    optimizer.step()
    return optimizer


@pytest.fixture
def seed(tmp_path: Path) -> Path:
    path = tmp_path / "seed.safetensors"
    optimizer = optimizer_of(1, state={"exp_avg": "4bit", "exp_avg_sq": "8bit"}, weights="split8")
    checkpoint.save(path, optimizer)
    return path


def test_what_looks_at_them_raises_nothing_else(seed: Path) -> None:
    def looks(path: Path) -> None:
        inspect(path)
        diff(path, seed)
        diff(seed, path)
        decoded(checkpoint.read(path))

    forged_everywhere(seed, looks)


def test_what_they_are_loaded_into_changes_whole_or_not_at_all(seed: Path) -> None:
    def load(path: Path) -> None:
        optimizer = optimizer_of(2, state="4bit", weights="kahan")
        before = copy.deepcopy(optimizer.state_dict())
        try:
            with_warnings(lambda: checkpoint.load(path, optimizer))
        except CheckpointError:
            assert_same(optimizer.state_dict(), before)
            raise
        optimizer.step()  # whatever has been let through can be trained with

    forged_everywhere(seed, load)


def with_warnings(action: Callable[[], object]) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        action()


def assert_same(one: object, other: object) -> None:
    if isinstance(one, torch.Tensor):
        assert isinstance(other, torch.Tensor)
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert isinstance(other, dict)
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    else:
        assert one == other


def forged_everywhere(seed: Path, use: Callable[[Path], None]) -> None:
    """Every file that the seed becomes by one or two edits of its manifest, whose checksum is made right."""
    from test_mutations import edited, places

    tree = json.loads(forging.manifest_of(seed))
    target = seed.with_stem("forged")
    of_state = [
        place
        for place in places(tree)
        if place[:2] == ("optimizer", "parameters") or place[-1:] in {("state",), ("weights",), ("class",)}
    ]
    passed = []

    @quick
    @given(st.lists(st.tuples(st.sampled_from(of_state), values), min_size=1, max_size=2))
    def check(edits: list[tuple[tuple[object, ...], object]]) -> None:
        new = tree
        for place, value in edits:
            try:
                new = edited(new, place, value)
            except (KeyError, IndexError, TypeError):  # the first edit took the second's place away
                return
        forging.with_manifest(target, json.dumps(new).encode())
        try:
            use(target)
        except CheckpointError:
            return
        passed.append(edits)

    check()
    assert passed, "some edits must be harmless, or nothing was tried"
