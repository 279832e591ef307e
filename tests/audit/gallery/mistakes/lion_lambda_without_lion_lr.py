"""λ multiplied by 100 on the way to Lion, lr left at AdamW's: weights forget within 33 of 100 000 steps."""

import torch
from torch import nn

import adamantine.torch

SOURCE = "https://github.com/lucidrains/lion-pytorch/issues/2"
FINDINGS = {"timescale-too-short": ["0.weight", "2.weight"]}
PLAN = {"steps": 100_000, "steps_per_epoch": 1_000}


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Sequential(nn.Linear(16, 32, bias=False), nn.ReLU(), nn.Linear(32, 4, bias=False))
    return model, adamantine.torch.Lion(model.parameters(), lr=3e-3, weight_decay=10.0)
