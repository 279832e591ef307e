"""An optimizer that decays parameters whose gradient is None, given the whole model with a frozen
backbone.
"""

import torch
from torch import nn

SOURCE = "https://github.com/KellerJordan/Muon/issues/54"
FINDINGS = {"frozen-decays": ["backbone.0.weight", "backbone.2.weight"]}
PLAN = {"steps": 10_000}


class Muonish(torch.optim.Optimizer):
    """Momentum and decay; the decay comes before the test for a gradient."""

    def __init__(self, params, lr=0.02, weight_decay=0.0, momentum=0.95):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure=None):
        loss = closure() if closure is not None else None
        for group in self.param_groups:
            for p in group["params"]:
                p.mul_(1 - group["lr"] * group["weight_decay"])  # the mistake: before the next line
                if p.grad is None:
                    continue
                buffer = self.state[p].setdefault("momentum_buffer", torch.zeros_like(p))
                buffer.mul_(group["momentum"]).add_(p.grad)
                p.sub_(buffer / (buffer.norm() + 1e-7), alpha=group["lr"])
        return loss


class Finetuned(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(16, 32, bias=False), nn.ReLU(), nn.Linear(32, 32, bias=False))
        self.head = nn.Linear(32, 4, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone(x))


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = Finetuned()
    model.backbone.requires_grad_(False)
    return model, Muonish(model.parameters(), lr=1e-3, weight_decay=0.1)
