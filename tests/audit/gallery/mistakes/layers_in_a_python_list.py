"""Layers in a plain list are no part of the model; their parameters were given to the optimizer by hand."""

import torch
from torch import nn

SOURCE = "https://github.com/pytorch/pytorch/issues/59925"
FINDINGS = {"not-of-model": None}  # they train, and are in no checkpoint, no .to(), no .train()
PLAN = {"steps": 10_000}


class Net(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.layers = [nn.Linear(width, width, bias=False) for _ in range(3)]
        self.head = nn.Linear(width, 4, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x).relu()
        return self.head(x)


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = Net()
    parameters = list(model.parameters()) + [p for layer in model.layers for p in layer.parameters()]
    return model, torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.1)
