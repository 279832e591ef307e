"""RAdam given AdamW's λ; its decoupled_weight_decay is False unless asked, so this is L2."""

import torch
from torch import nn

SOURCE = "https://github.com/pytorch/pytorch/pull/144984"
FINDINGS = {"l2-in-adaptive": ["conv.weight", "head.weight"]}
PLAN = {"steps": 10_000}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, bias=False)
        self.bn = nn.BatchNorm2d(16)
        self.head = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.bn(self.conv(x)).relu().mean((2, 3)))


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = Net()
    decay = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decay}, {"params": rest, "weight_decay": 0.0}]
    return model, torch.optim.RAdam(groups, lr=1e-3, weight_decay=0.05)
