"""SparseAdam for an embedding with sparse gradients, AdamW for the rest."""

import torch
from torch import nn

PLAN = {"steps": 20_000}


class Recommender(nn.Module):
    def __init__(self, items: int = 200, width: int = 8) -> None:
        super().__init__()
        self.items = nn.EmbeddingBag(items, width, sparse=True, mode="mean")
        self.tower = nn.Sequential(nn.Linear(width, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, bags: torch.Tensor) -> torch.Tensor:
        return self.tower(self.items(bags))


def build():
    model = Recommender()
    dense = [
        {"params": [p for p in model.tower.parameters() if p.ndim > 1], "weight_decay": 0.1},
        {"params": [p for p in model.tower.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    sparse = torch.optim.SparseAdam(model.items.parameters(), lr=1e-3)
    return model, [torch.optim.AdamW(dense, lr=1e-3), sparse]


def train(model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> None:
    for _ in range(20):
        for optimizer in optimizers:
            optimizer.zero_grad()
        bags = torch.randint(0, 200, (32, 5))
        wanted = bags.float().mean(1, keepdim=True) / 200
        (model(bags) - wanted).square().mean().backward()
        for optimizer in optimizers:
            optimizer.step()
