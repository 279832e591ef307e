"""Independent decay divides by the peak lr; a LambdaLR that multiplies by up to 10 hides where that is."""

import torch
from torch import nn

import adamantine.torch

SOURCE = "https://github.com/NVIDIA/apex/issues/1849"
FINDINGS = {"peak-lr-wrong": ["0.weight", "2.weight"]}
PLAN = {"steps": 10_000}


def build():
    model = nn.Sequential(nn.Linear(16, 32, bias=False), nn.ReLU(), nn.Linear(32, 4, bias=False))
    optimizer = adamantine.torch.AdamW(model.parameters(), lr=1e-4, weight_decay=1e-4, decay="independent")

    def triangle(step: int) -> float:
        return 1.0 + 9.0 * min(step / 1_000, (10_000 - step) / 9_000)

    return model, optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, triangle)
