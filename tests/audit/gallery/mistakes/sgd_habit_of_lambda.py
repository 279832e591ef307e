"""λ = 1e-4, right for SGD at lr 0.1, given to AdamW at lr 1e-3: after 5000 steps 99.95 % of a weight is
left.
"""

import torch
from torch import nn

SOURCE = "https://github.com/mlfoundations/open_clip/issues/32"
FINDINGS = {"unit-of-another-mode": ["conv.weight", "fc.weight"]}
PLAN = {"steps": 5_000}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, bias=False)
        self.bn = nn.BatchNorm2d(16)
        self.fc = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.bn(self.conv(x)).relu().mean((2, 3)))


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = Net()
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 1e-4},
        {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    return model, torch.optim.AdamW(groups, lr=1e-3)
