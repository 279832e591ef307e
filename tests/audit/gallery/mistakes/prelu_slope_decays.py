"""PReLU's slope is called "weight", passes every name filter, and decay turns it into a ReLU."""

import torch
from torch import nn

SOURCE = "https://github.com/BVLC/caffe/pull/1940"
FINDINGS = {"decays-scalar": ["1.weight", "3.weight"]}
PLAN = {"steps": 10_000}


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.PReLU(16), nn.Conv2d(16, 16, 3), nn.PReLU(), nn.Flatten(), nn.Linear(256, 10)
    )
    named = list(model.named_parameters())
    groups = [
        {"params": [p for n, p in named if n.endswith("weight")], "weight_decay": 0.1},
        {"params": [p for n, p in named if n.endswith("bias")], "weight_decay": 0.0},
    ]
    return model, torch.optim.AdamW(groups, lr=1e-3)
