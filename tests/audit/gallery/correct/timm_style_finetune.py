"""Fine-tuning as in timm: layer-wise lr decay 0.75, no decay for vectors, class token and positions."""

import torch
from torch import nn

PLAN = {"steps": 5_000, "steps_per_epoch": 100}


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, 4, batch_first=True)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm1(x)
        x = x + self.attn(y, y, y)[0]
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    def __init__(self, width: int = 16, depth: int = 4) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, 17, width))
        self.patch_embed = nn.Linear(48, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def no_weight_decay(self) -> set[str]:
        return {"pos_embed", "cls_token"}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), self.patch_embed(x)], 1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


def param_groups_layer_decay(model, weight_decay: float, lr: float, layer_decay: float) -> list[dict]:
    depth = len(model.blocks) + 1
    groups: dict[tuple[int, bool], dict] = {}
    for name, parameter in model.named_parameters():
        layer = depth
        if name.startswith(("cls_token", "pos_embed", "patch_embed")):
            layer = 0
        elif name.startswith("blocks"):
            layer = int(name.split(".")[1]) + 1
        decays = parameter.ndim > 1 and name not in model.no_weight_decay()
        group = groups.setdefault(
            (layer, decays),
            {
                "params": [],
                "lr": lr * layer_decay ** (depth - layer),
                "weight_decay": weight_decay if decays else 0.0,
            },
        )
        group["params"].append(parameter)
    return list(groups.values())


def build():
    model = VisionTransformer()
    optimizer = torch.optim.AdamW(param_groups_layer_decay(model, 0.3, 1e-3, 0.75))
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=5_000)
    return model, optimizer, scheduler
