"""Every dtype a state may have, and how safetensors holds it.

safetensors readers of any age know the codes of `CODES`. The few dtypes beyond them are stored as a plainer
one with the same bytes; the manifest names the dtype itself.
"""

from __future__ import annotations

from typing import Final

import torch

#: safetensors code → bytes per element and torch's dtype.
CODES: Final[dict[str, tuple[int, torch.dtype]]] = {
    "F64": (8, torch.float64),
    "F32": (4, torch.float32),
    "F16": (2, torch.float16),
    "BF16": (2, torch.bfloat16),
    "F8_E4M3": (1, torch.float8_e4m3fn),
    "F8_E5M2": (1, torch.float8_e5m2),
    "I64": (8, torch.int64),
    "I32": (4, torch.int32),
    "I16": (2, torch.int16),
    "I8": (1, torch.int8),
    "U8": (1, torch.uint8),
    "BOOL": (1, torch.bool),
    "U64": (8, torch.uint64),
    "U32": (4, torch.uint32),
    "U16": (2, torch.uint16),
}

#: Other dtypes: the code they are stored under, and whether each element becomes a pair of them.
DISGUISED: Final[dict[torch.dtype, tuple[str, bool]]] = {
    torch.complex128: ("F64", True),
    torch.complex64: ("F32", True),
    torch.complex32: ("F16", True),
    torch.float8_e4m3fnuz: ("U8", False),
    torch.float8_e5m2fnuz: ("U8", False),
} | {
    getattr(torch, name): ("U8", False)
    for name in ("float8_e8m0fnu", "float4_e2m1fn_x2")  # since torch 2.7 and 2.8
    if hasattr(torch, name)
}

_CODE_OF = {dtype: code for code, (_, dtype) in CODES.items()}
#: Name in the manifest → dtype, of all that can be stored.
NAMED: Final = {str(dtype).removeprefix("torch."): dtype for dtype in (*_CODE_OF, *DISGUISED)}


def name_of(dtype: torch.dtype) -> str:
    """As the manifest has it.

    >>> name_of(torch.bfloat16)
    'bfloat16'
    """
    return str(dtype).removeprefix("torch.")


def is_storable(dtype: torch.dtype) -> bool:
    """False for quantized and sub-byte dtypes.

    >>> is_storable(torch.bool), is_storable(torch.qint8)
    (True, False)
    """
    return dtype in _CODE_OF or dtype in DISGUISED


def stored(dtype: torch.dtype, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    """safetensors' code and shape of a tensor of a storable dtype.

    >>> stored(torch.float32, (2, 3)), stored(torch.complex64, (2,))
    (('F32', (2, 3)), ('F32', (2, 2)))
    """
    if dtype in DISGUISED:
        code, pairs = DISGUISED[dtype]
        return code, (*shape, 2) if pairs else shape
    return _CODE_OF[dtype], shape


def stored_size(dtype: torch.dtype) -> int:
    """Bytes per element as stored, half the dtype's own for complex ones.

    >>> stored_size(torch.complex64)
    4
    """
    return CODES[stored(dtype, ())[0]][0]
