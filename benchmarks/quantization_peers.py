"""Other libraries' low-bit AdamW in the same cases, by their own optimizers.

bitsandbytes and torchao step on the CPU. FlashOptim's kernels need a GPU, so its codes are written down here
from its formulas (flashoptim 0.1.4, docstring of `quantize`): groups of 32 with a float16 scale; m as
2x/(1 + |x|) in steps of 1/127; √v in steps of 1/255; both to nearest.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")  # torchao compiles its step; here for its numbers only

import numpy as np
from numpy.typing import NDArray
from quantization_cases import BETA1, BETA2, CASES, EPS, At, Case, Store, displacements, error
from quantization_codes import blocks_of

Array = NDArray[Any]
GROUP = 32
WHICH = (
    "alike",
    "spread",
    "alike, mean 0",
    "spread, mean 0",
    "heavy tails",
    "rare",
    "shift",
    "text",
    "digits",
)


def flash_m(x: Array, at: At) -> Array:
    """FlashOptim's first moment."""
    groups = blocks_of(x, GROUP)
    scale = np.maximum(np.abs(groups).max(-1, keepdims=True), np.float32(1e-12))
    normalized = groups / scale
    c = np.floor(2 * normalized / (1 + np.abs(normalized)) * 127 + 0.5)
    y = c / 127
    return _shaped(y / (2 - np.abs(y)) * scale.astype(np.float16).astype(np.float32), x)


def flash_v(x: Array, at: At) -> Array:
    """FlashOptim's second moment."""
    groups = np.sqrt(blocks_of(x, GROUP))
    scale = np.maximum(groups.max(-1, keepdims=True), np.float32(1e-12))
    c = np.floor(groups / scale * 255 + 0.5)
    return _shaped(np.square(c / 255 * scale.astype(np.float16).astype(np.float32)), x)


def _shaped(y: Array, x: Array) -> Array:
    return y.ravel()[: x.size].reshape(x.shape).astype(np.float32)


def step_through(case: Case, make: Callable[[list[Any]], Any], seed: int) -> tuple[list[Array], float]:
    """d of a peer's optimizer, made for lr 1 and no decay; and its state's bytes per parameter."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    parameters: list[Any] = []
    optimizer: Any = None
    for t, gradients in enumerate(case.gradients(seed), 1):
        if t == 1:
            parameters = [torch.nn.Parameter(torch.zeros(g.shape)) for g in gradients]
            optimizer = make(parameters)
        for p, g in zip(parameters, gradients, strict=True):
            p.grad = torch.from_numpy(g.copy())
        optimizer.step()
        if t == case.counted_from:
            for p in parameters:
                p.data.zero_()
    total = sum(_bytes(value) for state in optimizer.state.values() for value in _moments(state))
    return [-p.detach().numpy().astype(np.float64) for p in parameters], total / sum(
        p.numel() for p in parameters
    )


def _moments(state: dict[str, Any]) -> Iterator[Any]:
    return (value for key, value in state.items() if key != "step" and not key.startswith("qmap"))


def _bytes(value: Any) -> int:
    parts = [getattr(value, name) for name in ("codes", "scale") if hasattr(value, name)] or [value]
    return sum(part.numel() * part.element_size() for part in parts if hasattr(part, "numel"))


def optimizers() -> dict[str, Callable[[list[Any]], Any]]:
    """Those that are installed."""
    settings: dict[str, Any] = {"lr": 1.0, "betas": (BETA1, BETA2), "eps": EPS, "weight_decay": 0.0}
    found: dict[str, Callable[[list[Any]], Any]] = {}
    logging.disable(logging.WARNING)
    try:
        import bitsandbytes

        found["bitsandbytes 8-bit"] = lambda p: bitsandbytes.optim.AdamW8bit(p, **settings)
    except ImportError:
        pass
    try:
        from torchao import optim

        for name, kind in (("8-bit", "AdamW8bit"), ("4-bit", "AdamW4bit"), ("fp8", "AdamWFp8")):
            found[f"torchao {name}"] = lambda p, kind=kind: getattr(optim, kind)(p, **settings)
    except ImportError:
        pass
    return found


def measure_peers(*, quick: bool) -> dict[str, Any]:
    """In the form of quantization.py's studies."""
    cases = [CASES[name] for name in WHICH if not (quick and name in ("text", "shift"))]
    makers = optimizers()
    rows: dict[str, dict[str, list[float]]] = {name: {} for name in (*makers, "FlashOptim 8-bit")}
    bytes_of = {"FlashOptim 8-bit": 2 * (1 + 2 / GROUP)}
    for case in cases:
        truth = displacements(case, {"exact": Store(), "flash": Store(flash_m, flash_v)})
        for name, make in makers.items():
            d, size = step_through(case, make, 0)
            bytes_of.setdefault(name, size)
            rows[name][case.name] = [error(d, truth["exact"])] * 2
        rows["FlashOptim 8-bit"][case.name] = [error(truth["flash"], truth["exact"])] * 2
        print(case.name, {name: round(row[case.name][0], 4) for name, row in rows.items()}, flush=True)
    return {
        "question": "What do other libraries' codes do in the same tests?",
        "bytes": bytes_of,
        "errors": rows,
    }


def check_flash() -> None:
    """Compares `flash_m` and `flash_v` with FlashOptim's own kernels, in Triton's interpreter on the CPU.

    TRITON_INTERPRET=1 python benchmarks/quantization_peers.py
    """
    import flashoptim.optimizers as theirs
    import torch
    from triton import language

    rng = np.random.default_rng(0)
    x = (rng.standard_normal(1024) * 10 ** rng.uniform(-4, 0, 1024)).astype(np.float32)
    for values, ours, dtype, most, options in (
        (x, flash_m, (torch.int8, language.int8), 127.0, (False, True)),
        (x * x, flash_v, (torch.uint8, language.uint8), 255.0, (True, False)),
    ):
        codes, scales = torch.empty(x.size, dtype=dtype[0]), torch.empty(x.size // GROUP, dtype=torch.float16)
        found, shape = torch.empty(x.size), (x.size, most)
        theirs._triton_quantize_kernel.fn[(1,)](
            torch.tensor(values), codes, scales, *shape, dtype[1], GROUP, *options, BLOCK_SIZE_N=1024
        )
        theirs._triton_dequantize_kernel.fn[(1,)](
            codes, scales, found, *shape, GROUP, *options, BLOCK_SIZE_N=1024
        )
        same = (found.numpy() == ours(values, At(1, 0, 0, values))).all()
        print(f"{ours.__name__}: {'equal bit for bit' if same else 'DIFFERENT'}")


if __name__ == "__main__":
    check_flash()
