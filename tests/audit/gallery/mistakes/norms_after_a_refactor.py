"""A refactor drops weight_decay=False from the norms: all but the SSM's marked parameters decay again."""

import torch
from torch import nn

SOURCE = "https://github.com/ServiceNow/Fast-LLM/issues/542"
FINDINGS = {"decays-norm": ["mixer_norm.scale", "final_norm.scale", "final_norm.shift"]}
PLAN = {"steps": 10_000}


def parameter(value: torch.Tensor, weight_decay: bool = True) -> nn.Parameter:
    """What every layer calls to make a parameter; the default is the mistake's second half."""
    made = nn.Parameter(value)
    made.wants_decay = weight_decay
    return made


class Normalization(nn.Module):
    def __init__(self, width: int, shifts: bool = False) -> None:
        super().__init__()
        self.scale = parameter(torch.ones(width))  # was weight_decay=False
        self.shift = parameter(torch.zeros(width)) if shifts else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.scale * nn.functional.normalize(x, dim=-1)
        return x if self.shift is None else x + self.shift


class Model(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.mixer_norm = Normalization(width)
        self.mixer = parameter(0.02 * torch.randn(width, width))
        self.dt_bias = parameter(torch.zeros(width), weight_decay=False)
        self.final_norm = Normalization(width, shifts=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.final_norm(self.mixer_norm(x) @ self.mixer + self.dt_bias)


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = Model()
    groups = [
        {"params": [p for p in model.parameters() if p.wants_decay], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if not p.wants_decay], "weight_decay": 0.0},
    ]
    return model, torch.optim.AdamW(groups, lr=1e-3)
