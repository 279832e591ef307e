"""Cases of training that stops and goes on; also the process that goes on: ``python resuming.py FOLDER``."""

from __future__ import annotations

import hashlib
import itertools
import json
import sys
from pathlib import Path

import torch
from torch import nn

import adamantine.torch as at
from adamantine.checkpoint import load

MODES = ("none", "l2", "decoupled", "independent", "corrected", "cautious")
TORCH = "ASGD Adadelta Adafactor Adagrad Adam AdamW Adamax LBFGS NAdam RAdam RMSprop Rprop SGD".split()  # noqa: SIM905
STATES = (None, "float32", "8bit", "4bit", {"exp_avg": "4bit", "exp_avg_sq": "8bit"})
WEIGHTS = ("nearest", "stochastic", "kahan", "split8", "split16")
OPTIONS = {
    "SGD": {"momentum": 0.9, "nesterov": True},
    "SGDW": {"momentum": 0.9},
    "RMSprop": {"momentum": 0.9, "centered": True},
    "Adam": {"amsgrad": True},
}


def cases():
    """name → (class, options, dtype, whether the model is flat)."""
    found = {}
    for (name, cls), mode, engine in itertools.product(at.OPTIMIZERS.items(), MODES, ("native", "generic")):
        options = {"decay": mode, "engine": engine, "weight_decay": 0.01, **OPTIONS.get(name, {})}
        found[f"{name}-{mode}-{engine}"] = (cls, options, torch.float32, False)
    for name, cls in at.OPTIMIZERS.items():
        found[f"{name}-bf16"] = (cls, {"weight_decay": 0.01}, torch.bfloat16, False)
        found[f"{name}-bf16-fp32-state"] = (cls, {"state": "float32"}, torch.bfloat16, False)
        found[f"{name}-flat"] = (cls, {"weight_decay": 0.01}, torch.float32, True)
        coded = {**OPTIONS.get(name, {}), "state": "8bit"}
        coded.pop("centered", None)  # these averages cannot be coded
        found[f"{name}-8bit"] = (cls, coded, torch.float32, False)
        found[f"{name}-4bit-flat"] = (cls, {"state": "4bit", "weights": "split8"}, torch.bfloat16, True)
    for state, weights in itertools.product(STATES, WEIGHTS):
        options = {"state": state, "weights": weights}
        found[f"AdamW-{_word(state)}-{weights}"] = (at.AdamW, options, torch.bfloat16, False)
    for name in TORCH:
        found[f"torch-{name}"] = (getattr(torch.optim, name), OPTIONS.get(name, {}), torch.float32, False)
    return found


def _word(state):
    return "mixed" if isinstance(state, dict) else str(state)


def net(dtype=torch.float32, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 50), nn.Tanh(), nn.Linear(50, 2)).to(dtype)


def build(cls, options, dtype, flat, *, seed=0):
    model = net(dtype, seed)
    if flat:
        at.flatten(model)
    optimizer = cls(model.named_parameters() if seed else model.parameters(), lr=0.01, **options)
    scheduler = torch.optim.lr_scheduler.SequentialLR(
        optimizer,
        [
            torch.optim.lr_scheduler.LinearLR(optimizer, 0.5, total_iters=2),
            torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 5]),
        ],
        milestones=[3],
    )
    return model, optimizer, scheduler


def train(model, optimizer, scheduler, first, last):
    for step in range(first, last):
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(4, 3, generator=generator).to(next(model.parameters()).dtype)

        def closure(x=x):
            optimizer.zero_grad()
            loss = model(x).square().mean()
            loss.backward()
            return loss

        optimizer.step(closure)
        scheduler.step()


def digest(model):
    content = b"".join(
        p.detach().contiguous().view(torch.uint8).numpy().tobytes() for p in model.parameters()
    )
    return hashlib.sha256(content).hexdigest()


def main(folder):
    torch.set_num_threads(1)
    found = {}
    for name, case in cases().items():
        model, optimizer, scheduler = build(*case, seed=1)  # other weights, until they are loaded
        load(folder / f"{name}.safetensors", optimizer, model=model, scheduler=scheduler)
        train(model, optimizer, scheduler, 5, 10)
        found[name] = digest(model)
    (folder / "digests.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
