"""The no-decay set is made of nn.LayerNorm's parameters and biases; the model's own RMSNorm is in neither."""

import torch
from torch import nn

SOURCE = "https://github.com/huggingface/transformers/pull/35927"
FINDINGS = {"decays-norm": ["layers.*.input_layernorm.weight", "norm.weight"]}
PLAN = {"steps": 10_000}


class RMSNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


class Layer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(width)
        self.up_proj = nn.Linear(width, 2 * width)
        self.down_proj = nn.Linear(2 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down_proj(self.up_proj(self.input_layernorm(x)).relu())


class Llama(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(width) for _ in range(2))
        self.norm = RMSNorm(width)
        self.score = nn.Linear(width, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        return self.score(self.norm(x))


def get_parameter_names(module: nn.Module, forbidden: tuple[type, ...]) -> list[str]:
    names = []
    for name, child in module.named_children():
        if not isinstance(child, forbidden):
            names += [f"{name}.{n}" for n in get_parameter_names(child, forbidden)]
    return names + list(module._parameters)


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = Llama()
    decay = [n for n in get_parameter_names(model, (nn.LayerNorm,)) if "bias" not in n]
    groups = [
        {"params": [p for n, p in model.named_parameters() if n in decay], "weight_decay": 0.1},
        {"params": [p for n, p in model.named_parameters() if n not in decay], "weight_decay": 0.0},
    ]
    return model, torch.optim.AdamW(groups, lr=1e-3)
