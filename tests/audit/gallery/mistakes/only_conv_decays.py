"""no_weight_decay_on_bn keeps decay for conv.weight alone; the fully connected layers lose theirs as well."""

import torch
from torch import nn

SOURCE = "https://github.com/hysts/pytorch_image_classification/issues/31"
FINDINGS = {"spares-matrix": ["fc1.weight", "fc2.weight"]}
PLAN = {"steps": 10_000}


class ConvNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, bias=False)
        self.bn = nn.BatchNorm2d(16)
        self.fc1 = nn.Linear(16, 64)
        self.fc2 = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.fc1(self.bn(self.conv(x)).relu().mean((2, 3))).relu())


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = ConvNet()
    with_decay = [p for n, p in model.named_parameters() if "conv.weight" in n]
    without = [p for n, p in model.named_parameters() if "conv.weight" not in n]
    groups = [
        {"params": with_decay, "weight_decay": 1e-3},
        {"params": without, "weight_decay": 0.0},
    ]
    return model, torch.optim.SGD(groups, lr=0.1, momentum=0.9)
