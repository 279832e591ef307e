"""The small networks of the built-in tasks, each as plain as its paper allows."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def mlp(inputs: int, hidden: int, classes: int) -> nn.Module:
    """One hidden layer with ReLU; flattens its input, ``[batch, ...]`` to ``[batch, classes]``."""
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, classes))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch normalization and a shortcut (He et al. 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        return F.relu(y + self.shortcut(x))


def residual_net(channels: int, widths: tuple[int, ...], classes: int) -> nn.Module:
    """A stem and one residual block per width, halving the image before each but the first.

    ``[batch, channels, height, width]`` to ``[batch, classes]``.
    """
    stem = nn.Sequential(
        nn.Conv2d(channels, widths[0], 3, 1, 1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()
    )
    before = (widths[0], *widths[:-1])
    blocks = [
        ResidualBlock(inputs, outputs, 1 if index == 0 else 2)
        for index, (inputs, outputs) in enumerate(zip(before, widths, strict=True))
    ]
    return nn.Sequential(stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], classes))


class TransformerBlock(nn.Module):
    """Self-attention and an MLP, each after a LayerNorm (Radford et al. 2019).

    A place attends to itself and ``"before"`` it, or to ``"all"`` places.
    """

    def __init__(self, width: int, heads: int, attends: Literal["before", "all"] = "before") -> None:
        super().__init__()
        self.heads = heads
        self.causal = attends == "before"
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        split = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, width // self.heads)
        q, k, v = split.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        y: Tensor = x + self.mlp(self.norm2(x))
        return y


class CharTransformer(nn.Module):
    """A decoder-only Transformer; ``[batch, length]`` symbols to ``[batch, length, symbols]`` logits."""

    def __init__(self, symbols: int, length: int, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.symbol = nn.Embedding(symbols, width)
        self.position = nn.Embedding(length, width)
        for table in (self.symbol, self.position):
            nn.init.normal_(table.weight, std=0.02)
        self.blocks = nn.Sequential(*(TransformerBlock(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, symbols)

    def forward(self, x: Tensor) -> Tensor:
        places = torch.arange(x.shape[1], device=x.device)
        logits: Tensor = self.head(self.norm(self.blocks(self.symbol(x) + self.position(places))))
        return logits


class RowTransformer(nn.Module):
    """Reads an image row by row: ``[batch, 1, height, pixels]`` to ``[batch, classes]``.

    Dosovitskiy et al. 2021 with rows for patches and the mean for a class token.
    """

    def __init__(self, height: int, pixels: int, width: int, heads: int, layers: int, classes: int) -> None:
        super().__init__()
        self.row = nn.Linear(pixels, width)
        self.position = nn.Parameter(torch.empty(height, width))
        nn.init.normal_(self.position, std=0.02)
        self.blocks = nn.Sequential(*(TransformerBlock(width, heads, "all") for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.norm(self.blocks(self.row(x.squeeze(1)) + self.position))
        logits: Tensor = self.head(rows.mean(1))
        return logits


class ModularNet(nn.Module):
    """Two looked-up vectors, joined, and an MLP: ``[batch, 2]`` residues to ``[batch, modulus]`` logits."""

    def __init__(self, modulus: int, width: int, hidden: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(modulus, width)
        self.hidden = nn.Linear(2 * width, hidden)
        self.head = nn.Linear(hidden, modulus)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(F.relu(self.hidden(self.embedding(x).flatten(1))))
        return logits
