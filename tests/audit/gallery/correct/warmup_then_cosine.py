"""Linear warm-up and cosine by SequentialLR; λ chosen so that 1/(ηλ) is a tenth of the run."""

import torch
from torch import nn

PLAN = {"steps": 20_000, "steps_per_epoch": 1_000}


def build():
    model = nn.Sequential(nn.Linear(16, 64, bias=False), nn.LayerNorm(64), nn.GELU(), nn.Linear(64, 4))
    groups = [
        {"params": [model[0].weight, model[3].weight], "weight_decay": 0.5},
        {"params": [*model[1].parameters(), model[3].bias], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-3)
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, 1e-3, total_iters=1_000)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=19_000)
    scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, [warmup, cosine], milestones=[1_000])
    return model, optimizer, scheduler
