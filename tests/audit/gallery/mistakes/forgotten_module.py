"""Groups are listed part by part, and a layer that was added to the model later is in none of them."""

import torch
from torch import nn

SOURCE = "https://github.com/ohhhyeahhh/SiamCAR/issues/18"
FINDINGS = {"not-in-optimizer": ["down.weight", "down.bias"]}
PLAN = {"steps": 10_000}


class Tracker(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Conv2d(3, 8, 3, bias=False)
        self.neck = nn.Conv2d(8, 8, 1, bias=False)
        self.down = nn.ConvTranspose2d(16, 8, 1, 1)
        self.car_head = nn.Conv2d(8, 4, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.neck(self.backbone(x))
        return self.car_head(self.down(torch.cat([x, x.relu()], 1)))


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = Tracker()
    trainable_params = [
        {"params": [p for p in model.backbone.parameters() if p.requires_grad], "lr": 0.001},
        {"params": list(model.neck.parameters()), "lr": 0.01},
        {"params": list(model.car_head.parameters()), "lr": 0.01},
    ]
    return model, torch.optim.SGD(trainable_params, lr=0.01, momentum=0.9, weight_decay=1e-3)
