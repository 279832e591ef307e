"""The compiled kernel (native/module.cpp). Private: its users are adamantine.torch and adamantine.bench."""

from collections.abc import Sequence
from typing import Any

target: str
targets: tuple[str, ...]
rules: tuple[tuple[str, str, str], ...]
BLOCK: int
TILE: int

def step(
    target: str,
    rule: str,
    form: int,
    numbers: Sequence[float],
    arrays: list[tuple[int, str]],
    start: int,
    stop: int,
) -> None: ...
def squares(
    arrays: list[tuple[int, str, int]], threads: int, target: str = ""
) -> list[tuple[float, float]]: ...
def traffic(reads: list[int], writes: list[int], bytes: int, threads: int) -> None: ...

class Reader:
    protocol: str
    def __init__(self, tensor_type: type, parameter_type: type, protocol: str = "") -> None: ...

class Table:
    def __init__(self, groups: list[Any], state: dict[Any, Any], fresh: set[Any], reader: Reader) -> None: ...
    def gather(
        self, groups: list[Any], state: dict[Any, Any]
    ) -> tuple[list[tuple[int, bool, tuple[float, ...]]], list[int], bool, bool] | None: ...
    def squares(self, threads: int) -> float: ...
    def run(self, rows: list[Any], grad_scale: float, threads: int) -> None: ...
    def release(self) -> None: ...
    def statistics(self) -> list[tuple[Any, float, float]]: ...
    def gathered(self) -> list[Any]: ...
    def reasons(self) -> list[str | None]: ...
