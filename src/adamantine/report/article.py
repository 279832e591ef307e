"""The article's own comparison, to stand beside what was measured: its table of Adam with L2 and AdamW
(section 6), and the optimizers that it names (sections 1 to 5), in its words and in English."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from adamantine.report.model import MethodGrid
from adamantine.report.words import Words


@dataclass(frozen=True)
class Feature:
    """A row of the article's table."""

    name: Words
    adam_l2: Words
    adamw: Words


FEATURES = (
    Feature(
        Words("Core idea", "核心思想"),
        Words(
            "The L2 term is part of the loss; its gradient takes part in the adaptive learning rate.",
            "将 L2 正则项作为损失函数的一部分，其梯度参与自适应学习率计算。",
        ),
        Words(
            "Weight decay is decoupled from the gradient update: a separate term that the adaptive learning "
            "rate does not touch.",
            "将权重衰减与梯度更新解耦。权重衰减是一个独立的项，不受自适应学习率影响。",
        ),
    ),
    Feature(
        Words("How weights decay", "权重衰减处理"),
        Words(
            "Coupled: the adaptive learning rate distorts the decay.",
            "耦合的（Coupled）：权重衰减效果被自适应学习率扭曲。",
        ),
        Words("Decoupled: the decay is stable and uniform.", "解耦的（Decoupled）：权重衰减效果稳定、一致。"),
    ),
    Feature(
        Words("Implementation", "实现方式"),
        Words("A weight_decay term in the loss.", "在定义损失函数时加入 weight_decay 项。"),
        Words(
            "The optimizer has its own weight_decay, applied at the end of the step.",
            "优化器内部有一个独立的 weight_decay 参数，在更新步骤的最后直接应用。",
        ),
    ),
    Feature(
        Words("What λ means", "超参数 λ 的含义"),
        Words(
            "The coefficient of L2; its effective strength differs from parameter to parameter.",
            "λ 是 L2 正则化系数，其有效强度会因参数而异。",
        ),
        Words(
            "The true decay coefficient, with the effect it has in SGD.",
            "λ 是真正的权重衰减系数，其效果与 SGD 中的权重衰减一致。",
        ),
    ),
    Feature(
        Words("Performance", "性能"),
        Words(
            "May do on simple problems; on complex models and data it often generalizes worse.",
            "在简单问题上可能工作，但在复杂模型和数据集上，泛化性能往往较差。",
        ),
        Words(
            "Generalizes better; usually the first choice for deep networks.",
            "泛化性能更好，通常是训练深度神经网络（尤其是 Transformer、CNN）的首选。",
        ),
    ),
)


@dataclass(frozen=True)
class Optimizer:
    """One that the article names: what it says of it, and which method of a run it is."""

    name: str
    idea: Words
    is_meant: Callable[[MethodGrid], bool]
    command: str  # how to have it measured


def adam_l2(method: MethodGrid) -> bool:
    """Is this the article's Adam with L2 in the loss?"""
    return _class_of(method) == "Adam" and (method.decay == "l2" or _is_torchs(method)) and _decays(method)


def adamw(method: MethodGrid) -> bool:
    """Is this the article's AdamW?"""
    return _class_of(method) == "AdamW" and (method.decay == "decoupled" or _is_torchs(method))


OPTIMIZERS = (
    Optimizer(
        "SGD",
        Words("straight down the gradient", "直接沿着梯度的反方向更新参数"),
        lambda m: _class_of(m) == "SGD" and not _has_momentum(m),
        "--method SGD",
    ),
    Optimizer(
        "Momentum",
        Words("accumulates past gradients as a velocity", "累积之前的梯度方向作为“速度”"),
        lambda m: _class_of(m) == "SGD" and _has_momentum(m),
        "--method 'SGD(momentum=0.9)'",
    ),
    Optimizer(
        "AdaGrad",
        Words("a learning rate of its own for every parameter", "为每个参数设置不同的学习率"),
        lambda m: _class_of(m) == "Adagrad",
        "--method Adagrad",
    ),
    Optimizer(
        "RMSprop",
        Words("scales by a moving average of squared gradients", "用梯度平方的移动平均调整学习率"),
        lambda m: _class_of(m) == "RMSprop",
        "--method RMSprop",
    ),
    Optimizer(
        "Adam",
        Words("RMSprop with momentum, without decay", "带动量的 RMSprop，不带权重衰减"),
        lambda m: _class_of(m) == "Adam" and not _decays(m),
        "--method Adam --weight-decay Adam=0",
    ),
    Optimizer(
        "Adam + L2",
        Words("the L2 term goes through the adaptive learning rate", "L2 项经过自适应学习率"),
        adam_l2,
        "--method Adam",
    ),
    Optimizer(
        "AdamW", Words("decay decoupled from the gradient", "权重衰减与梯度更新解耦"), adamw, "--method AdamW"
    ),
)


def _class_of(method: MethodGrid) -> str:
    """The optimizer's class, of ours or of torch's, which share names.

    Others may use a name for something else: ``""``.
    """
    module, _, call = method.spec.partition("(")[0].rpartition(":")
    return call if module in ("", "torch.optim") else ""


def _is_torchs(method: MethodGrid) -> bool:
    return method.spec.startswith("torch.optim:")


def _has_momentum(method: MethodGrid) -> bool:
    return "momentum=" in method.spec and "momentum=0)" not in method.spec


def _decays(method: MethodGrid) -> bool:
    return method.decay != "none" and any(value > 0 for value in method.weight_decays)
