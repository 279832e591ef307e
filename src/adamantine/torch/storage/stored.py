"""Parameters and slots in their formats, as a rule takes them: decoded in pieces, and encoded again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from adamantine.formats.block import BLOCK, Code
from adamantine.torch.storage import codecs
from adamantine.torch.storage.elements import Elements, Run, Runs, block_count, put_back
from adamantine.torch.storage.layout import (
    RESIDUAL,
    ROUNDING,
    WITH_RESIDUAL,
    Formats,
    advance_key,
    coded_keys,
    real,
    widen,
)

State = dict[str, Any]

_SPLIT8_SLOT = 3  # the place of θ's own dither behind those of the slots


class Stored:
    """Parameters for one step: `read` and `write` each of `pieces`, then `close`.

    Several are laid end to end, and so is all that is kept of them. These are copies, as of what does not lie
    in row-major order, which `close` puts back.

    Args:
        thetas: the parameters, of one dtype and device.
        states: of each, complete; slots alike in dtype.
        keys: of the rule's slots, in its order.
        how: the group's formats.
    """

    def __init__(
        self, thetas: Sequence[Tensor], states: Sequence[State], keys: Sequence[str], how: Formats
    ) -> None:
        self._how = how
        self._weights = how.weights_of(thetas[0])
        self._states = states
        self._copied: list[tuple[list[Tensor], Tensor]] = []
        self._sizes = [real(theta).numel() for theta in thetas]
        self._theta = self._flat(thetas)
        self._residual = self._theta
        if self._weights in WITH_RESIDUAL:
            self._residual = self._flat([state[RESIDUAL] for state in states])
        names = [how.key(place, key) for place, key in enumerate(keys)]
        self._slots = [self._flat([state[name] for state in states]) for name in names]
        self._headers = {
            place: self._flat([state[coded_keys(key)[1]] for state in states])
            for place, key in enumerate(keys)
            if how.code(place) is not None
        }
        self._keys = [int(state[ROUNDING]) for state in states] if how.rounds(thetas[0]) else []

    def _flat(self, tensors: Sequence[Tensor]) -> Tensor:
        tensors = list(map(real, tensors))
        flats = [tensor.reshape(-1) for tensor in tensors]
        flat = flats[0] if len(flats) == 1 else torch.cat(flats)
        if flat.data_ptr() != tensors[0].data_ptr():
            self._copied.append((tensors, flat))
        return flat

    def pieces(self, room: int) -> Iterator[Elements]:
        """All elements, of one parameter as many at a time as there is room for, and a block's rest."""
        if len(self._sizes) > 1:
            yield Runs(self._sizes, self._theta.device)
            return
        (size,) = self._sizes
        room = block_count(room) * BLOCK
        for start in range(0, size, room):
            yield Run(start, min(start + room, size), self._theta.device)

    def read(self, elements: Elements) -> tuple[Tensor, list[Tensor]]:
        """Their θ and slots."""
        theta = self._theta[elements.here]
        if self._weights in WITH_RESIDUAL:
            theta = codecs.join(theta, self._residual[elements.here])
        theta = widen(theta)
        slots = [theta] * len(self._slots)
        for place in self._how.order:
            partner = self._how.partners[place]
            found = self._read_slot(place, elements, None if partner is None else slots[partner])
            slots[place] = found if self._how.code(place) is None else found.to(theta.dtype)
        return theta, slots

    def write(self, elements: Elements, theta: Tensor, slots: Sequence[Tensor]) -> None:
        """Their new θ and slots."""
        self._write_theta(elements, theta)
        for place in self._how.order:  # a partner first: what is written in its units needs it as it is kept
            self._write_slot(place, elements, slots[place])

    def close(self) -> None:
        """End the step: copies back to their places, and the next keys."""
        for tensors, flat in self._copied:
            put_back(flat, tensors)
        for state in self._states:
            advance_key(state)

    def _read_slot(self, place: int, elements: Elements, kept: Tensor | None = None) -> Tensor:
        """Half precision and codes as float32, all else as it is; ``kept``: the partner, if there is one."""
        code = self._how.code(place)
        if code is None:
            return widen(self._slots[place][elements.here])
        return codecs.decode(*self._coded(place, elements, code), elements, code, kept)

    def _write_slot(self, place: int, elements: Elements, new: Tensor) -> None:
        code, partner = self._how.code(place), self._how.partners[place]
        if code is None:
            self._slots[place][elements.here].copy_(new)
            return
        phases: Tensor | int = codecs.NEAREST
        if self._how.is_dithered(place):
            phases = codecs.phases(elements, self._keys, place)
        kept = None if partner is None else self._read_slot(partner, elements)
        found = codecs.encode(new.float(), phases, code, kept, elements)
        for stored, part in zip(self._coded(place, elements, code), found, strict=True):
            stored.copy_(part)

    def _coded(self, place: int, elements: Elements, code: Code) -> tuple[Tensor, Tensor]:
        """Their codes and headers, where they lie."""
        return self._slots[place][elements.codes(code.bits)], self._headers[place][elements.headers]

    def _write_theta(self, elements: Elements, new: Tensor) -> None:
        theta = self._theta[elements.here]
        if self._weights in {"exact", "nearest"}:
            theta.copy_(new)
            return
        new = new.float()
        if self._weights == "stochastic":
            theta.copy_(codecs.stochastic(new, elements, self._keys, theta.dtype))
            return
        phases = None
        if self._weights == "split8":
            phases = elements.flat(codecs.phases(elements, self._keys, _SPLIT8_SLOT))
        short, left = codecs.split_off(new, self._weights, theta.dtype, phases)
        theta.copy_(short)
        self._residual[elements.here].copy_(left)
