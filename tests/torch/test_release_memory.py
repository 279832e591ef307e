"""What release is for: the peak of a training step, counted by torch's own allocator."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

import adamantine.torch as at

LAYERS, WIDTH, BATCH = 12, 128, 4
LAYER = 4 * (WIDTH * WIDTH + WIDTH)  # bytes of one layer's gradients
#: What else is alive: a dozen activations and their gradients, and buffers of a few kB.
ACTIVATIONS = 4 * BATCH * WIDTH * (2 * LAYERS + 8)


def peak_of_a_step(tmp_path, *, released: bool, **options) -> int:
    """The most bytes that were allocated at once during the third step, beyond those before it."""
    torch.manual_seed(0)
    model = nn.Sequential(*[nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)])
    optimizer = at.AdamW(model.parameters())
    micro = options.get("accumulate", 1)
    if released:
        optimizer.release_gradients(**options)
    x = torch.randn(BATCH, WIDTH)

    def step():
        for _ in range(micro):
            model(x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    step()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    trace = tmp_path / "trace.json"
    profiler.export_chrome_trace(str(trace))
    events = [e for e in json.loads(trace.read_text())["traceEvents"] if e.get("name") == "[memory]"]
    assert events
    held = [e["args"]["Total Allocated"] for e in sorted(events, key=lambda e: e["ts"])]
    first = min(events, key=lambda e: e["ts"])["args"]
    return max(held) - (first["Total Allocated"] - first["Bytes"])


@pytest.mark.filterwarnings("ignore")  # the profiler's own
@pytest.mark.skipif(not torch.profiler.supported_activities(), reason="this torch has no profiler")
def test_a_backward_pass_holds_one_layer_s_gradients(tmp_path):
    ordinary = peak_of_a_step(tmp_path, released=False)
    released = peak_of_a_step(tmp_path, released=True)
    assert LAYERS * LAYER <= ordinary <= LAYERS * LAYER + ACTIVATIONS
    # One layer's gradients, and one weight's more: a matrix product and its transpose meet in autograd.
    assert released <= 2 * LAYER + ACTIVATIONS
    assert ordinary - released > 0.75 * LAYERS * LAYER


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("buffer", "share"), [("float32", 1.0), ("bfloat16", 0.5), ("moments", 0.0)])
def test_what_holds_the_sums_between_micro_batches(tmp_path, buffer, share):
    peak = peak_of_a_step(tmp_path, released=True, accumulate=2, buffer=buffer)
    # Rounding a sum takes temporaries of a layer's size, about ten of them: not one per layer.
    room = 10 * LAYER if buffer == "bfloat16" else 2 * LAYER
    assert share * LAYERS * LAYER <= peak <= share * LAYERS * LAYER + room + ACTIVATIONS
