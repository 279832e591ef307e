"""L-BFGS on a small regression: needs a closure, has no weight_decay key."""

import torch
from torch import nn

PLAN = {"steps": 20}


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    return model, torch.optim.LBFGS(model.parameters(), lr=1.0, line_search_fn="strong_wolfe")


def train(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    x = torch.randn(64, 4)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (model(x) - x[:, :1].sin()).square().mean()
        loss.backward()
        return loss

    for _ in range(3):
        optimizer.step(closure)
