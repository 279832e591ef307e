"""AdamW(params, lr): nobody asked for decay, and torch's default λ = 0.01 penalizes the run silently."""

import torch
from torch import nn

SOURCE = "https://github.com/PrimeIntellect-ai/prime-rl/pull/2422"
FINDINGS = {"default-decay": None}  # a note: the default may well be meant
PLAN = {"steps": 100_000}


class Policy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(8, 64, bias=False)
        self.action = nn.Linear(64, 4, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.action(self.hidden(x).tanh())


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = Policy()
    return model, torch.optim.AdamW(model.parameters(), lr=1e-3)
