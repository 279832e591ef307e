"""The list of lambdas is in another order than the groups: the matrices get the factor meant for the
vectors.
"""

import torch
from torch import nn

SOURCE = "https://github.com/microsoft/hi-ml/issues/611"
FINDINGS = {"timescale-too-long": ["0.weight", "2.weight"]}
PLAN = {"steps": 10_000}


def build():
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
    vectors = [p for p in model.parameters() if p.ndim == 1]
    matrices = [p for p in model.parameters() if p.ndim == 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3)

    def for_vectors(step: int) -> float:
        return 1e-3  # nearly frozen

    def for_matrices(step: int) -> float:
        return 1.0 - step / 10_000

    return model, optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, [for_vectors, for_matrices])
