"""Independent decay under OneCycleLR, which starts at max_lr / 25: the peak is stated, so η_t/η_max is
right.
"""

import torch
from torch import nn

import adamantine.torch
from adamantine import param_groups

PLAN = {"steps": 10_000}


def build():
    model = nn.Sequential(nn.Linear(16, 32), nn.LayerNorm(32), nn.ReLU(), nn.Linear(32, 4))
    optimizer = adamantine.torch.AdamW(
        param_groups(model, lr=2e-3, weight_decay=1e-4), decay="independent", peak_lr=2e-3
    )
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=10_000)
    return model, optimizer, scheduler
