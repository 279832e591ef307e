"""FSDP1 flattens matrices, biases and gains into one vector: decay can spare none of them any more."""

import torch
from torch import nn

SOURCE = "https://github.com/verl-project/verl/pull/7215"
FINDINGS = {"flattened": ["_fsdp_wrapped_module._flat_param"]}  # a note: what it holds is unknown
PLAN = {"steps": 10_000}


class Flattened(nn.Module):
    """What FullyShardedDataParallel(use_orig_params=False) leaves of a module, with one process."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        parameters = dict(module.named_parameters())
        flat = torch.cat([p.detach().flatten() for p in parameters.values()])
        self.shapes = {name: p.shape for name, p in parameters.items()}
        for name in parameters:
            owner, _, attribute = name.rpartition(".")
            delattr(module.get_submodule(owner), attribute)
        self._fsdp_wrapped_module = module
        module.register_parameter("_flat_param", nn.Parameter(flat))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        sizes = [shape.numel() for shape in self.shapes.values()]
        parts = self._fsdp_wrapped_module._flat_param.split(sizes)
        views = {n: part.view(s) for (n, s), part in zip(self.shapes.items(), parts, strict=True)}
        x = nn.functional.linear(x, views["0.weight"], views["0.bias"])
        return nn.functional.layer_norm(x, (32,), views["1.weight"], views["1.bias"])


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = Flattened(nn.Sequential(nn.Linear(16, 32), nn.LayerNorm(32)))
    return model, torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
