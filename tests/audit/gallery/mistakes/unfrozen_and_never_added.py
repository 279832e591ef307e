"""The backbone is unfrozen at epoch 5, but the optimizer was made from what trained at epoch 0."""

import torch
from torch import nn

SOURCE = "https://github.com/luxonis/luxonis-train/pull/432"
FINDINGS = {"not-in-optimizer": ["backbone.*"]}
PLAN = {"steps": 10_000}


class Finetuned(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32))
        self.head = nn.Linear(32, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone(x))


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = Finetuned()
    model.backbone.requires_grad_(False)
    optimizer = torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad], lr=0.01, momentum=0.9, weight_decay=0.0
    )
    model.backbone.requires_grad_(True)  # the callback of epoch 5
    return model, optimizer
