"""DINO's cosine schedule of weight decay, on the regularized group only: a change that was asked for."""

import math

import torch
from torch import nn

PLAN = {"steps": 10_000}


class CosineWeightDecay:
    def __init__(self, optimizer: torch.optim.Optimizer, steps: int) -> None:
        self.optimizer, self.steps, self.now = optimizer, steps, -1

    def step(self) -> None:
        self.now += 1
        value = 0.4 + (0.04 - 0.4) * (1 + math.cos(math.pi * min(self.now / self.steps, 1))) / 2
        for i, group in enumerate(self.optimizer.param_groups):
            if i == 0:  # only the first group is regularized
                group["weight_decay"] = value


def build():
    model = nn.Sequential(nn.Linear(16, 32), nn.LayerNorm(32), nn.GELU(), nn.Linear(32, 4))
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.04},
        {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-3)
    return model, optimizer, CosineWeightDecay(optimizer, steps=10_000)
