"""The grouping of HF's Trainer, with a filter that knows this model's norms; linear warm-up and decay."""

import torch
from torch import nn

PLAN = {"steps": 20_000, "steps_per_epoch": 2_000}
NOTES = ["decays-table"]  # as HF does it


class RMSNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


class Model(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(50, width)
        self.input_layernorm = RMSNorm(width)
        self.up_proj = nn.Linear(width, 2 * width)
        self.down_proj = nn.Linear(2 * width, width)
        self.norm = RMSNorm(width)
        self.score = nn.Linear(width, 3)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed_tokens(tokens)
        x = x + self.down_proj(self.up_proj(self.input_layernorm(x)).relu())
        return self.score(self.norm(x).mean(1))


def build():
    model = Model()
    no_decay = ["bias", "norm.weight", "layernorm.weight"]
    named = list(model.named_parameters())
    groups = [
        {"params": [p for n, p in named if not any(nd in n for nd in no_decay)], "weight_decay": 0.1},
        {"params": [p for n, p in named if any(nd in n for nd in no_decay)], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=5e-4)

    def linear(step: int) -> float:
        return step / 1_000 if step < 1_000 else max(0.0, (20_000 - step) / 19_000)

    return model, optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, linear)
