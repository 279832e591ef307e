"""OneCycleLR is told the batches per epoch rounded down, the loop runs them rounded up: it raises near
the end.
"""

import torch
from torch import nn

SOURCE = "https://github.com/huggingface/accelerate/issues/874"
FINDINGS = {"schedule-ends-early": None}
EXAMPLES, BATCH, EPOCHS = 1_490, 16, 30
PLAN = {"steps": -(-EXAMPLES // BATCH) * EPOCHS, "steps_per_epoch": -(-EXAMPLES // BATCH)}


def build():
    model = nn.Sequential(nn.Linear(16, 32, bias=False), nn.ReLU(), nn.Linear(32, 4, bias=False))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.5)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=3e-3, epochs=EPOCHS, steps_per_epoch=EXAMPLES // BATCH
    )
    return model, optimizer, scheduler
