"""The last group is filled with the CRF's and the classifier's parameters and never appended."""

import torch
from torch import nn

SOURCE = "https://github.com/zjunlp/HVPNeT/issues/5"
FINDINGS = {"not-in-optimizer": ["crf.transitions", "fc.weight", "fc.bias"]}
PLAN = {"steps": 10_000}


class CRF(nn.Module):
    def __init__(self, tags: int) -> None:
        super().__init__()
        self.transitions = nn.Parameter(torch.randn(tags, tags))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.transitions


class Tagger(nn.Module):
    def __init__(self, width: int = 16, tags: int = 5) -> None:
        super().__init__()
        self.bert = nn.Linear(width, width)
        self.fc = nn.Linear(width, tags)
        self.crf = CRF(tags)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.crf(self.fc(self.bert(x)))


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = Tagger()
    parameters = []
    params = {"lr": 3e-5, "weight_decay": 0.0, "params": []}
    for name, parameter in model.named_parameters():
        if "bert" in name:
            params["params"].append(parameter)
    parameters.append(params)
    params = {"lr": 5e-2, "weight_decay": 0.0, "params": []}
    for name, parameter in model.named_parameters():
        if name.startswith(("crf", "fc")):
            params["params"].append(parameter)
    return model, torch.optim.AdamW(parameters)
