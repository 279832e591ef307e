"""A small language model with mistakes that are made every day; docs/audit.md audits it.

adamantine audit docs/examples/train_lm.py:build --html audit.html
python docs/examples/train_lm.py audit.html        # trains 300 steps under the ledger
"""

import sys
from pathlib import Path
from pydoc_data.topics import topics

import torch
from torch import nn

STEPS, LENGTH, WIDTH, LAYERS = 300, 32, 48, 2
TEXT = torch.tensor([min(ord(letter), 127) for letter in "".join(topics.values())])


class RMSNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return self.gain * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.pre = RMSNorm(WIDTH)
        self.attn = nn.MultiheadAttention(WIDTH, 4, batch_first=True)
        self.post = RMSNorm(WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x, mask):
        h = self.pre(x)
        x = x + self.attn(h, h, h, attn_mask=mask, need_weights=False)[0]
        return x + self.mlp(self.post(x))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(128, WIDTH)
        self.positions = nn.Parameter(torch.randn(LENGTH, WIDTH) * 0.02)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.final = RMSNorm(WIDTH)
        self.head = nn.Linear(WIDTH, 128)
        self.register_buffer("mask", torch.full((LENGTH, LENGTH), -torch.inf).triu(1), persistent=False)

    def forward(self, x):
        h = self.tokens(x) + self.positions
        for block in self.blocks:
            h = block(h, self.mask)
        return self.head(self.final(h))


def build():
    torch.manual_seed(0)
    model = Model()
    trunk = [
        *model.tokens.named_parameters(),
        *model.blocks.named_parameters(),
        *model.final.named_parameters(),
    ]
    spared = ("bias", "LayerNorm.weight")  # there is no LayerNorm here
    optimizer = torch.optim.Adam(
        [
            {"params": [p for n, p in trunk if not n.endswith(spared)], "weight_decay": 0.01},
            {"params": [p for n, p in trunk if n.endswith(spared)], "weight_decay": 0.0},
            {"params": model.head.parameters(), "weight_decay": 0.01},  # and the positions are nowhere
        ],
        lr=2e-3,
    )
    return model, optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=STEPS)


def train(model, optimizer, scheduler):
    for _ in range(STEPS):
        start = torch.randint(len(TEXT) - LENGTH - 1, (8,))
        text = torch.stack([TEXT[i : i + LENGTH + 1] for i in start])
        loss = nn.functional.cross_entropy(model(text[:, :-1]).flatten(0, 1), text[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()


if __name__ == "__main__":
    from adamantine.audit import audit
    from adamantine.audit.fix import fixed
    from adamantine.audit.page import page

    model, optimizer, scheduler = build()
    result = audit(optimizer, model, scheduler=scheduler, every=10)
    with result:
        train(model, optimizer, scheduler)
    print(result)
    if len(sys.argv) > 1:
        program = fixed(result.report, optimizer, model).program
        Path(sys.argv[1]).write_text(page(result.report, fix=program), encoding="utf-8")
