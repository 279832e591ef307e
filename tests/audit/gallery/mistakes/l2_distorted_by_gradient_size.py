"""Adam with L2 on features of very different sizes: weights with small gradients decay, the others hardly
do.
"""

import torch
from torch import nn

SOURCE = "https://github.com/mapbox/robosat/pull/166"
FINDINGS = {"l2-in-adaptive": ["0.weight", "2.weight"], "distorted-decay": None}
PLAN = {"steps": 5_000}


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 64, bias=False), nn.Tanh(), nn.Linear(64, 1, bias=False))
    return model, torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-3)


def train(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    sizes = torch.logspace(-1.5, 1, 32)  # columns in metres, in kilometres, in percent ...
    for _ in range(60):
        optimizer.zero_grad()
        x = torch.randn(64, 32) * sizes
        (model(x) - x[:, -1:].sign()).square().mean().backward()
        optimizer.step()
