"""The loop over modules collects .weight and .bias; a bare nn.Parameter (pos_emb) is neither, and never
trains.
"""

import torch
from torch import nn

SOURCE = "https://github.com/DocF/multispectral-object-detection/issues/77"
FINDINGS = {"not-in-optimizer": ["pos_emb"]}
PLAN = {"steps": 10_000}


class Fusion(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.pos_emb = nn.Parameter(torch.zeros(1, 64, width))
        self.qkv = nn.Linear(width, width)
        self.bn = nn.BatchNorm1d(64)
        self.head = nn.Linear(width, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.bn(self.qkv(x + self.pos_emb)))


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = Fusion()
    norms, weights, biases = [], [], []
    for module in model.modules():
        if isinstance(getattr(module, "bias", None), nn.Parameter):
            biases.append(module.bias)
        if isinstance(module, nn.BatchNorm1d):
            norms.append(module.weight)
        elif isinstance(getattr(module, "weight", None), nn.Parameter):
            weights.append(module.weight)
    optimizer = torch.optim.SGD(norms, lr=0.01, momentum=0.937, nesterov=True)
    optimizer.add_param_group({"params": weights, "weight_decay": 5e-3})
    optimizer.add_param_group({"params": biases})
    return model, optimizer
