"""torchvision's ResNet recipe: SGD with momentum and L2 1e-4 on all parameters, biases and BatchNorm too.

The published accuracies were reached so (He et al. 2015 and after): tradition, and no warning.
"""

import torch
from torch import nn

PLAN = {"steps": 450_000, "steps_per_epoch": 5_000}
NOTES = ["decays-norm", "decays-bias"]  # the tradition


class BasicBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x + self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))).relu()


class ResNet(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = nn.Sequential(BasicBlock(width), BasicBlock(width))
        self.fc = nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.layer1(self.bn1(self.conv1(x)).relu()).mean((2, 3)))


def build():
    model = ResNet()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [150_000, 300_000], gamma=0.1)
    return model, optimizer, scheduler


def train(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for _ in range(20):
        optimizer.zero_grad()
        x = torch.randn(16, 3, 16, 16)
        labels = x.mean((2, 3)).argmax(1)
        nn.functional.cross_entropy(model(x), labels).backward()
        optimizer.step()
