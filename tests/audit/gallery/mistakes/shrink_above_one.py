"""lr = 1 is left over from a method that sets it itself, λ = 2 from Lion: one step turns every sign
around.
"""

import torch
from torch import nn

SOURCE = "https://github.com/clab/dynet/issues/329"
FINDINGS = {"shrink-above-one": ["0.weight", "2.weight"]}
PLAN = {"steps": 1_000}


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Sequential(nn.Linear(16, 32, bias=False), nn.ReLU(), nn.Linear(32, 4, bias=False))
    return model, torch.optim.AdamW(model.parameters(), lr=1.0, weight_decay=2.0)
