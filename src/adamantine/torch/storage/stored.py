"""A parameter and its slots in their formats, as a rule takes them: decoded in pieces, and encoded again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from adamantine.formats import words
from adamantine.formats.block import Code
from adamantine.torch.storage import codecs
from adamantine.torch.storage.layout import (
    RESIDUAL,
    ROUNDING,
    WITH_RESIDUAL,
    Formats,
    advance_key,
    blocks_of,
    bytes_of,
    coded_keys,
    real,
    widen,
)

_SPLIT8_SLOT = 3  # the place of θ's own dither behind those of the slots


class Stored:
    """A parameter for one step: `read` and `write` each piece, then `close`.

    Pieces are flat, in row-major order, and begin at a multiple of 128. What does not lie in that order is
    copied, and put back by `close`.

    Args:
        theta: the parameter.
        state: its state, complete.
        keys: of the rule's slots, in its order.
        how: the group's formats.
    """

    def __init__(self, theta: Tensor, state: dict[str, Any], keys: Sequence[str], how: Formats) -> None:
        self._how = how
        self._weights = how.weights_of(theta)
        self._state = state
        self._copied: list[tuple[Tensor, Tensor]] = []
        self._theta = self._flat(theta)
        self._residual = self._flat(state[RESIDUAL]) if RESIDUAL in state else None
        self._slots = [self._flat(state[how.key(place, key)]) for place, key in enumerate(keys)]
        self._headers = [
            None if how.code(place) is None else self._flat(state[coded_keys(key)[1]])
            for place, key in enumerate(keys)
        ]
        self._key = int(state[ROUNDING]) if ROUNDING in state else 0
        self.numel = self._theta.numel()

    def _flat(self, tensor: Tensor) -> Tensor:
        tensor = real(tensor)
        flat = tensor.reshape(-1)
        if flat.data_ptr() != tensor.data_ptr():
            self._copied.append((tensor, flat))
        return flat

    def read(self, start: int, stop: int) -> tuple[Tensor, list[Tensor]]:
        """θ and the slots of elements start to stop."""
        theta = self._theta[start:stop]
        if self._weights in WITH_RESIDUAL:
            assert self._residual is not None
            theta = codecs.join(theta, self._residual[start:stop])
        theta = widen(theta)
        slots = [theta] * len(self._slots)
        for place in self._how.order:
            partner = self._how.partners[place]
            found = self._read_slot(place, start, stop, None if partner is None else slots[partner])
            slots[place] = found if self._how.code(place) is None else found.to(theta.dtype)
        return theta, slots

    def write(self, start: int, stop: int, theta: Tensor, slots: Sequence[Tensor]) -> None:
        """The new θ and slots of the same elements."""
        self._write_theta(start, stop, theta)
        for place in self._how.order:  # a partner first: what is written in its units needs it as it is kept
            self._write_slot(place, start, stop, slots[place])

    def close(self) -> None:
        """End the step: copies back to their places, and the next key."""
        for tensor, flat in self._copied:
            tensor.copy_(flat.view(tensor.shape))
        advance_key(self._state)

    def _read_slot(self, place: int, start: int, stop: int, kept: Tensor | None = None) -> Tensor:
        """Half precision and codes as float32, all else as it is; ``kept``: the partner, if there is one."""
        code = self._how.code(place)
        if code is None:
            return widen(self._slots[place][start:stop])
        codes, headers = self._coded(place, start, stop, code)
        return codecs.decode(codes, headers, stop - start, code, kept)

    def _write_slot(self, place: int, start: int, stop: int, new: Tensor) -> None:
        code, partner = self._how.code(place), self._how.partners[place]
        if code is None:
            self._slots[place][start:stop].copy_(new)
            return
        u: Tensor | float = codecs.NEAREST
        if self._how.is_dithered(place):
            _, high = words.halves(self._key)
            u = codecs.dither(start, stop - start, high, place, new.device)
        kept = None if partner is None else self._read_slot(partner, start, stop)
        found = codecs.encode(new.float(), u, code, kept)
        for stored, part in zip(self._coded(place, start, stop, code), found, strict=True):
            stored.copy_(part)

    def _coded(self, place: int, start: int, stop: int, code: Code) -> tuple[Tensor, Tensor]:
        """Codes and headers of these elements, where they lie."""
        headers = self._headers[place]
        assert headers is not None
        return self._slots[place][bytes_of(start, stop, code)], headers[blocks_of(start, stop)]

    def _write_theta(self, start: int, stop: int, new: Tensor) -> None:
        theta = self._theta[start:stop]
        if self._weights in {"exact", "nearest"}:
            theta.copy_(new)
            return
        new = new.float()
        if self._weights == "stochastic":
            theta.copy_(codecs.stochastic(new, start, self._key, theta.dtype))
            return
        assert self._residual is not None
        phases = None
        if self._weights == "split8":
            _, high = words.halves(self._key)
            phases = codecs.phase(start, stop - start, high, _SPLIT8_SLOT, new.device)
        short, left = codecs.split_off(new, self._weights, theta.dtype, phases)
        theta.copy_(short)
        self._residual[start:stop].copy_(left)
