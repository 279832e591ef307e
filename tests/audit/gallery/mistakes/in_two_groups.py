"""A group is appended to optimizer.param_groups by hand, past the check that torch makes in
add_param_group.
"""

import torch
from torch import nn

SOURCE = "https://github.com/pytorch/pytorch/issues/48518"
FINDINGS = {"twice": ["head.weight"]}
PLAN = {"steps": 10_000}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Linear(16, 16, bias=False)
        self.head = nn.Linear(16, 4, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.trunk(x).relu())


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = Net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    group = {**optimizer.param_groups[0], "params": list(model.head.parameters()), "lr": 1e-2}
    optimizer.param_groups.append(group)  # "a higher lr for the head"
    return model, optimizer
