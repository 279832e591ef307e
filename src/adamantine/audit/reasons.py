"""Why a parameter should decay or not, for readers of either language."""

from __future__ import annotations

import re

from adamantine.report.words import Words

#: What `adamantine.groups.reasons` and `adamantine.audit.members` say, and the same in Chinese.
_WHOLE = tuple(
    (re.compile(english), chinese)
    for english, chinese in (
        (r"bias", "偏置"),
        (r"scalar", "标量"),
        (r"vector \(1-D\)", "向量（1 维）"),
        (r"vector in broadcast shape", "广播形状的向量"),
        (r"normalization by name \((.*)\)", r"从名字看是归一化（\1）"),
        (
            r"normalization \((\S+): output unchanged by its input's scale, multiplied by (\S+)\)",
            r"归一化（\1：输入放大，输出不变，再乘以 \2）",
        ),
        (
            r"scale \((\S+) multiplies its input element by element with (\S+)\)",
            r"缩放（\1 把输入逐元素乘以 \2）",
        ),
        (r"normalization \((.*)\)", r"归一化（\1）"),
        (r"scale by name \((.*)\)", r"从名字看是缩放系数（\1）"),
        (r"embedding table \((.*)\)(?:, embeddings='decay')?", r"嵌入表（\1）"),
        (r"marked _no_weight_decay by the model", "模型标记了 _no_weight_decay"),
        (r"the model's (\w+) lists (.*)", r"模型的 \1 列出了 \2"),
        (
            r"weight_norm magnitude: it scales the weight, so its decay is the weight's",
            "weight_norm 的幅度：它缩放整个权重，衰减它就是衰减权重",
        ),
        (
            r"weight_norm direction: decays as a weight before a normalization",
            "weight_norm 的方向：与归一化之前的权重一样衰减",
        ),
        (r"flattened by FSDP1, so its shape tells nothing", "被 FSDP1 展平，从形状看不出什么"),
        (r"not of this model", "不属于这个模型"),
        (r"(\S+) of (\S+) \((\d+)-D\)", r"\2 的 \1（\3 维）"),
    )
)


def in_words(reason: str) -> Words:
    """The reason; in Chinese, too, where it is one of the usual ones.

    >>> in_words("weight of Linear (2-D); tied with head.weight").zh
    'Linear 的 weight（2 维）；与之共享权重：head.weight'
    >>> in_words("something of the user's own").zh
    "something of the user's own"
    """
    frozen = reason.startswith("frozen; ")
    head, tied, rest = reason.removeprefix("frozen; ").partition("; tied with ")
    chinese = next((f.expand(zh) for en, zh in _WHOLE if (f := en.fullmatch(head))), head)
    rest = rest.replace(", and the use without decay decides", "，以不衰减的用途为准")
    chinese = f"已冻结；{chinese}" if frozen else chinese
    return Words(reason, f"{chinese}；与之共享权重：{rest}" if tied else chinese)
