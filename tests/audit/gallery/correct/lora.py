"""LoRA: a frozen base, and an optimizer that has nothing but the two small matrices of each layer."""

import torch
from torch import nn

PLAN = {"steps": 10_000}


class LoRALinear(nn.Module):
    def __init__(self, base: nn.Linear, rank: int = 4) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.lora_A = nn.Parameter(0.01 * torch.randn(rank, base.in_features))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, rank))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + x @ self.lora_A.T @ self.lora_B.T


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Sequential(
        nn.LayerNorm(16).requires_grad_(False),
        LoRALinear(nn.Linear(16, 32)),
        nn.GELU(),
        LoRALinear(nn.Linear(32, 16)),
    )
    trained = [p for p in model.parameters() if p.requires_grad]
    return model, torch.optim.AdamW(trained, lr=1e-3, weight_decay=0.1)


def train(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for _ in range(30):
        optimizer.zero_grad()
        x = torch.randn(64, 16)
        (model(x) - x.flip(1)).square().mean().backward()
        optimizer.step()
