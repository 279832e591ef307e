"""CLIP's learned temperature decays: exp(logit_scale) is pulled to 1, while training drives it to 100."""

import math

import torch
from torch import nn

# A logit scale that falls from 14 to 1 under AdamW with λ = 0.1: just what decay does, though the thread
# does not settle why.
SOURCE = "https://github.com/mlfoundations/open_clip/issues/815"
FINDINGS = {"decays-scalar": ["logit_scale"]}
PLAN = {"steps": 10_000}


class CLIP(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.image = nn.Linear(32, width, bias=False)
        self.text = nn.Linear(24, width, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, images: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        image = nn.functional.normalize(self.image(images), dim=-1)
        text = nn.functional.normalize(self.text(texts), dim=-1)
        return self.logit_scale.exp() * image @ text.T


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = CLIP()
    return model, torch.optim.AdamW(model.parameters(), lr=5e-4, weight_decay=0.2, betas=(0.9, 0.98))
