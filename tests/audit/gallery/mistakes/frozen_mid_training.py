"""The encoder is frozen after warm-up with its gradients at zero instead of None: AdamW goes on decaying
it.
"""

import torch
from torch import nn

SOURCE = "https://github.com/facebookresearch/fairseq/issues/4702"
FINDINGS = {"frozen-decays": ["encoder.weight"]}
PLAN = {"steps": 10_000}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(16, 32, bias=False)
        self.decoder = nn.Linear(32, 4, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.encoder(x).relu())


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad(set_to_none=False)
        model(torch.randn(8, 16)).square().mean().backward()
        optimizer.step()
    optimizer.zero_grad(set_to_none=False)
    model.encoder.requires_grad_(False)
    return model, optimizer
