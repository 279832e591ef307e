"""model.half() with Adam's default ε = 1e-8, which is 0 in float16: 0/0 where a gradient is zero."""

import torch
from torch import nn

SOURCE = "https://github.com/chainer/chainer/issues/6299"
FINDINGS = {"eps-too-small": ["0.weight", "0.bias", "2.weight", "2.bias"]}
PLAN = {"steps": 10_000}


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4)).half()
    return model, torch.optim.Adam(model.parameters(), lr=1e-3)
