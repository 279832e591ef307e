"""Weights are tied after the optimizer was made: the head's old matrix stays in it, and decays for nobody."""

import torch
from torch import nn

SOURCE = "https://github.com/huggingface/transformers/pull/18676"
FINDINGS = {"not-of-model": None}
PLAN = {"steps": 10_000}


class LanguageModel(nn.Module):
    def __init__(self, vocabulary: int = 40, width: int = 16) -> None:
        super().__init__()
        self.wte = nn.Embedding(vocabulary, width)
        self.body = nn.Linear(width, width, bias=False)
        self.lm_head = nn.Linear(width, vocabulary, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.lm_head(self.body(self.wte(tokens)))

    def tie_weights(self) -> None:
        self.lm_head.weight = self.wte.weight


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = LanguageModel()
    groups = [
        {"params": [model.body.weight, model.lm_head.weight], "weight_decay": 0.1},
        {"params": [model.wte.weight], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-3)
    model.tie_weights()
    return model, optimizer
