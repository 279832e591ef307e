"""Parts are concatenated and a tied matrix comes along with each: it is stepped twice per step."""

import warnings

import torch
from torch import nn

SOURCE = "https://github.com/pytorch/pytorch/issues/40967"
FINDINGS = {"twice": ["embedding.weight"]}
PLAN = {"steps": 10_000}


class Head(nn.Module):
    def __init__(self, weight: nn.Parameter) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight.T


class LanguageModel(nn.Module):
    def __init__(self, vocabulary: int = 40, width: int = 16) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.body = nn.Linear(width, width, bias=False)
        self.head = Head(self.embedding.weight)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(self.embedding(tokens)))


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = LanguageModel()
    parts = [*model.embedding.parameters(), *model.body.parameters(), *model.head.parameters()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch does warn; in a real log it is one line of many
        return model, torch.optim.SGD(parts, lr=0.1, momentum=0.9)
