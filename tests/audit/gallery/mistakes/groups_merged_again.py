"""Decay and no-decay parameters are sorted carefully and then given to one group with one weight_decay."""

import torch
from torch import nn

SOURCE = "https://github.com/nvidia-cosmos/cosmos-predict2.5/issues/165"
FINDINGS = {
    "decays-bias": ["to_q.bias", "to_out.bias"],
    "decays-norm": ["norm.weight", "norm.bias"],
}
PLAN = {"steps": 10_000}


class Attention(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(4, width)
        self.to_q = nn.Linear(width, width)
        self.to_out = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.to_out(self.to_q(self.norm(x)).softmax(-1))


def get_regular_param_group(model: nn.Module) -> tuple[list, list]:
    parameters = list(model.parameters())
    return [p for p in parameters if p.dim() >= 2], [p for p in parameters if p.dim() < 2]


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = Attention()
    decay_params, nodecay_params = get_regular_param_group(model)
    groups = [{"params": decay_params + nodecay_params, "weight_decay": 0.1}]
    return model, torch.optim.AdamW(groups, lr=1e-3)
