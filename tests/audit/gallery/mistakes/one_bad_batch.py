"""A batch with a zero under a square root: its gradient is NaN, and no step after it has a number in it."""

import torch
from torch import nn

SOURCE = "https://github.com/pytorch/torchtitan/issues/916"
FINDINGS = {"nonfinite-gradients": ["0.weight", "2.weight"]}
PLAN = {"steps": 1_000}


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16, bias=False), nn.Tanh(), nn.Linear(16, 1, bias=False))
    return model, torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1.0)


def train(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for step in range(20):
        optimizer.zero_grad()
        x = torch.randn(16, 8) if step != 10 else torch.zeros(16, 8)
        model(x).square().sum().sqrt().backward()  # d√s/ds at 0 is infinite, and 0·∞ is NaN
        optimizer.step()
