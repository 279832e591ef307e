"""Lion as its paper says: lr a tenth of AdamW's, λ ten times it."""

import torch
from torch import nn

import adamantine.torch
from adamantine import param_groups

PLAN = {"steps": 10_000}


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Sequential(nn.Linear(16, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 4))
    return model, adamantine.torch.Lion(param_groups(model, lr=1e-4, weight_decay=1.0))


def train(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for _ in range(30):
        optimizer.zero_grad()
        x = torch.randn(64, 16)
        (model(x) - x[:, :4]).square().mean().backward()
        optimizer.step()
