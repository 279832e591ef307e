"""Pretraining with weights in bfloat16 and no float32 copy: λ looks right, 1 - 6e-5 is 1 in bfloat16."""

import torch
from torch import nn

SOURCE = "https://github.com/workofart/ml-by-hand/pull/85"
FINDINGS = {"rounds-to-nothing": ["embed.weight", "mlp.up.weight", "mlp.down.weight"]}
NOTES = ["decays-table"]
PLAN = {"steps": 50_000}


class Model(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.embed = nn.Embedding(40, width)
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.ModuleDict({"up": nn.Linear(width, 64), "down": nn.Linear(64, width)})

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.embed(tokens))
        return self.mlp["down"](self.mlp["up"](x).relu()) @ self.embed.weight.T


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = Model().bfloat16()
    groups = [
        {"params": [p for p in model.parameters() if p.dim() >= 2], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    return model, torch.optim.AdamW(groups, lr=6e-4, betas=(0.9, 0.95))
