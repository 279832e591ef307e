"""Lion whose "decoupled" decay is a fixed (1 - λ) at every step: no warm-up, no cosine, not even lr = 0
stops it.
"""

import torch
from torch import nn

SOURCE = "https://github.com/lucidrains/lion-pytorch/issues/39"
FINDINGS = {"decay-ignores-lr": ["0.weight", "2.weight"]}
PLAN = {"steps": 10_000}


class Lion(torch.optim.Optimizer):
    def __init__(self, params, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0):
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        loss = closure() if closure is not None else None
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                m = self.state[p].setdefault("exp_avg", torch.zeros_like(p))
                p.mul_(1 - group["weight_decay"])  # the mistake: lr is missing
                p.sub_((beta1 * m + (1 - beta1) * p.grad).sign(), alpha=group["lr"])
                m.lerp_(p.grad, 1 - beta2)
        return loss


def build():
    model = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 4))
    groups = [
        {"params": [p for p in model.parameters() if p.ndim == 2], "weight_decay": 1e-4},
        {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = Lion(groups, lr=1e-4)
    return model, optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10_000)
