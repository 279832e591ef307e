"""Adam with weight_decay taken for AdamW: λθ joins the gradient and is divided by √v̂ like the rest of it."""

import torch
from torch import nn

SOURCE = "https://github.com/pytorch/pytorch/issues/38767"
FINDINGS = {"l2-in-adaptive": ["0.weight", "2.weight", "4.weight"]}
PLAN = {"steps": 10_000}


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    weights = [p for p in model.parameters() if p.ndim == 2]
    biases = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": weights, "weight_decay": 0.01}, {"params": biases, "weight_decay": 0.0}]
    return model, torch.optim.Adam(groups, lr=1e-3)
