"""Slots that our optimizers keep in 8 or 4 bits (`adamantine.formats.block`), as they lie in a checkpoint.

A group says ``state="8bit"`` (or which slots are), a slot's codes are uint8 under its key, and the headers of
their blocks int32 under the key with ``_scale`` behind.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from adamantine.checkpoint.contents import Contents, Group, Parameter
from adamantine.checkpoint.dtypes import NAMED
from adamantine.checkpoint.errors import CheckpointError
from adamantine.formats.block import BLOCK, CODES
from adamantine.rules import RULES
from adamantine.torch import codecs
from adamantine.torch.storage import BLOCK_BITS, RESIDUAL, ROUNDING, SCALE

#: Keys of slots without a sign, of all rules.
UNSIGNED = frozenset(rule.slots[letter] for rule in RULES.values() for letter in rule.unsigned)


@dataclass(frozen=True)
class Coded:
    """One slot of one parameter in blocks.

    Attributes:
        slot: its key.
        form: ``"8bit"`` or ``"4bit"``.
        shape: of the numbers: the parameter's, with a last axis of 2 if that is complex.
        is_complex: whether it is.
        codes, headers: as stored; perhaps on the meta device.
    """

    slot: str
    form: str
    shape: tuple[int, ...]
    is_complex: bool
    codes: Tensor
    headers: Tensor

    def decode(self, codes: Tensor, headers: Tensor) -> Tensor:
        """The numbers, float32 or complex64, in the parameter's shape."""
        code = CODES[BLOCK_BITS[self.form], self.slot not in UNSIGNED]
        flat = codecs.decode(codes.reshape(-1), headers, math.prod(self.shape), code)
        numbers = flat.view(self.shape)
        return torch.view_as_complex(numbers) if self.is_complex else numbers


def coded_slots(group: Group, parameter: Parameter) -> Iterator[Coded]:
    """Those of one parameter."""
    state = group.hyper.get("state")
    for slot, codes in (parameter.state or {}).items():
        form = state.get(slot) if isinstance(state, dict) else state
        headers = (parameter.state or {}).get(f"{slot}{SCALE}")
        if not isinstance(form, str) or form not in BLOCK_BITS:
            continue
        if not isinstance(codes, Tensor) or not isinstance(headers, Tensor) or codes.dtype != torch.uint8:
            continue
        is_complex = NAMED[parameter.dtype].is_complex if parameter.dtype in NAMED else False
        shape = tuple(codes.shape) if parameter.shape is None else parameter.shape
        if parameter.shape is None and form == "4bit":
            shape = (2 * codes.numel(),)  # or one less, which nothing tells
        elif is_complex and parameter.shape is not None:
            shape = (*shape, 2)
        yield Coded(str(slot), form, shape, is_complex, codes, headers)


def is_ours(contents: Contents) -> bool:
    """Whether one of our optimizers wrote it, so that keys mean what they mean here."""
    return (contents.optimizer or "").startswith("adamantine.torch.")


def check(contents: Contents, source: str) -> None:
    """Refuse codes and headers that do not fit the parameter; shapes and dtypes alone are looked at.

    Raises:
        CheckpointError: such ones.
    """
    if not is_ours(contents):
        return
    for index, parameter in enumerate(contents.parameters):
        for coded in coded_slots(contents.groups[parameter.group], parameter):
            count = math.prod(coded.shape)
            size = codecs.packed_size(count, BLOCK_BITS[coded.form])
            blocks = -(-count // BLOCK)
            headers = coded.headers
            if coded.codes.numel() != size or headers.dtype != torch.int32 or headers.shape != (blocks,):
                raise CheckpointError(
                    f"{source}: {coded.slot} of {parameter.name or f'parameter {index}'} has "
                    f"{coded.codes.numel()} bytes of codes and {tuple(headers.shape)} headers of "
                    f"{headers.dtype}; {count} numbers in {coded.form} have {size} and ({blocks},) of "
                    "torch.int32: the state is damaged"
                )


def decoded(contents: Contents) -> tuple[Contents, list[str], list[str]]:
    """The same with numbers for codes, as other libraries have it; what changed and what is lost."""
    codes = residuals = keys = 0
    parameters = []
    for parameter in contents.parameters:
        entry: dict[Any, Any] = dict(parameter.state or {})
        for coded in coded_slots(contents.groups[parameter.group], parameter):
            entry[coded.slot] = coded.decode(coded.codes, coded.headers)
            del entry[f"{coded.slot}{SCALE}"]
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
