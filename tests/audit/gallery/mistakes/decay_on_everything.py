"""AdamW over model.parameters(): biases, LayerNorms and both embedding tables decay with the matrices."""

import torch
from torch import nn

SOURCE = "https://github.com/Lightning-AI/lit-llama/issues/254"
FINDINGS = {
    "decays-bias": ["blocks.*.attn.bias", "blocks.*.mlp.bias"],
    "decays-norm": ["blocks.*.ln.*", "ln_f.*"],
    "decays-table": ["wte.weight", "wpe.weight"],
}
PLAN = {"steps": 10_000}


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.ln = nn.LayerNorm(width)
        self.attn = nn.Linear(width, width)
        self.mlp = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.mlp(self.attn(self.ln(x)).relu())


class GPT(nn.Module):
    def __init__(self, vocabulary: int = 50, context: int = 16, width: int = 24) -> None:
        super().__init__()
        self.wte = nn.Embedding(vocabulary, width)
        self.wpe = nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(3))
        self.ln_f = nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, vocabulary, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.lm_head(self.ln_f(x))


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = GPT()
    return model, torch.optim.AdamW(model.parameters(), lr=6e-4, weight_decay=0.1, betas=(0.9, 0.95))
