"""float32 weights, bfloat16 autocast: what multiplies is rounded, what is remembered is not."""

import torch
from torch import nn

PLAN = {"steps": 20_000}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(16, 64), nn.LayerNorm(64), nn.GELU(), nn.Linear(64, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.body(x)


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = Net()
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    return model, torch.optim.AdamW(groups, lr=6e-4)


def train(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for _ in range(30):
        optimizer.zero_grad()
        x = torch.randn(64, 16)
        (model(x).float() - x[:, :4]).square().mean().backward()
        optimizer.step()
