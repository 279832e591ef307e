"""Ridge regression by SGD with L2 on all data at once: at its optimum, decay and gradient cancel exactly."""

import torch
from torch import nn

PLAN = {"steps": 100}
NOTES = ["far-from-equilibrium"]  # its gradients have a direction


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Linear(10, 1, bias=False)
    return model, torch.optim.SGD(model.parameters(), lr=0.3, weight_decay=0.04)


def train(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    x = torch.randn(200, 10)
    y = x @ torch.randn(10, 1) + 0.1 * torch.randn(200, 1)
    for _ in range(100):
        optimizer.zero_grad()
        (model(x) - y).square().mean().backward()
        optimizer.step()
