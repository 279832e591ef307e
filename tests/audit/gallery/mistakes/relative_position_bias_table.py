"""Swin's tables of positions are 2-D and 3-D, so a filter for biases and vectors lets them decay."""

import torch
from torch import nn

SOURCE = "https://github.com/open-mmlab/mmsegmentation/issues/1486"
FINDINGS = {"decays-table": ["absolute_pos_embed", "layers.*.relative_position_bias_table"]}
PLAN = {"steps": 10_000}


class WindowAttention(nn.Module):
    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        self.proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        bias = self.relative_position_bias_table.mean()
        return x + self.proj((q @ k.transpose(-1, -2) + bias).softmax(-1) @ v)


class Swin(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.patch_embed = nn.Linear(48, width)
        self.absolute_pos_embed = nn.Parameter(0.02 * torch.randn(1, 16, width))
        self.layers = nn.Sequential(WindowAttention(width, 4, 4), WindowAttention(width, 4, 4))
        self.head = nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(self.patch_embed(x) + self.absolute_pos_embed).mean(1))


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = Swin()
    has_decay = [p for n, p in model.named_parameters() if p.ndim > 1 and not n.endswith(".bias")]
    no_decay = [p for n, p in model.named_parameters() if p.ndim == 1 or n.endswith(".bias")]
    groups = [{"params": has_decay}, {"params": no_decay, "weight_decay": 0.0}]
    return model, torch.optim.AdamW(groups, lr=1e-3, weight_decay=0.05)
