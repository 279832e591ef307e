"""Makes fixtures.tar.xz: checkpoints as the real libraries write them, and what those libraries read in them.

    python tests/checkpoint/convert/make_fixtures.py       # in an environment with the libraries below

Needs bitsandbytes, deepspeed, flax, msgpack, optax and torchao beside torch; a CPU is enough. The versions
that made the committed file are in its versions.json. All numbers are seeded, training is three steps.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
LIBRARIES = ("bitsandbytes", "deepspeed", "flax", "jax", "msgpack", "optax", "torch", "torchao")
expected: dict[str, Any] = {}  # file/parameter/slot → SHA-256 of the float32 bytes


def digest(value: Any) -> str:
    return hashlib.sha256(value.detach().float().contiguous().numpy().tobytes()).hexdigest()


def train(model: Any, optimizer: Any, steps: int = 3) -> None:
    import torch

    for _ in range(steps):
        width = next(iter(model.parameters())).shape[1]
        model(torch.randn(8, width)).pow(2).mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def bitsandbytes(out: Path) -> None:
    import torch
    from bitsandbytes.functional import dequantize_blockwise
    from bitsandbytes.optim import AdamW8bit

    torch.manual_seed(0)
    model = torch.nn.Linear(64, 65)  # 4160 weights are quantized, 65 biases are not
    optimizer = AdamW8bit(model.parameters(), lr=1e-3, weight_decay=0.1)
    train(model, optimizer)
    torch.save(optimizer.state_dict(), out / "bitsandbytes.pt")
    for index, (state, shape) in enumerate(zip(optimizer.state.values(), [(65, 64), (65,)], strict=True)):
        for number, slot in ((1, "exp_avg"), (2, "exp_avg_sq")):
            value = state[f"state{number}"]
            if value.dtype == torch.uint8:
                scale, table = state[f"absmax{number}"], state[f"qmap{number}"]
                value = dequantize_blockwise(value, absmax=scale, code=table, blocksize=256).view(shape)
            expected[f"bitsandbytes.pt/{index}/{slot}"] = digest(value)


def torchao(out: Path) -> None:
    import torch
    from torchao.optim import AdamW4bit, AdamW8bit, AdamWFp8

    for cls in (AdamW8bit, AdamW4bit, AdamWFp8):
        torch.manual_seed(0)
        model = torch.nn.Linear(64, 64)
        optimizer = cls(model.parameters(), lr=1e-3, weight_decay=0.1)
        train(model, optimizer)
        name = f"torchao-{cls.__name__}.pt"
        torch.save(optimizer.state_dict(), out / name)
        for index, state in enumerate(optimizer.state.values()):
            for slot in ("exp_avg", "exp_avg_sq"):
                value = state[slot]
                value = (
                    value.dequantize()
                    if hasattr(value, "dequantize") and type(value) is not torch.Tensor
                    else value
                )
                expected[f"{name}/{index}/{slot}"] = digest(value)


def optax(out: Path) -> None:
    import jax
    import jax.numpy as jnp
    import optax
    from flax import serialization
    from flax.training.train_state import TrainState

    params = {"Dense_0": {"kernel": jnp.arange(6.0).reshape(3, 2), "bias": jnp.ones(2, jnp.bfloat16)}}
    mask = {"Dense_0": {"kernel": True, "bias": False}}
    labels = {"Dense_0": {"kernel": "a", "bias": "b"}}
    transforms = {
        "adamw": optax.adamw(1e-2, weight_decay=0.1),
        "adamw-masked": optax.adamw(1e-2, weight_decay=0.1, mask=mask),
        "adamw-clipped-bf16": optax.chain(
            optax.clip_by_global_norm(1.0), optax.adamw(1e-2, mu_dtype=jnp.bfloat16)
        ),
        "adamw-injected": optax.inject_hyperparams(optax.adamw)(learning_rate=1e-2, weight_decay=0.1),
        "amsgrad": optax.amsgrad(1e-2),
        "lion": optax.lion(1e-3, weight_decay=0.1),
        "sgd": optax.sgd(1e-2, momentum=0.9),
        "partitioned": optax.multi_transform(
            {"a": optax.adamw(1e-2), "b": optax.sgd(1e-2, momentum=0.9)}, labels
        ),
    }
    for name, transform in transforms.items():
        state, now = transform.init(params), params
        for step in range(3):
            grads = jax.tree.map(lambda x, s=step: jnp.sin(x.astype(jnp.float32) + s).astype(x.dtype), now)
            updates, state = transform.update(grads, state, now)
            now = optax.apply_updates(now, updates)
        (out / f"optax-{name}.msgpack").write_bytes(serialization.to_bytes(state))
        if name == "adamw":
            train_state = TrainState.create(apply_fn=None, params=now, tx=transform).replace(
                opt_state=state, step=3
            )
            (out / "optax-train-state.msgpack").write_bytes(serialization.to_bytes(train_state))
            (out / "optax-chunked.msgpack").write_bytes(_chunked(state))
            found = state[0]
            for leaf in ("kernel", "bias"):
                for field, slot in ((found.mu, "exp_avg"), (found.nu, "exp_avg_sq")):
                    values = jnp.asarray(field["Dense_0"][leaf], jnp.float32)
                    key = f"optax-adamw.msgpack/Dense_0.{leaf}/{slot}"
                    expected[key] = hashlib.sha256(bytes(memoryview(values.__array__()))).hexdigest()


def _chunked(state: Any) -> bytes:
    """As flax writes arrays above its limit, with the limit at 8 bytes."""
    from flax import serialization

    serialization.MAX_CHUNK_SIZE, limit = 8, serialization.MAX_CHUNK_SIZE
    try:
        return serialization.to_bytes(state)
    finally:
        serialization.MAX_CHUNK_SIZE = limit


def deepspeed(out: Path) -> None:
    for stage, ranks, half in ((1, 2, "fp32"), (2, 1, "fp32"), (1, 2, "bf16")):
        folder = out / f"deepspeed-stage{stage}-{half}"
        run = [sys.executable, "-W", "ignore", __file__]
        workers = [
            subprocess.Popen([*run, str(folder), str(stage), half, str(rank), str(ranks)])
            for rank in range(ranks)
        ]
        if any(worker.wait() for worker in workers):
            raise SystemExit("a rank of DeepSpeed failed")
        for script in folder.glob("zero_to_*.py"):
            script.unlink()
    convert = [sys.executable, "-W", "ignore", "-m", "deepspeed.checkpoint.ds_to_universal"]
    source, target = out / "deepspeed-stage1-fp32" / "at3", out / "deepspeed-universal"
    subprocess.run(
        [
            *[*convert, "--input_folder", source, "--output_folder", target, "--inject_missing_state"],
            *["--num_extract_workers", "1", "--num_merge_workers", "1"],
        ],
        check=True,
    )


def deepspeed_rank(folder: str, stage: str, half: str, rank: str, ranks: str) -> None:
    os.environ |= {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "DS_ACCELERATOR": "cpu"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29641"}
    import deepspeed
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.LayerNorm(7), torch.nn.Linear(7, 3))
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    config: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 4,
        "zero_optimization": {"stage": int(stage)},
        "zero_allow_untested_optimizer": True,
    }
    if half == "bf16":
        config["bf16"] = {"enabled": True}
    engine, *_ = deepspeed.initialize(
        model=model, optimizer=torch.optim.AdamW(groups, lr=1e-3), config=config
    )
    torch.manual_seed(int(rank) + 1)
    dtype = torch.bfloat16 if half == "bf16" else torch.float32
    for _ in range(3):
        engine.backward(engine(torch.randn(4, 5, dtype=dtype)).pow(2).mean())
        engine.step()
    engine.save_checkpoint(folder, tag="at3")


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        for make in (bitsandbytes, torchao, optax, deepspeed):
            make(out)
        (out / "expected.json").write_text(json.dumps(expected, indent=1, sort_keys=True))
        (out / "versions.json").write_text(json.dumps({name: version(name) for name in LIBRARIES}, indent=1))
        with tarfile.open(HERE / "fixtures.tar.xz", "w:xz", preset=9) as archive:
            for path in sorted(out.rglob("*")):
                if path.is_file():
                    entry = tarfile.TarInfo(str(path.relative_to(out)))
                    entry.size = path.stat().st_size
                    archive.addfile(entry, io.BytesIO(path.read_bytes()))
        print((HERE / "fixtures.tar.xz").stat().st_size, "bytes")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        deepspeed_rank(*sys.argv[1:])
    else:
        main()
