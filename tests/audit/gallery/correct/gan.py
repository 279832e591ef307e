"""A GAN: two optimizers over the two halves of one model. Each misses what the other one has."""

import torch
from torch import nn

PLAN = {"steps": 50_000}


class GAN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 16), nn.Tanh())
        self.discriminator = nn.Sequential(nn.Linear(16, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.discriminator(self.generator(z))


def build():
    model = GAN()
    d = torch.optim.Adam(model.discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    g = torch.optim.Adam(model.generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    return model, [d, g]


def train(model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> None:
    d, g = optimizers
    for _ in range(20):
        fake, real = model.generator(torch.randn(32, 8)), 0.5 * torch.randn(32, 16)
        d.zero_grad()
        (model.discriminator(fake.detach()).mean() - model.discriminator(real).mean()).backward()
        d.step()
        g.zero_grad()
        (-model.discriminator(fake).mean()).backward()
        g.step()
