"""LambdaLR's function returns the lr instead of a factor: η becomes η², and decay with it."""

import torch
from torch import nn

SOURCE = "https://github.com/pytorch/pytorch/issues/78917"
FINDINGS = {"timescale-too-long": ["0.weight", "2.weight"]}
PLAN = {"steps": 10_000}


def build():
    model = nn.Sequential(nn.Linear(16, 32, bias=False), nn.ReLU(), nn.Linear(32, 4, bias=False))
    lr = 1e-3
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.1)
    return model, optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: lr)
