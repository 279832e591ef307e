"""Weight decay on a state-space model's A_log, D and dt_bias; the marks _no_weight_decay are read by
nobody.
"""

import torch
from torch import nn

SOURCE = "https://github.com/athms/mad-lab/issues/5"
FINDINGS = {"decays-listed": ["*.A_log", "*.D"], "decays-bias": ["*.dt_bias"]}
PLAN = {"steps": 10_000}


class Mamba(nn.Module):
    def __init__(self, width: int = 16, states: int = 4) -> None:
        super().__init__()
        self.in_proj = nn.Linear(width, width, bias=False)
        self.A_log = nn.Parameter(torch.arange(1.0, states + 1).log().repeat(width, 1))
        self.A_log._no_weight_decay = True
        self.D = nn.Parameter(torch.ones(width))
        self.D._no_weight_decay = True
        self.dt_bias = nn.Parameter(torch.full((width,), -4.0))
        self.out_proj = nn.Linear(width, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        u = self.in_proj(x)
        gate = torch.exp(-self.A_log.exp().mean(-1) * nn.functional.softplus(self.dt_bias))
        return x + self.out_proj(u * gate + u * self.D)


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Sequential(Mamba(), Mamba())
    return model, torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
