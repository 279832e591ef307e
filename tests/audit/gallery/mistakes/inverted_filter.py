"""The condition is the wrong way round: only biases and LayerNorms decay, and no matrix does."""

import torch
from torch import nn

SOURCE = "https://github.com/facebookresearch/BalancingGroups/issues/6"
FINDINGS = {
    "decays-bias": ["0.bias", "3.bias"],
    "decays-norm": ["1.weight", "1.bias"],
    "spares-matrix": ["0.weight", "3.weight"],
}
PLAN = {"steps": 10_000}


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Sequential(nn.Linear(16, 32), nn.LayerNorm(32), nn.GELU(), nn.Linear(32, 2))
    decay, no_decay = [], []
    for name, parameter in model.named_parameters():
        if name.endswith("bias") or parameter.ndim == 1:
            decay.append(parameter)
        else:
            no_decay.append(parameter)
    groups = [
        {"params": decay, "weight_decay": 0.1},
        {"params": no_decay, "weight_decay": 0.0},
    ]
    return model, torch.optim.AdamW(groups, lr=1e-3)
