"""AdamW's λ = 0.1 kept while switching to a decay that lr no longer multiplies: 10 % of every weight per
step.
"""

import torch
from torch import nn

SOURCE = "https://github.com/LoganBooker/prodigy-plus-schedule-free/issues/29"
FINDINGS = {"unit-of-another-mode": ["0.weight", "2.weight"]}
PLAN = {"steps": 10_000}


class DecoupledAdamW(torch.optim.AdamW):
    """Decay by lr / initial_lr · λ, as in Composer."""

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            initial = group.setdefault("initial_lr", group["lr"])
            for p in group["params"]:
                if p.grad is not None:
                    p.mul_(1 - group["lr"] / initial * group["weight_decay"])
        kept = [group["weight_decay"] for group in self.param_groups]
        for group in self.param_groups:
            group["weight_decay"] = 0.0
        loss = super().step(closure)
        for group, weight_decay in zip(self.param_groups, kept, strict=True):
            group["weight_decay"] = weight_decay
        return loss


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Sequential(nn.Linear(16, 32, bias=False), nn.ReLU(), nn.Linear(32, 4, bias=False))
    return model, DecoupledAdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
