"""AdamW with ReduceLROnPlateau: a schedule that depends on the loss, which nobody knows before the run."""

import torch
from torch import nn

from adamantine import param_groups

PLAN = {"steps": 10_000}
NOTES = ["schedule-unknown"]  # nobody can


def build():
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1))
    optimizer = torch.optim.AdamW(param_groups(model, lr=1e-3, weight_decay=0.1))
    return model, optimizer, torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=3)
