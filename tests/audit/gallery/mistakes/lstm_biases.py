"""The filter asks which names end in "bias"; an LSTM's are called bias_ih_l0 and bias_hh_l0."""

import torch
from torch import nn

SOURCE = "https://github.com/huggingface/transformers/pull/32"  # its thread proposes n.endswith(x)
FINDINGS = {"decays-bias": ["lstm.bias_ih_l*", "lstm.bias_hh_l*"]}
PLAN = {"steps": 10_000}


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 16, num_layers=2, bidirectional=True, batch_first=True)
        self.out = nn.Linear(32, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.lstm(x)[0])


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = Tagger()
    named = list(model.named_parameters())
    groups = [
        {"params": [p for n, p in named if not n.endswith("bias")], "weight_decay": 0.1},
        {"params": [p for n, p in named if n.endswith("bias")], "weight_decay": 0.0},
    ]
    return model, torch.optim.AdamW(groups, lr=1e-3)
