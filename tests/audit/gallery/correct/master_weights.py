"""Arithmetic in bfloat16 by hand, on copies of float32 weights: the optimizer has the float32 ones."""

import torch
from torch import nn

PLAN = {"steps": 20_000}


class MixedPrecision(nn.Module):
    """Its parameters are the master weights; the forward pass rounds copies of them."""

    def __init__(self) -> None:
        super().__init__()
        self.weight1 = nn.Parameter(0.1 * torch.randn(64, 16))
        self.weight2 = nn.Parameter(0.1 * torch.randn(4, 64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        low = torch.bfloat16
        hidden = nn.functional.linear(x.to(low), self.weight1.to(low)).relu()
        return nn.functional.linear(hidden, self.weight2.to(low)).float()


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = MixedPrecision()
    return model, torch.optim.AdamW(model.parameters(), lr=6e-4, weight_decay=0.1, betas=(0.9, 0.95))
