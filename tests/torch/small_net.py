"""One network for the tests of offload: always the same weights, in the dtype that is asked for."""

import torch
from torch import nn


def net_of(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    net = nn.Sequential(nn.Linear(12, 20), nn.Tanh(), nn.Linear(20, 3)).to(dtype)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) / 4)
    return net
