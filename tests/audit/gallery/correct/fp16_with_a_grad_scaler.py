"""float16 gradients under a scaler: the first steps overflow while it finds its scale, and are left out."""

import torch
from torch import nn

from adamantine import param_groups

PLAN = {"steps": 10_000}


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 64), nn.LayerNorm(64), nn.GELU(), nn.Linear(64, 4))
    return model, torch.optim.AdamW(param_groups(model, lr=1e-3, weight_decay=0.1))


def train(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    for _ in range(30):
        optimizer.zero_grad()
        x = torch.randn(64, 16)
        with torch.autocast("cpu", dtype=torch.float16):
            loss = (model(x).float() - x[:, :4]).square().mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
