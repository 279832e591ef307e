"""An auxiliary head whose loss has weight 0: its gradients are zeros, and decay alone moves it, towards
zero.
"""

import torch
from torch import nn

SOURCE = "https://github.com/huggingface/diffusers/issues/1176"
FINDINGS = {"decay-dominates": ["auxiliary.weight"]}
PLAN = {"steps": 1_000}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Linear(16, 32, bias=False)
        self.head = nn.Linear(32, 4, bias=False)
        self.auxiliary = nn.Linear(32, 4, bias=False)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = self.trunk(x).relu()
        return self.head(hidden), self.auxiliary(hidden)


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = Net()
    return model, torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1.0)


def train(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    auxiliary_weight = 0.0
    for _ in range(40):
        optimizer.zero_grad()
        x = torch.randn(32, 16)
        main, auxiliary = model(x)
        loss = (main - x[:, :4]).square().mean() + auxiliary_weight * auxiliary.square().mean()
        loss.backward()
        optimizer.step()
