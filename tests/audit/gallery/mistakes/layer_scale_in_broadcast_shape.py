"""LayerScale's gamma has shape (C, 1, 1) to broadcast over pixels, so `ndim > 1` takes it for a matrix."""

import torch
from torch import nn

SOURCE = "https://github.com/ServiceNow/Fast-LLM/pull/545"
FINDINGS = {"decays-scalar": ["blocks.*.gamma"]}
PLAN = {"steps": 10_000}


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.GroupNorm(1, width)
        self.pwconv = nn.Conv2d(width, width, 1)
        self.gamma = nn.Parameter(1e-6 * torch.ones(width, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.gamma * self.pwconv(self.norm(self.dwconv(x)))


class ConvNeXt(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 4, 4)
        self.blocks = nn.Sequential(Block(width), Block(width))
        self.head = nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = ConvNeXt()
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.05},
        {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return model, torch.optim.AdamW(groups, lr=4e-3)
