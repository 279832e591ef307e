"""bfloat16 weights with an 8-bit residual beside them, state in float32: small decay adds up there."""

import torch
from torch import nn

import adamantine.torch

PLAN = {"steps": 10_000}


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Sequential(nn.Linear(16, 32, bias=False), nn.GELU(), nn.Linear(32, 4, bias=False))
    model.to(torch.bfloat16)
    return model, adamantine.torch.AdamW(
        model.parameters(), lr=1e-3, weight_decay=0.1, state="float32", weights="split8"
    )


def train(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for _ in range(30):
        optimizer.zero_grad()
        x = torch.randn(64, 16, dtype=torch.bfloat16)
        (model(x).float() - x[:, :4].float()).square().mean().backward()
        optimizer.step()
