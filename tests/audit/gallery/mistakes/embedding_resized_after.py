"""The token embedding is resized after the optimizer was made: it trains the old table, the new one
stands still.
"""

import torch
from torch import nn

SOURCE = "https://github.com/huggingface/transformers/pull/3532"
FINDINGS = {"not-of-model": None, "not-in-optimizer": ["embedding.weight"]}
PLAN = {"steps": 10_000}


class LanguageModel(nn.Module):
    def __init__(self, vocabulary: int = 40, width: int = 16) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.body = nn.Linear(width, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.body(self.embedding(tokens)) @ self.embedding.weight.T

    def resize_token_embeddings(self, vocabulary: int) -> None:
        old = self.embedding.weight.detach()
        self.embedding = nn.Embedding(vocabulary, old.shape[1])
        self.embedding.weight.data[: len(old)] = old


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = LanguageModel()
    groups = [
        {"params": [model.body.weight], "weight_decay": 0.1},
        {"params": [model.embedding.weight, model.body.bias], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-3)
    model.resize_token_embeddings(44)  # two special tokens were added to the tokenizer
    return model, optimizer
