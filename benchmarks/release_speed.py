"""What gradient release costs: time per parameter tensor, and per element of a bfloat16 sum.

python benchmarks/release_speed.py

Prints the least CPU time of many tries, on one thread.
"""

from __future__ import annotations

import time

import torch

import adamantine.torch as at
from adamantine.torch.release.buffers import sum_of


def seconds_of_a_step(tensors: int, size: int, *, released: bool) -> float:
    """Backward, step and zero_grad of independent parameters."""
    params = [torch.nn.Parameter(torch.randn(size)) for _ in range(tensors)]
    optimizer = at.AdamW(params)
    if released:
        optimizer.release_gradients()
    best = float("inf")
    for _ in range(30):
        loss = sum((p * p).sum() for p in params)
        start = time.process_time()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        best = min(best, time.process_time() - start)
    return best


def seconds_of_a_sum(buffer: str, size: int) -> float:
    """One micro-batch's gradient added to a sum."""
    p, grad = torch.nn.Parameter(torch.zeros(size)), torch.randn(size)
    kept = sum_of(p, buffer, seed=0, position=0, step=0)
    best = float("inf")
    for _ in range(20):
        start = time.process_time()
        kept.add(grad.clone())
        best = min(best, time.process_time() - start)
    return best


if __name__ == "__main__":
    torch.set_num_threads(1)
    for tensors, size in ((300, 64), (10, 2_000_000)):
        ordinary, released = (seconds_of_a_step(tensors, size, released=how) for how in (False, True))
        print(
            f"{tensors} tensors of {size}: {ordinary * 1e3:.2f} ms, {released * 1e3:.2f} ms released, "
            f"{(released - ordinary) / tensors * 1e6:+.0f} µs per tensor"
        )
    for buffer in ("float32", "bfloat16"):
        print(f"sum in {buffer}: {seconds_of_a_sum(buffer, 2_000_000) / 2e6 * 1e9:.1f} ns per element")
