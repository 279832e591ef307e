"""The decay is added to the gradient after the step was computed from it, so it changes nothing."""

import torch
from torch import nn

SOURCE = "https://github.com/timaeus-research/devinterp/issues/108"
FINDINGS = {"decay-ignored": ["layer1.weight", "layer2.weight"]}
PLAN = {"steps": 10_000}


class SGLD(torch.optim.Optimizer):
    def __init__(self, params, lr=1e-3, weight_decay=0.0):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        loss = closure() if closure is not None else None
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                update = -0.5 * group["lr"] * p.grad
                p.grad.add_(p, alpha=group["weight_decay"])  # too late: `update` is a new tensor
                p.add_(update)
        return loss


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer1 = nn.Linear(8, 16, bias=False)
        self.layer2 = nn.Linear(16, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer2(self.layer1(x).relu())


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = Net()
    return model, SGLD(model.parameters(), lr=1e-2, weight_decay=0.1)
