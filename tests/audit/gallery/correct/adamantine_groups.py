"""adamantine.param_groups decides who decays, for torch's own AdamW."""

import torch
from torch import nn

from adamantine import param_groups

PLAN = {"steps": 10_000, "steps_per_epoch": 500}


class Net(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.embedding = nn.Embedding(30, width)
        self.positions = nn.Parameter(0.02 * torch.randn(1, 12, width))
        layer = nn.TransformerEncoderLayer(width, 4, 32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, num_layers=2, enable_nested_tensor=False)
        self.out = nn.Linear(width, 30)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.out(self.encoder(self.embedding(tokens) + self.positions))


def build():
    model = Net()
    optimizer = torch.optim.AdamW(param_groups(model, lr=1e-3, weight_decay=0.1))
    return model, optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10_000)
