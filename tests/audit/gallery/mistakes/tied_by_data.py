"""Weights tied through .data: two parameters over one memory, stepped twice, one with decay and one
without.
"""

import torch
from torch import nn

SOURCE = "https://github.com/paiml/entrenar/issues/314"
FINDINGS = {"tied-split": ["decoder.weight", "encoder.weight"]}
PLAN = {"steps": 10_000}


class LanguageModel(nn.Module):
    def __init__(self, vocabulary: int = 40, width: int = 16) -> None:
        super().__init__()
        self.encoder = nn.Embedding(vocabulary, width)
        self.body = nn.Linear(width, width, bias=False)
        self.decoder = nn.Linear(width, vocabulary, bias=False)
        self.decoder.weight.data = self.encoder.weight.data  # not the parameter: its gradient is its own

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.body(self.encoder(tokens)))


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = LanguageModel()
    groups = [
        {"params": [model.body.weight, model.decoder.weight], "weight_decay": 0.1},
        {"params": [model.encoder.weight], "weight_decay": 0.0},
    ]
    return model, torch.optim.AdamW(groups, lr=1e-3)
