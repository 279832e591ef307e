"""One new token trains, and the gradients of all others are set to 0: AdamW decays the whole vocabulary."""

import torch
from torch import nn

SOURCE = "https://github.com/huggingface/diffusers/issues/1176"
FINDINGS = {"decay-dominates": ["token_embedding.weight"], "decays-table": ["token_embedding.weight"]}
NOTES = ["default-decay"]
PLAN = {"steps": 3_000}


class TextEncoder(nn.Module):
    def __init__(self, vocabulary: int = 20_000, width: int = 16) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(vocabulary, width)
        self.out = nn.Linear(width, width).requires_grad_(False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.out(self.token_embedding(tokens)).mean(1)


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = TextEncoder()
    return model, torch.optim.AdamW(model.token_embedding.parameters(), lr=5e-3, weight_decay=1e-2)


def train(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    placeholder = 19_999
    target = torch.randn(16)
    for _ in range(20):
        optimizer.zero_grad()
        prompt = torch.randint(0, placeholder, (4, 6))
        prompt[:, 2] = placeholder
        (model(prompt) - target).square().mean().backward()
        model.token_embedding.weight.grad[:placeholder] = 0.0  # "keep the other embeddings as they are"
        optimizer.step()
