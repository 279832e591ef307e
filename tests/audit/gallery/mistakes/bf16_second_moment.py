"""Stochastic rounding for bfloat16 weights, and v in bfloat16 to nearest: 0.999·v is v, which only grows."""

import torch
from torch import nn

import adamantine.torch

SOURCE = "https://github.com/Nerogar/OneTrainer/issues/1005"
FINDINGS = {"averages-stall": ["0.weight", "2.weight"]}
PLAN = {"steps": 10_000}


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Sequential(nn.Linear(16, 32, bias=False), nn.GELU(), nn.Linear(32, 4, bias=False))
    model.to(torch.bfloat16)
    return model, adamantine.torch.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1, weights="stochastic")
