"""Conversions against the real libraries: each loads what was converted and trains on as the original does.

    PYTHONPATH=src python tests/checkpoint/convert/with_peers.py      # in the environment of make_fixtures.py

Not part of the suite, which has fixtures instead. Prints one line per case and exits 1 if one fails.

Predictions, made before measuring:

- The same kernels on the same state (DeepSpeed; optax to torch; bitsandbytes' own there and back): equal.
- optax against torch on the same gradients: 1e-6 relative to the weights after 5 steps was predicted, as two
  roundings of one formula, and 2.5e-6 measured. The reason: optax forms 1 - β₂ᵗ in float32, torch in double.
  At t = 6 that number is 0.006, so the rounding of β₂ᵗ (2⁻²⁴) is 1e-5 of it and 5e-6 of the step, and five
  steps of about lr = 1e-2 on weights up to 0.125 make 2e-6. The bound is now twice that.
- To 8 bits: the update is lr times a ratio whose parts are off by at most half a code each, so weights differ
  from those of the full-precision run by less than the 5 updates of lr each could move them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from adamantine.checkpoint.convert.api import convert

LR, DECAY = 1e-2, 0.1
HYPER = {"lr": LR, "weight_decay": DECAY}


def network() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(64, 65)


def train(model: nn.Module, optimizer: Any, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(5):
        optimizer.zero_grad()
        model(torch.randn(16, 64, generator=generator)).pow(2).mean().backward()
        optimizer.step()


def off(first: nn.Module, second: nn.Module) -> float:
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    return max((a - b).abs().max().item() / b.abs().max().item() for a, b in pairs)


def copy_of(model: nn.Module) -> nn.Linear:
    twin = network()
    twin.load_state_dict(model.state_dict())
    return twin


def torch_to_optax(folder: Path) -> float:
    """torch trains 5 steps, optax takes over; against torch going on. Gradients are torch's in both."""
    import jax.numpy as jnp
    import optax
    from flax import serialization

    model = network()
    optimizer = torch.optim.AdamW(model.named_parameters(), **HYPER)
    train(model, optimizer, 1)
    torch.save(optimizer.state_dict(), folder / "a.pt")
    convert(folder / "a.pt", folder / "a.msgpack", to="optax")
    twin = copy_of(model)
    params = {name: jnp.asarray(p.detach().numpy().copy()) for name, p in twin.named_parameters()}
    transform = optax.adamw(LR, weight_decay=DECAY)
    state = serialization.from_bytes(transform.init(params), (folder / "a.msgpack").read_bytes())
    generator = torch.Generator().manual_seed(2)
    for _ in range(5):
        twin.zero_grad()
        twin(torch.randn(16, 64, generator=generator)).pow(2).mean().backward()
        grads = {name: jnp.asarray(p.grad.numpy().copy()) for name, p in twin.named_parameters()}
        updates, state = transform.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        twin.load_state_dict({name: torch.tensor(value.__array__()) for name, value in params.items()})
    train(model, optimizer, 2)
    return off(twin, model)


def optax_to_torch(folder: Path) -> float:
    """The same hand-over in the other direction: from the file that the case before wrote, through optax."""
    import jax.numpy as jnp
    import optax
    from flax import serialization

    model = network()
    optimizer = torch.optim.AdamW(model.named_parameters(), **HYPER)
    train(model, optimizer, 1)
    like = {name: jnp.asarray(p.detach().numpy().copy()) for name, p in model.named_parameters()}
    state = serialization.from_bytes(
        optax.adamw(LR, weight_decay=DECAY).init(like), (folder / "a.msgpack").read_bytes()
    )
    (folder / "b.msgpack").write_bytes(serialization.to_bytes(state))
    convert(folder / "b.msgpack", folder / "b.pt", to="torch", decay="decoupled", hyper=HYPER)
    twin = copy_of(model)
    by_name = dict(twin.named_parameters())
    saved = torch.load(folder / "b.pt", weights_only=True)
    order = [(name, by_name[name]) for name in saved["param_groups"][0]["param_names"]]
    resumed = torch.optim.AdamW(order, **HYPER)
    resumed.load_state_dict(saved)
    train(model, optimizer, 2)
    train(twin, resumed, 2)
    return off(twin, model)


def bitsandbytes_and_back(folder: Path) -> float:
    """AdamW8bit → neutral form → AdamW8bit, going on."""
    from bitsandbytes.optim import AdamW8bit

    model = network()
    optimizer = AdamW8bit(model.parameters(), **HYPER)
    train(model, optimizer, 1)
    torch.save(optimizer.state_dict(), folder / "c.pt")
    convert(folder / "c.pt", folder / "d.pt", to="bitsandbytes")
    twin = copy_of(model)
    resumed = AdamW8bit(twin.parameters(), **HYPER)
    resumed.load_state_dict(torch.load(folder / "d.pt", weights_only=True))
    train(model, optimizer, 2)
    train(twin, resumed, 2)
    return off(twin, model)


def torch_to_bitsandbytes(folder: Path) -> float:
    """torch's AdamW → AdamW8bit; against torch going on. In units of the largest possible movement."""
    from bitsandbytes.optim import AdamW8bit

    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), **HYPER)
    train(model, optimizer, 1)
    torch.save(optimizer.state_dict(), folder / "e.pt")
    convert(folder / "e.pt", folder / "f.pt", to="bitsandbytes")
    twin = copy_of(model)
    resumed = AdamW8bit(twin.parameters(), **HYPER)
    resumed.load_state_dict(torch.load(folder / "f.pt", weights_only=True))
    train(model, optimizer, 2)
    train(twin, resumed, 2)
    pairs = zip(twin.parameters(), model.parameters(), strict=True)
    return max((a - b).abs().max().item() for a, b in pairs) / (5 * LR)


def torchao_to_torch(folder: Path) -> float:
    """torchao's AdamW8bit → torch's AdamW, whose state is what torchao reads in its codes."""
    from torchao.optim import AdamW8bit

    model = network()
    optimizer = AdamW8bit(model.parameters(), **HYPER)
    train(model, optimizer, 1)
    torch.save(optimizer.state_dict(), folder / "g.pt")
    convert(folder / "g.pt", folder / "h.pt", to="torch", decay="decoupled")
    resumed = torch.optim.AdamW(model.parameters(), **HYPER)
    resumed.load_state_dict(torch.load(folder / "h.pt", weights_only=True))
    states = [(optimizer.state[p], resumed.state[p]) for p in model.parameters()]
    worst = 0.0
    for theirs, ours in states:
        for slot in ("exp_avg", "exp_avg_sq"):
            value = theirs[slot].dequantize() if type(theirs[slot]) is not torch.Tensor else theirs[slot]
            worst = max(worst, (value - ours[slot]).abs().max().item())
    return worst


def deepspeed_universal(folder: Path) -> float:
    """ZeRO → neutral form → universal, loaded by DeepSpeed; against DeepSpeed going on uninterrupted."""
    workers = subprocess.run([sys.executable, "-W", "ignore", __file__, "deepspeed", str(folder)], check=True)
    assert workers.returncode == 0
    return float((folder / "deepspeed.txt").read_text())


def deepspeed_run(folder: Path) -> None:
    os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "DS_ACCELERATOR": "cpu"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29651"}
    import deepspeed

    def engine_of(model: nn.Module, universal: bool) -> Any:
        matrices = [p for p in model.parameters() if p.ndim > 1]
        vectors = [p for p in model.parameters() if p.ndim < 2]
        groups = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
        config = {
            "train_micro_batch_size_per_gpu": 16,
            "zero_optimization": {"stage": 1},
            "zero_allow_untested_optimizer": True,
            "checkpoint": {"load_universal": universal},
        }
        return deepspeed.initialize(model=model, optimizer=torch.optim.AdamW(groups, **HYPER), config=config)[
            0
        ]

    def train_engine(engine: Any, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for _ in range(5):
            engine.backward(engine(torch.randn(16, 64, generator=generator)).pow(2).mean())
            engine.step()

    engine = engine_of(network(), universal=False)
    train_engine(engine, 1)
    engine.save_checkpoint(folder / "zero", tag="at5")
    convert(folder / "zero", folder / "universal", to="deepspeed-universal")
    model_file = "mp_rank_00_model_states.pt"
    (folder / "universal" / model_file).write_bytes((folder / "zero" / "at5" / model_file).read_bytes())
    (folder / "latest_universal").write_text("universal")
    resumed = engine_of(nn.Linear(64, 65), universal=True)
    resumed.load_checkpoint(folder)
    train_engine(engine, 2)
    train_engine(resumed, 2)
    (folder / "deepspeed.txt").write_text(repr(off(resumed.module, engine.module)))


CASES = [
    (torch_to_optax, 4e-6),
    (optax_to_torch, 0.0),
    (bitsandbytes_and_back, 0.0),
    (torch_to_bitsandbytes, 1.0),
    (torchao_to_torch, 0.0),
    (deepspeed_universal, 0.0),
]


def main() -> None:
    failed = False
    with tempfile.TemporaryDirectory() as name:
        for case, most in CASES:
            measured = case(Path(name))
            failed |= not measured <= most
            print(f"{case.__name__:24} {measured:.3g} (predicted at most {most:g})", flush=True)
    raise SystemExit(failed)


if __name__ == "__main__":
    if sys.argv[1:2] == ["deepspeed"]:
        deepspeed_run(Path(sys.argv[2]))
    else:
        main()
