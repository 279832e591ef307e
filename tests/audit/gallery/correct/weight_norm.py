"""A WaveNet-like stack under weight_norm: both halves of w = g·v/‖v‖ decay, as w itself would."""

import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

PLAN = {"steps": 10_000}


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Sequential(
        weight_norm(nn.Conv1d(4, 16, 3)), nn.ReLU(), weight_norm(nn.Conv1d(16, 16, 3)), nn.Conv1d(16, 2, 1)
    )
    named = list(model.named_parameters())
    groups = [
        {"params": [p for n, p in named if not n.endswith("bias")], "weight_decay": 0.1},
        {"params": [p for n, p in named if n.endswith("bias")], "weight_decay": 0.0},
    ]
    return model, torch.optim.AdamW(groups, lr=1e-3)


def train(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for _ in range(30):
        optimizer.zero_grad()
        x = torch.randn(16, 4, 20)
        (model(x) - x[:, :2, 2:-2]).square().mean().backward()
        optimizer.step()
