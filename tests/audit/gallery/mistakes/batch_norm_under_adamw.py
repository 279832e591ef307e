"""AdamW over everything in a detector with BatchNorm: γ is pulled to 0 whatever the gradient's size."""

import torch
from torch import nn

SOURCE = "https://github.com/ultralytics/yolov3/issues/469"
FINDINGS = {"decays-norm": ["*.BatchNorm2d.*"]}
PLAN = {"steps": 10_000}


def layer(inputs: int, outputs: int) -> nn.Sequential:
    module = nn.Sequential()
    module.add_module("Conv2d", nn.Conv2d(inputs, outputs, 3, padding=1, bias=False))
    module.add_module("BatchNorm2d", nn.BatchNorm2d(outputs))
    module.add_module("LeakyReLU", nn.LeakyReLU(0.1))
    return module


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Sequential(layer(3, 16), layer(16, 32), nn.Conv2d(32, 18, 1, bias=False))
    return model, torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
