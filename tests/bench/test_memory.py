"""The high-water mark sees what a call needs for a moment, and nothing else."""

from __future__ import annotations

import sys

import pytest
import torch

from adamantine.bench import memory

MIB = 2**20
SLACK = MIB // 2  # the kernel counts pages per processor, in batches

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the mark is Linux's")


def _peak(*temporaries: int) -> int:
    def run() -> None:
        for size in temporaries:
            torch.ones(size // 4).sum()

    run()
    peaks = [memory.peak_extra(run) for _ in range(3)]
    if None in peaks:
        pytest.skip("this C library or container does not tell")
    return sorted(peak for peak in peaks if peak is not None)[1]


@linux
@pytest.mark.parametrize("size", [4, 2 * MIB, 48 * MIB])
def test_a_temporary_is_seen(size: int) -> None:
    assert _peak(size) == pytest.approx(size, abs=SLACK)


@linux
def test_the_peak_is_that_of_the_worst_moment_not_a_sum() -> None:
    # Beyond 32 MiB every block has a mapping of its own; below, it depends on what was freed before whether
    # the C library keeps the first one on its heap.
    assert _peak(48 * MIB, 48 * MIB) == pytest.approx(48 * MIB, abs=SLACK)


@linux
def test_what_was_there_before_does_not_count() -> None:
    kept = torch.ones(8 * MIB)
    assert _peak(4) < SLACK
    assert kept[0] == 1


def test_available_memory_is_plausible() -> None:
    room = memory.available()
    assert room is None or 2**20 < room < 2**50
