"""Input and output embedding are one parameter, in one group, without decay."""

import torch
from torch import nn

PLAN = {"steps": 10_000}


class LanguageModel(nn.Module):
    def __init__(self, vocabulary: int = 40, width: int = 16) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.body = nn.GRU(width, width, batch_first=True)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(self.embed(tokens))[0])


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = LanguageModel()
    matrices = [model.body.weight_ih_l0, model.body.weight_hh_l0]
    chosen = {id(p) for p in matrices}
    groups = [
        {"params": matrices, "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if id(p) not in chosen], "weight_decay": 0.0},
    ]
    return model, torch.optim.AdamW(groups, lr=1e-3)
