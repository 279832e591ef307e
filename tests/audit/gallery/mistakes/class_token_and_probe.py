"""A ViT's class token, position table and learned probe shrink towards zero with the matrices."""

import torch
from torch import nn

SOURCE = "https://github.com/EvolvingLMMs-Lab/OneVision-Encoder/pull/66"
FINDINGS = {"decays-table": ["cls_token", "pos_embed", "query_tokens"]}
PLAN = {"steps": 10_000}


class ViT(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, 17, width))
        self.query_tokens = nn.Parameter(0.02 * torch.randn(1, 4, width))
        self.patch = nn.Linear(48, width)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), self.patch(x)], 1) + self.pos_embed
        x = torch.cat([x, self.query_tokens.expand(len(x), -1, -1)], 1)
        return self.head(self.norm(x).mean(1))


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = ViT()
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.05},
        {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return model, torch.optim.AdamW(groups, lr=2e-3)
