"""no_decay = ["bias", "LayerNorm.weight"]: the head spells it layer_norm, and its scale decays."""

import torch
from torch import nn

SOURCE = "https://github.com/huggingface/transformers/issues/16908"
FINDINGS = {"decays-norm": ["lm_head.layer_norm.weight"]}
PLAN = {"steps": 10_000}


class Output(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.LayerNorm = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.LayerNorm(x + self.dense(x))


class LMHead(nn.Module):
    def __init__(self, width: int, vocabulary: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.layer_norm = nn.LayerNorm(width)
        self.decoder = nn.Linear(width, vocabulary)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.layer_norm(self.dense(x).relu()))


class MaskedLM(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(Output(16), Output(16))
        self.lm_head = LMHead(16, 40)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lm_head(self.encoder(x))


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = MaskedLM()
    no_decay = ["bias", "LayerNorm.weight"]
    named = list(model.named_parameters())
    groups = [
        {"params": [p for n, p in named if not any(nd in n for nd in no_decay)], "weight_decay": 0.1},
        {"params": [p for n, p in named if any(nd in n for nd in no_decay)], "weight_decay": 0.0},
    ]
    return model, torch.optim.AdamW(groups, lr=1e-3)
