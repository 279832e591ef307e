"""ReZero's resweight is a scalar that opens each branch; decay keeps closing it."""

import torch
from torch import nn

SOURCE = "https://github.com/majumderb/rezero/issues/14"
FINDINGS = {"decays-scalar": ["*.resweight"]}
PLAN = {"steps": 10_000}


class ReZeroLayer(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.resweight = nn.Parameter(torch.tensor(0.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.resweight * self.linear(x).relu()


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Sequential(ReZeroLayer(), ReZeroLayer(), ReZeroLayer())
    named = list(model.named_parameters())
    groups = [
        {"params": [p for n, p in named if "bias" not in n], "weight_decay": 0.1},
        {"params": [p for n, p in named if "bias" in n], "weight_decay": 0.0},
    ]
    return model, torch.optim.AdamW(groups, lr=1e-3)
