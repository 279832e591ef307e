"""Slots that our optimizers keep in 8 or 4 bits (`adamantine.formats.block`), as they lie in a checkpoint.

A group says ``state="8bit"`` (or which slots are), a slot's codes are uint8 and the headers of their blocks
int32, under keys of their own (`adamantine.torch.storage.layout.coded_keys`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from adamantine.checkpoint.contents import Contents, Group, Parameter
from adamantine.checkpoint.dtypes import NAMED
from adamantine.checkpoint.errors import CheckpointError
from adamantine.formats.block import CODES, RELATIVE
from adamantine.rules import RULES
from adamantine.torch.storage import codecs
from adamantine.torch.storage.elements import block_count, packed_size
from adamantine.torch.storage.layout import (
    BLOCK_BITS,
    CODES_SUFFIX,
    RESIDUAL,
    ROUNDING,
    SCALE,
    coded_keys,
    real,
)

#: Keys under which a slot's numbers or codes may lie, of all rules.
_SLOTS = frozenset(
    each for rule in RULES.values() for slot in rule.slots.values() for each in (slot, coded_keys(slot)[0])
)
#: Keys of slots without a sign, of all rules.
UNSIGNED = frozenset(rule.slots[letter] for rule in RULES.values() for letter in rule.unsigned)
#: Slot → the slot in whose root its 4-bit codes are, in all rules that have both.
PARTNER = {
    rule.slots[letter]: rule.slots[other]
    for rule in RULES.values()
    for letter, other in rule.relative.items()
}
#: Gives the tensor behind one of the contents', which is perhaps on the meta device.
Fetch = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Coded:
    """One slot of one parameter in blocks.

    Attributes:
        slot: its key.
        form: ``"8bit"`` or ``"4bit"``.
        shape: of the numbers: the parameter's, with a last axis of 2 if that is complex.
        is_complex: whether it is.
        codes, headers: as stored.
        partner: the slot in whose root the codes are: coded itself, or dense; None where in no one's.
    """

    slot: str
    form: str
    shape: tuple[int, ...]
    is_complex: bool
    codes: Tensor
    headers: Tensor
    partner: Coded | Tensor | None

    def decode(self, fetch: Fetch) -> Tensor:
        """The numbers, float32 or complex64, in the parameter's shape."""
        numbers = self._flat(fetch).view(self.shape)
        return torch.view_as_complex(numbers) if self.is_complex else numbers

    def _flat(self, fetch: Fetch) -> Tensor:
        codes, headers = fetch(self.codes).reshape(-1), fetch(self.headers)
        n = math.prod(self.shape)
        if self.partner is None:
            return codecs.decode(codes, headers, n, CODES[BLOCK_BITS[self.form], self.slot not in UNSIGNED])
        if isinstance(self.partner, Coded):
            kept = self.partner._flat(fetch)
        else:
            kept = real(fetch(self.partner)).reshape(-1)
        return codecs.decode(codes, headers, n, RELATIVE, kept)


def coded_slots(group: Group, parameter: Parameter) -> Iterator[Coded]:
    """Those of one parameter."""
    for key in parameter.state or {}:
        slot = str(key).removesuffix(CODES_SUFFIX)
        if slot != key and (coded := _coded(slot, group, parameter)) is not None:
            yield coded


def _coded(slot: str, group: Group, parameter: Parameter) -> Coded | None:
    entry = parameter.state or {}
    option = group.hyper.get("state")
    form = option.get(slot) if isinstance(option, dict) else option
    codes, headers = map(entry.get, coded_keys(slot))
    if not isinstance(form, str) or form not in BLOCK_BITS or entry.get(slot) is not None:
        return None
    if not isinstance(codes, Tensor) or not isinstance(headers, Tensor) or codes.dtype != torch.uint8:
        return None
    is_complex = NAMED[parameter.dtype].is_complex if parameter.dtype in NAMED else False
    if parameter.shape is not None:
        shape = (*parameter.shape, 2) if is_complex else parameter.shape
    else:  # of an odd number of 4-bit codes nothing tells that it is odd
        shape = tuple(codes.shape) if form == "8bit" else (2 * codes.numel(),)
    other = PARTNER.get(slot) if form == "4bit" else None
    partner: Coded | Tensor | None = None
    if other is not None:
        dense = entry.get(other)
        partner = dense if isinstance(dense, Tensor) else _coded(other, group, parameter)
    return Coded(slot, form, shape, is_complex, codes, headers, partner)


def is_ours(contents: Contents) -> bool:
    """Whether one of our optimizers wrote it, so that keys mean what they mean here."""
    return (contents.optimizer or "").startswith("adamantine.torch.")


def check(contents: Contents, source: str) -> None:
    """Refuse codes and headers that do not fit the parameter, and codes that are no slot's; shapes and dtypes
    alone are looked at.

    Raises:
        CheckpointError: such ones.
    """
    if not is_ours(contents):
        return
    for index, parameter in enumerate(contents.parameters):
        name = parameter.name or f"parameter {index}"
        known = list(coded_slots(contents.groups[parameter.group], parameter))
        for key, value in (parameter.state or {}).items():
            is_codes = key in _SLOTS and isinstance(value, Tensor) and value.dtype == torch.uint8
            if is_codes and not any(value is coded.codes for coded in known):
                raise CheckpointError(
                    f"{source}: {key} of {name} is codes that nothing tells the meaning of. It takes state="
                    f"'8bit' or '4bit' in the group, codes under the slot's name with {CODES_SUFFIX!r} "
                    f"behind, headers with {CODES_SUFFIX + SCALE!r}, and no numbers of the same slot"
                )
        for coded in known:
            at = f"{source}: {coded.slot} of {name}"
            count = math.prod(coded.shape)
            size = packed_size(count, BLOCK_BITS[coded.form])
            blocks = block_count(count)
            headers = coded.headers
            if isinstance(coded.partner, Tensor) and coded.partner.shape != parameter.shape:
                raise CheckpointError(
                    f"{at} is in units of a slot of shape {tuple(coded.partner.shape)}: the state is damaged"
                )
            if coded.codes.numel() != size or headers.dtype != torch.int32 or headers.shape != (blocks,):
                raise CheckpointError(
                    f"{at} has {coded.codes.numel()} bytes of codes and {tuple(headers.shape)} headers of "
                    f"{headers.dtype}; {count} numbers in {coded.form} have {size} and ({blocks},) of "
                    "torch.int32: the state is damaged"
                )


def _itself(tensor: Tensor) -> Tensor:
    return tensor


def decoded(contents: Contents) -> tuple[Contents, list[str], list[str]]:
    """The same with numbers for codes, as other libraries have it; what changed and what is lost."""
    codes = residuals = keys = 0
    parameters = []
    for parameter in contents.parameters:
        entry: dict[Any, Any] = dict(parameter.state or {})
        for coded in coded_slots(contents.groups[parameter.group], parameter):
            for key in coded_keys(coded.slot):
                del entry[key]
            entry[coded.slot] = coded.decode(_itself)
            codes += 1
        residuals += entry.pop(RESIDUAL, None) is not None
        keys += entry.pop(ROUNDING, None) is not None
        parameters.append(replace(parameter, state=None if parameter.state is None else entry))
    options = {*(["state"] if codes else []), *(["weights"] if residuals or keys else [])}
    groups = [
        replace(group, hyper={key: value for key, value in group.hyper.items() if key not in options})
        for group in contents.groups
    ]
    changed, lost = [], []
    if codes:
        changed.append(
            f"{codes} tensors of 8-bit or 4-bit codes become float32, with the values they stood for"
        )
        lost.append("the codes themselves: encoding again gives others where a block's range is chosen anew")
    if residuals:
        lost.append(
            f"what {residuals} parameters have beside their 16-bit weights (at most 2⁻⁸ of each weight): "
            "other libraries keep float32 masters instead"
        )
    if keys:
        lost.append(f"the rounding keys of {keys} parameters, which belong to codes and stochastic weights")
    return replace(contents, groups=groups, parameters=parameters), changed, lost
