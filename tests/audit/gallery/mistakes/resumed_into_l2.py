"""Adam(decoupled_weight_decay=True) resumed from an AdamW of older torch: without that key it becomes L2."""

import torch
from torch import nn

SOURCE = "https://github.com/pytorch/pytorch/pull/118857"
FINDINGS = {"l2-in-adaptive": ["0.weight", "2.weight"]}
PLAN = {"steps": 10_000}


def saved_by_older_torch(groups: list[dict]) -> dict:
    """AdamW was a class of its own, and wrote no flag."""
    state = torch.optim.AdamW(groups, lr=1e-3).state_dict()
    for group in state["param_groups"]:
        group.pop("decoupled_weight_decay", None)
    return state


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 4))
    weights = [p for p in model.parameters() if p.ndim == 2]
    biases = [p for p in model.parameters() if p.ndim == 1]

    def groups() -> list[dict]:
        return [{"params": weights, "weight_decay": 0.1}, {"params": biases, "weight_decay": 0.0}]

    optimizer = torch.optim.Adam(groups(), lr=1e-3, decoupled_weight_decay=True)
    optimizer.load_state_dict(saved_by_older_torch(groups()))
    return model, optimizer
