"""A two-step optimizer whose step() asks for a closure: nobody but a reader can tell what its λ does."""

import torch
from torch import nn

SOURCE = "https://github.com/davda54/sam/issues/8"
FINDINGS = {"unknown-decay": None}
PLAN = {"steps": 10_000}


class SAM(torch.optim.Optimizer):
    def __init__(self, params, base_optimizer, rho=0.05, **kwargs):
        super().__init__(params, {"rho": rho, **kwargs})
        self.base_optimizer = base_optimizer(self.param_groups, **kwargs)
        self.param_groups = self.base_optimizer.param_groups

    def first_step(self) -> None: ...

    def second_step(self) -> None:
        self.base_optimizer.step()

    def step(self, closure=None):
        raise NotImplementedError(
            "SAM doesn't work like the other optimizers; call first_step and second_step"
        )


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Sequential(nn.Linear(16, 32, bias=False), nn.ReLU(), nn.Linear(32, 4, bias=False))
    return model, SAM(model.parameters(), torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=1e-3)
