"""Sentences in both languages at once: the logic picks a template and its parts, the words are side by side.

>>> best = Words("{name} is best: {score}, over {seeds}.", "{name} 最好：{score}，共 {seeds}。")
>>> fill(best, name="AdamW", score="2.0 %", seeds=counted(3, "seed")).zh
'AdamW 最好：2.0 %，共 3 个种子。'
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from adamantine.report import numbers
from adamantine.report.model import Comparison
from adamantine.report.numbers import Scores
from adamantine.report.words import Language, Words

#: Counted things: the noun with its measure word.
_COUNTED = {
    "seed": "个种子",
    "fresh seed": "个新种子",
    "fresh run": "次新训练",
    "method": "种方法",
    "setting": "组设置",
    "other": "种其他方法",
    "run": "次训练",
    "learning rate": "个学习率",
    "weight decay": "个权重衰减系数",
    "step": "步",
    "epoch": "轮",
}

#: What a task says of itself, in its own words; anything else stays as its author wrote it.
_TERMS = {
    "error": "错误率",
    "loss": "损失",
    "nats/character": "nats/字符",
    "handwritten digits (8 x 8), MLP 64-128-10": "手写数字（8 × 8），MLP 64-128-10",
    "handwritten digits (8 x 8), residual CNN with batch normalization": (
        "手写数字（8 × 8），带批归一化的残差 CNN"
    ),
    "MNIST digits (28 x 28), MLP 784-128-10": "MNIST 手写数字（28 × 28），MLP 784-128-10",
    "Fashion-MNIST (28 x 28), MLP 784-128-10": "Fashion-MNIST 服饰图片（28 × 28），MLP 784-128-10",
    "CIFAR-10 (32 x 32), residual CNN 8-16-32 with batch normalization": (
        "CIFAR-10 图片（32 × 32），带批归一化的残差 CNN 8-16-32"
    ),
}
_TEMPLATES = (
    (
        r"next character of Python's manual, Transformer of (\d+) layers",
        r"预测 Python 手册的下一个字符，\1 层 Transformer",
    ),
    (r"next character of (.+), Transformer of (\d+) layers", r"预测 \1 的下一个字符，\2 层 Transformer"),
    (
        r"\(a \+ b\) mod (\d+) from (\d+) of (\d+) pairs, MLP on embeddings",
        r"(a + b) mod \1，\3 对中的 \2 对用于训练，嵌入上的 MLP",
    ),
)


def fill(template: Words, **parts: str | Words) -> Words:
    """The template with its ``{names}`` replaced, in each language by that language's part."""

    def filled(language: Language) -> str:
        words = {k: v if isinstance(v, str) else v.of(language) for k, v in parts.items()}
        return template.of(language).format(**words)

    return Words(filled("en"), filled("zh"))


def same(text: str) -> Words:
    """What reads alike in both languages: a number, a name."""
    return Words(text, text)


def joined(parts: Iterable[Words], between: Words) -> Words:
    """All parts with ``between`` in between."""
    parts = list(parts)
    return Words(between.en.join(p.en for p in parts), between.zh.join(p.zh for p in parts))


def counted(count: int, noun: str) -> Words:
    """A count with its noun.

    >>> counted(3, "seed")
    Words(en='3 seeds', zh='3 个种子')
    """
    return Words(numbers.counted(count, noun), f"{count} {_COUNTED[noun]}")


def term(text: str) -> Words:
    """A task's title, score or unit, in Chinese where it is one that comes with adamantine.

    >>> term("error").zh, term("my own score").zh
    ('错误率', 'my own score')
    """
    if text in _TERMS:
        return Words(text, _TERMS[text])
    for pattern, chinese in _TEMPLATES:
        if re.fullmatch(pattern, text):
            return Words(text, re.sub(pattern, chinese, text))
    return same(text)


@dataclass(frozen=True)
class Written:
    """Scores of one comparison written in both languages.

    >>> written = Written(Scores("error", "%", 2), Scores("错误率", "%", 2, "zh"))
    >>> written(lambda scores: scores.apart(0.0043))
    Words(en='0.43 percentage points', zh='0.43 个百分点')
    """

    en: Scores
    zh: Scores

    @classmethod
    def of(cls, comparison: Comparison) -> Written:
        """With the comparison's unit and number of decimals."""
        return cls(scores_of(comparison, "en"), scores_of(comparison, "zh"))

    def __call__(self, write: Callable[[Scores], str]) -> Words:
        return Words(write(self.en), write(self.zh))


def scores_of(comparison: Comparison, language: Language) -> Scores:
    """How the comparison's scores are written in this language."""
    own = Scores.of(comparison)
    return Scores(term(own.name).of(language), term(own.unit).of(language), own.decimals, language)


def verdict(a: str, b: str, said: str) -> Words:
    """A pair's verdict, as the analysis says it in English, in both languages.

    >>> verdict("AdamW", "Adam + L2", "AdamW is better").zh
    'AdamW 更好'
    """
    if said == "not decided":
        return Words(said, "未能判定")
    for name in (a, b):
        if said == f"{name} is better":
            return Words(said, f"{name} 更好")
    return same(said)
