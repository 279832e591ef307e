"""Predict the next character of real text with a small causal Transformer.

The text is Python's own reference manual as it ships inside Python (``pydoc_data.topics``, so it differs
a little between Python versions; the manifest's hash tells), or a UTF-8 file of the user's. It is cut
into pieces of 1024 characters, which the seed deals out to training, validation and test; each piece
gives windows of 64 characters.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from adamantine.study.errors import StudyError
from adamantine.study.nets import CharTransformer
from adamantine.study.task import Data, Settings, Task
from adamantine.study.tasks import check_train_size
from adamantine.study.tasks.classification import cross_entropy

WINDOW = 64
PIECE = 16 * WINDOW
SYMBOLS = 128  # the most frequent characters; all others share the last symbol
PIECES = 16  # at least
HELD_OUT = 512  # windows in validation and in test, at most
TRAIN = 1024


def text(settings: Settings) -> Task:
    """Width 64, 2 layers, 4 heads; score: mean negative log likelihood in nats per character."""
    title, characters = ("Python's manual", _manual()) if settings.text is None else _from_file(settings.text)
    windows = _encode(characters)
    return Task(
        name="text",
        title=f"next character of {title}, Transformer of 2 layers",
        model=lambda seed: CharTransformer(SYMBOLS, WINDOW, 64, 4, 2),
        data=_Windows(windows, settings.train_size, title),
        loss=cross_entropy,
        metric=cross_entropy,
        batch_size=16,
        epochs=10,
        score_name="loss",
        score_unit="nats/character",
    )


def _manual() -> str:
    from pydoc_data.topics import topics

    return "\n".join(topics[key] for key in sorted(topics))


def _from_file(name: str) -> tuple[str, str]:
    path = Path(name)
    if path.exists() and not path.is_file():
        raise StudyError(f"--text {name}: not a regular file")
    try:
        return path.name, path.read_bytes().decode("utf-8")
    except OSError as error:
        raise StudyError(f"--text {name}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise StudyError(f"--text {name}: not UTF-8 at byte {error.start}; save the file as UTF-8") from error


def _encode(characters: str) -> Tensor:
    """``[pieces, windows per piece, WINDOW + 1]`` symbols; each window's last is only ever a target."""
    frequent = [character for character, _ in Counter(characters).most_common(SYMBOLS - 1)]
    symbol = {character: index for index, character in enumerate(frequent)}
    codes = torch.tensor([symbol.get(character, SYMBOLS - 1) for character in characters], dtype=torch.int64)
    pieces = (len(codes) - 1) // PIECE
    starts = torch.arange(pieces)[:, None, None] * PIECE + torch.arange(0, PIECE, WINDOW)[None, :, None]
    return codes[starts + torch.arange(WINDOW + 1)] if pieces else torch.empty(0, PIECE // WINDOW, WINDOW + 1)


class _Windows:
    def __init__(self, windows: Tensor, train_size: int | None, title: str) -> None:
        pieces, per_piece = windows.shape[:2]
        if pieces < PIECES:
            raise StudyError(f"--text {title}: too short; it needs at least {PIECES * PIECE + 1} characters")
        self.windows = windows
        self.held_out = min(HELD_OUT // per_piece, pieces // 4)  # pieces, for validation and again for test
        available = (pieces - 2 * self.held_out) * per_piece
        if train_size is not None:
            check_train_size(train_size, available)
        self.train_size = train_size or min(TRAIN, available)

    def __call__(self, seed: int) -> Data:
        rng = np.random.default_rng((seed, 0))
        pieces = self.windows[torch.from_numpy(rng.permutation(len(self.windows)))]
        test, validation, rest = pieces.tensor_split((self.held_out, 2 * self.held_out))
        parts = (rest.flatten(0, 1)[: self.train_size], validation.flatten(0, 1), test.flatten(0, 1))
        return Data(*((part[:, :-1].contiguous(), part[:, 1:].contiguous()) for part in parts))
