"""On resuming, the optimizer is wrapped and built anew; the scheduler goes on driving the first one."""

import torch
from torch import nn

SOURCE = "https://github.com/EleutherAI/gpt-neox/issues/1029"
FINDINGS = {"schedule-of-another-optimizer": None}
PLAN = {"steps": 10_000}


def get_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=1e-3)


def build():
    model = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 4))
    optimizer = get_optimizer(model)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10_000)
    resumed = get_optimizer(model)
    resumed.load_state_dict(optimizer.state_dict())
    return model, resumed, scheduler
