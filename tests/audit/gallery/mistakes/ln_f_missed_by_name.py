"""The filter looks for "norm" in the path; GPT-2 calls its norms ln_1, ln_2 and ln_f."""

import torch
from torch import nn

SOURCE = "https://github.com/unslothai/unsloth-zoo/pull/684"
FINDINGS = {"decays-norm": ["h.*.ln_1.weight", "h.*.ln_2.weight", "ln_f.weight"]}
PLAN = {"steps": 10_000}


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = nn.Linear(width, width)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT2(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.h = nn.ModuleList(Block(width) for _ in range(2))
        self.ln_f = nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, 40, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x))


def decays(name: str) -> bool:
    parts = name.lower().split(".")
    return parts[-1] != "bias" and not any("norm" in part for part in parts)


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = GPT2()
    groups = [
        {"params": [p for n, p in model.named_parameters() if decays(n)], "weight_decay": 0.1},
        {"params": [p for n, p in model.named_parameters() if not decays(n)], "weight_decay": 0.0},
    ]
    return model, torch.optim.AdamW(groups, lr=1e-3)
