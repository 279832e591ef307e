"""Twice the epochs and the old T_max: after the minimum the cosine climbs, and the run ends at its full
lr.
"""

import torch
from torch import nn

SOURCE = "https://github.com/CodefyUI/CodefyUI/issues/205"
FINDINGS = {"schedule-ends-early": None}
PLAN = {"steps": 20_000}


def build():
    model = nn.Sequential(nn.Linear(16, 32, bias=False), nn.ReLU(), nn.Linear(32, 4, bias=False))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    return model, optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10_000)
