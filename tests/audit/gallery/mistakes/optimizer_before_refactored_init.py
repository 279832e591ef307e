"""A base class makes the optimizer in its constructor; the subclass then replaces a layer."""

import torch
from torch import nn

SOURCE = "https://github.com/pytorch/pytorch/issues/14467"
FINDINGS = {"not-of-model": None, "not-in-optimizer": ["decoder.weight", "decoder.bias"]}
PLAN = {"steps": 10_000}


class Base(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.encoder = nn.Linear(8, hidden)
        self.decoder = nn.Linear(hidden, 8)
        self.optimizer = torch.optim.Adam(self.parameters(), lr=1e-3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.encoder(x).tanh())


class WithMemory(Base):
    def __init__(self, hidden: int = 16) -> None:
        super().__init__(hidden)
        self.decoder = nn.Linear(hidden, 12)


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = WithMemory()
    return model, model.optimizer
