"""The whole model given to AdamW with a frozen backbone: gradients stay None, and torch leaves those
alone.
"""

import torch
from torch import nn

PLAN = {"steps": 10_000}
NOTES = ["frozen-decays"]  # nothing moves them, as long as gradients stay None


class Finetuned(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32)).requires_grad_(False)
        self.head = nn.Linear(32, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone(x))


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = Finetuned()
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    return model, torch.optim.AdamW(groups, lr=1e-3)


def train(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for _ in range(20):
        optimizer.zero_grad()
        x = torch.randn(64, 16)
        (model(x) - x[:, :4]).square().mean().backward()
        optimizer.step()
