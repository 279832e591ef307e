"""λ_norm = 0.025 of the paper's appendix B given as λ itself, without √(B/(N·T)): 2.5 % of a weight per
step.
"""

import torch
from torch import nn

import adamantine.torch

SOURCE = "https://github.com/shaoanlu/AdamW-and-SGDW/issues/1"
FINDINGS = {"unit-of-another-mode": ["0.weight", "2.weight"]}
PLAN = {"steps": 39_100, "steps_per_epoch": 391}


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Sequential(nn.Linear(16, 32, bias=False), nn.ReLU(), nn.Linear(32, 4, bias=False))
    normalized = 0.025
    optimizer = adamantine.torch.AdamW(
        model.parameters(), lr=1e-3, weight_decay=normalized, decay="independent", peak_lr=1e-3
    )
    return model, optimizer
