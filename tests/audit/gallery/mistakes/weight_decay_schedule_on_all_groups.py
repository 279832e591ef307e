"""A cosine schedule of weight decay writes into every group, the ones made to have none included."""

import math

import torch
from torch import nn

SOURCE = "https://github.com/facebookresearch/vissl/pull/14"
FINDINGS = {"schedule-changes-decay": ["0.bias", "1.weight", "1.bias", "3.bias"]}
PLAN = {"steps": 1_000}


class CosineWeightDecay:
    """From 0.04 to 0.4 over the run, as in DINO, but without `if i == 0`."""

    def __init__(self, optimizer: torch.optim.Optimizer, steps: int) -> None:
        self.optimizer, self.steps, self.now = optimizer, steps, -1

    def step(self) -> None:
        self.now += 1
        value = 0.4 + (0.04 - 0.4) * (1 + math.cos(math.pi * min(self.now / self.steps, 1))) / 2
        for group in self.optimizer.param_groups:
            group["weight_decay"] = value


def build():
    model = nn.Sequential(nn.Linear(16, 32), nn.LayerNorm(32), nn.GELU(), nn.Linear(32, 4))
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.04},
        {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-3)
    return model, optimizer, CosineWeightDecay(optimizer, steps=1_000)
