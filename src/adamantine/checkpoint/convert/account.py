"""The account of a conversion: the written file is read again and held against what was to be written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from adamantine.checkpoint.convert.blockwise import Blockwise
from adamantine.checkpoint.convert.neutral import OptimizerState
from adamantine.checkpoint.convert.report import ConversionReport, Error, equal


def compare(
    before: Mapping[str, Mapping[str, Any]], names: list[str], after: OptimizerState, report: ConversionReport
) -> None:
    """Count in ``report`` what arrived bit for bit, and measure what did not."""
    name_after = dict(zip(names, names if set(names) == set(after.names) else after.names, strict=True))
    same = total = 0
    errors: dict[str, Error] = {}
    missing: dict[str, int] = {}
    for name, slots in before.items():
        arrived = after.state.get(name_after[name], {})
        for slot, value in slots.items():
            total += 1
            if slot not in arrived:
                missing[slot] = missing.get(slot, 0) + 1
            elif _same(value, arrived[slot]):
                same += 1
            elif isinstance(value, Tensor | Blockwise) and isinstance(arrived[slot], Tensor | Blockwise):
                error = errors.setdefault(slot, Error())
                error.add(_numbers(value), _numbers(arrived[slot]))
    report.kept.append(f"{same} of {total} entries of the state, as read back from what was written")
    report.changed += [f"{slot}: {error}" for slot, error in errors.items()]
    report.lost += [f"{slot} of {count} parameters" for slot, count in missing.items()]


def _same(before: Any, after: Any) -> bool:
    if isinstance(before, Tensor) and isinstance(after, Tensor):
        return equal(before, after) or (
            before.numel() == after.numel() == 1 and float(before) == float(after)
        )
    if isinstance(before, Blockwise) and isinstance(after, Blockwise):
        return equal(before.codes, after.codes.view(before.codes.shape)) and equal(before.scale, after.scale)
    if isinstance(before, Blockwise) or isinstance(after, Blockwise):
        return equal(_numbers(before), _numbers(after))
    if isinstance(before, Tensor) or isinstance(after, Tensor):  # a step count
        return float(before) == float(after)
    if isinstance(before, dict) and isinstance(after, dict):
        return before.keys() == after.keys() and all(_same(before[key], after[key]) for key in before)
    if isinstance(before, list | tuple) and isinstance(after, list | tuple):
        return len(before) == len(after) and all(map(_same, before, after))
    return bool(before == after)


def _numbers(value: Tensor | Blockwise) -> Tensor:
    return value.dequantize() if isinstance(value, Blockwise) else value
