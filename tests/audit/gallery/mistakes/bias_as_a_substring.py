"""The filter drops every name with "bias" in it; a vocoder's bias_conv is a convolution that predicts
biases.
"""

import torch
from torch import nn

SOURCE = "https://github.com/huggingface/transformers/pull/35927"  # its patterns; the model is HF's UnivNet
FINDINGS = {"spares-matrix": ["kernel_predictor.bias_conv.weight"]}
PLAN = {"steps": 10_000}


class KernelPredictor(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.input_conv = nn.Conv1d(8, 16, 5)
        self.kernel_conv = nn.Conv1d(16, 32, 3)
        self.bias_conv = nn.Conv1d(16, 8, 3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = self.input_conv(x).relu()
        return self.kernel_conv(hidden), self.bias_conv(hidden)


class Vocoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.kernel_predictor = KernelPredictor()
        self.conv_post = nn.Conv1d(8, 1, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kernel, bias = self.kernel_predictor(x)
        return self.conv_post(bias) + kernel.mean()


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = Vocoder()
    named = list(model.named_parameters())
    groups = [
        {"params": [p for n, p in named if "bias" not in n], "weight_decay": 0.1},
        {"params": [p for n, p in named if "bias" in n], "weight_decay": 0.0},
    ]
    return model, torch.optim.AdamW(groups, lr=1e-3)
