"""Decay by lr / initial_lr · λ, and OneCycleLR, which writes max_lr / 25 into initial_lr: 25 λ at the
peak.
"""

import torch
from torch import nn

SOURCE = "https://github.com/allenai/OLMo/pull/119"
FINDINGS = {"peak-lr-wrong": ["0.weight", "2.weight"]}
PLAN = {"steps": 10_000}


class DecoupledSGDW(torch.optim.Optimizer):
    def __init__(self, params, lr=0.1, momentum=0.9, weight_decay=0.0):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        for group in self.param_groups:
            group["initial_lr"] = group["lr"]

    @torch.no_grad()
    def step(self, closure=None):
        loss = closure() if closure is not None else None
        for group in self.param_groups:
            factor = group["lr"] / group["initial_lr"] if group["initial_lr"] else 1.0
            for p in group["params"]:
                if p.grad is None:
                    continue
                buffer = self.state[p].setdefault("momentum_buffer", torch.zeros_like(p))
                buffer.mul_(group["momentum"]).add_(p.grad)
                p.mul_(1 - factor * group["weight_decay"]).sub_(buffer, alpha=group["lr"])
        return loss


def build():
    model = nn.Sequential(nn.Linear(16, 32, bias=False), nn.ReLU(), nn.Linear(32, 4, bias=False))
    optimizer = DecoupledSGDW(model.parameters(), lr=0.1, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=10_000)
    return model, optimizer, scheduler
