"""The branch for biases appends to the wrong list; norms are spared, biases are not."""

import torch
from torch import nn

SOURCE = "https://github.com/facebookresearch/vissl/pull/288"
FINDINGS = {"decays-bias": ["trunk.0.bias", "trunk.3.bias"]}
PLAN = {"steps": 10_000}


class Trunk(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(16, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.trunk(x)


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = Trunk()
    regularized, unregularized = [], []
    for module in model.modules():
        if isinstance(module, nn.Linear):
            regularized.append(module.weight)
            regularized.append(module.bias)  # the mistake
        elif isinstance(module, nn.BatchNorm1d):
            unregularized += [module.weight, module.bias]
    groups = [{"params": regularized}, {"params": unregularized, "weight_decay": 0.0}]
    return model, torch.optim.AdamW(groups, lr=1e-3, weight_decay=0.1)
