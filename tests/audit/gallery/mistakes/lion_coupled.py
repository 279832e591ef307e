"""Lion whose decay is folded into the gradient before the sign: it turns signs around and never shrinks."""

import torch
from torch import nn

SOURCE = "https://github.com/bitsandbytes-foundation/bitsandbytes/issues/1992"
FINDINGS = {"l2-in-adaptive": ["0.weight", "2.weight"]}
PLAN = {"steps": 10_000}


class Lion(torch.optim.Optimizer):
    """The 32-bit path of that report, in PyTorch."""

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
                g = p.grad + group["weight_decay"] * p  # the mistake
                m = self.state[p].setdefault("exp_avg", torch.zeros_like(p))
                p.sub_((beta1 * m + (1 - beta1) * g).sign(), alpha=group["lr"])
                m.lerp_(g, 1 - beta2)
        return loss


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 4))
    groups = [
        {"params": [p for p in model.parameters() if p.ndim == 2], "weight_decay": 1.0},
        {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    return model, Lion(groups, lr=1e-4)
