"""Text in the languages that reports speak."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Language = Literal["en", "zh"]


@dataclass(frozen=True)
class Words:
    """One text in English and in Chinese.

    >>> Words("learning rate", "学习率").of("zh")
    '学习率'
    """

    en: str
    zh: str

    def of(self, language: Language) -> str:
        """The text in this language."""
        return self.zh if language == "zh" else self.en
