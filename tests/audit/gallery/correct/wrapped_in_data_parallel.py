"""A model wrapped after its groups were made: names gain a prefix, parameters stay the same objects."""

import torch
from torch import nn

from adamantine import param_groups

PLAN = {"steps": 10_000}


def build():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.ReLU(), nn.Flatten(), nn.LazyLinear(4))
    net(torch.zeros(1, 3, 8, 8))  # materializes the lazy layer
    optimizer = torch.optim.AdamW(param_groups(net, lr=1e-3, weight_decay=0.1))
    scheduler = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=2_500)
    return nn.DataParallel(net), optimizer, scheduler
