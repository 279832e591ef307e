"""AdamW resumed with a param group saved before torch 2.7: the key that makes it decoupled is not in it."""

import torch
from torch import nn

SOURCE = "https://github.com/pytorch/pytorch/pull/118857"
FINDINGS = {"l2-in-adaptive": ["0.weight", "2.weight"]}
PLAN = {"steps": 10_000}


def saved_by_torch_2_6(optimizer: torch.optim.Optimizer) -> dict:
    """The state dict as that version wrote it: AdamW was a class of its own, without the flag."""
    state = optimizer.state_dict()
    for group in state["param_groups"]:
        group.pop("decoupled_weight_decay")
    return state


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 4))
    groups = [
        {"params": [p for p in model.parameters() if p.ndim == 2], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-3)
    optimizer.load_state_dict(saved_by_torch_2_6(optimizer))
    return model, optimizer
