"""Fine-tuning in bfloat16 at a fine-tuning lr: most elements of each step round to nothing while it
trains.
"""

import torch
from torch import nn

SOURCE = "https://github.com/areal-project/AReaL/pull/1634"
FINDINGS = {
    "stalled-updates": ["0.weight", "2.weight"],
    "averages-stall": ["0.weight", "2.weight"],  # β₂ = 0.999 in bfloat16 state
}
PLAN = {"steps": 2_000}


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 64, bias=False), nn.Tanh(), nn.Linear(64, 8, bias=False))
    model.bfloat16()
    return model, torch.optim.AdamW(model.parameters(), lr=1e-6, weight_decay=0.0)


def train(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for _ in range(30):
        optimizer.zero_grad()
        x = torch.randn(16, 32, dtype=torch.bfloat16)
        (model(x).float() - x[:, :8].float()).square().mean().backward()
        optimizer.step()
