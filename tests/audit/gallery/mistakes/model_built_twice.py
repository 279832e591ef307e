"""The model is instantiated a second time before the loop; the optimizer holds the first one's weights."""

import torch
from torch import nn

SOURCE = "https://github.com/spro/practical-pytorch/issues/9"
FINDINGS = {"not-of-model": None, "not-in-optimizer": ["*"]}
PLAN = {"steps": 10_000}


class RNN(nn.Module):
    def __init__(self, inputs: int = 8, hidden: int = 16, outputs: int = 4) -> None:
        super().__init__()
        self.i2h = nn.Linear(inputs + hidden, hidden)
        self.i2o = nn.Linear(inputs + hidden, outputs)

    def forward(self, x: torch.Tensor, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        both = torch.cat((x, hidden), 1)
        return self.i2o(both).log_softmax(1), self.i2h(both)


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    rnn = RNN()
    optimizer = torch.optim.SGD(rnn.parameters(), lr=0.005)
    rnn = RNN()  # the notebook's second cell
    return rnn, optimizer
