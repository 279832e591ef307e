"""The whole model in bfloat16 at lr 6e-6: every 1 - ηλ rounds to 1, and small steps vanish as well."""

import torch
from torch import nn

SOURCE = "https://github.com/NVIDIA-NeMo/Automodel/pull/3444"
FINDINGS = {
    "rounds-to-nothing": ["0.weight", "2.weight"],
    "averages-stall": ["0.weight", "2.weight"],  # β₂ = 0.999 in bfloat16 state
}
NOTES = ["timescale-too-long"]  # η·λ = 6e-7 would be weak in float32 too
PLAN = {"steps": 10_000}


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Sequential(nn.Linear(16, 32, bias=False), nn.GELU(), nn.Linear(32, 4, bias=False))
    model.to(torch.bfloat16)
    return model, torch.optim.AdamW(model.parameters(), lr=6e-6, weight_decay=0.1)
