"""`n not in no_decay` compares whole names with fragments of names: nothing is ever spared."""

import torch
from torch import nn

SOURCE = "https://github.com/huggingface/transformers/pull/32"
FINDINGS = {
    "decays-bias": ["dense.bias", "classifier.bias"],
    "decays-norm": ["LayerNorm.weight", "LayerNorm.bias"],
}
PLAN = {"steps": 10_000}


class Classifier(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.LayerNorm = nn.LayerNorm(width)
        self.classifier = nn.Linear(width, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.LayerNorm(self.dense(x).tanh()))


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = Classifier()
    no_decay = ["bias", "gamma", "beta"]
    groups = [
        {"params": [p for n, p in model.named_parameters() if n not in no_decay], "weight_decay": 0.1},
        {"params": [p for n, p in model.named_parameters() if n in no_decay], "weight_decay": 0.0},
    ]
    return model, torch.optim.AdamW(groups, lr=1e-3)
