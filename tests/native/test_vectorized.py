"""The kernel's inner loops work on whole registers: read from the assembly that the compiler makes of it.

A loop over lines asks for memory ahead, so its prefetches mark it in the assembly. Between its label and the
jump back there must be arithmetic on the widest registers of the target, and none on single elements. The
source is compiled here with the flags of CMakeLists.txt. No other test can tell: the bits are equal.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from adamantine.rules import RULES

SOURCE = Path(__file__).parents[2] / "native"
CMAKE = SOURCE.parent / "CMakeLists.txt"
COMPILER = shutil.which(os.environ.get("CXX", "g++"))
REGISTER = {"x86-64-v2": "xmm", "x86-64-v3": "ymm", "x86-64-v4": "zmm"}
FORMS = ("plain", "coupled", "cautious")

#: Loops between memory and numbers → an operation that they cannot do without.
CODECS = {
    "decode_tile": "p(?:sll|srl|add|sub)[dw]",
    "encode_tile": "p(?:sll|srl|add|sub)[dw]",
    "decode_blocks": "pmovzxbd",
    "encode_blocks": "psrld",
    "encode_stochastic": "pmulld",
    "decode_kahan": "addps",
    "encode_kahan": "subps",
    "decode_split": "padd[dw]",
    "encode_split": "padd[dw]",
}

pytestmark = [
    pytest.mark.skipif(not CMAKE.exists(), reason="the sources of the kernel are not here"),
    pytest.mark.skipif(platform.machine() not in {"x86_64", "AMD64"}, reason="reads x86-64 assembly"),
    pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler (g++, or $CXX)"),
]

Functions = dict[str, list[str]]  # mangled name → lines of assembly


def flags() -> list[str]:
    found = re.search(r"set\(kernel_flags ([^)]*)\)", CMAKE.read_text())
    assert found, "CMakeLists.txt no longer sets kernel_flags"
    return found[1].split()


def compile_kernel(source: Path, target: str, output: Path) -> Functions:
    assert COMPILER
    names = ["-DADAMANTINE_NAMESPACE=k", f'-DADAMANTINE_TARGET_NAME="{target}"']
    command = [COMPILER, "-std=c++20", *flags(), f"-march={target}", "-fPIC", *names, "-S", "-o", str(output)]
    subprocess.run([*command, str(source / "kernel.cpp")], check=True)
    functions: Functions = {}
    for line in output.read_text().splitlines():
        if label := re.fullmatch(r"(_ZN[\w.]+):", line):
            functions[label[1]] = current = []
        elif functions:
            current.append(line)
    return functions


def loops(lines: list[str]) -> list[list[str]]:
    """The innermost loop around each prefetch, as lines; code that is not in a loop has none."""
    at = {line[:-1]: number for number, line in enumerate(lines) if re.fullmatch(r"\.L\w+:", line)}
    jumps = [(re.match(r"\tj\w+\s+(\.L\w+)", line), number) for number, line in enumerate(lines)]
    back = [(at[to[1]], number) for to, number in jumps if to and at.get(to[1], number) < number]
    found = set()
    for number, line in enumerate(lines):
        around = [(stop - start, start, stop) for start, stop in back if start < number < stop]
        if "\tprefetch" in line and around:
            found.add(min(around)[1:])
    return [lines[start:stop] for start, stop in sorted(found)]


def complaint(lines: list[str], register: str, kind: str) -> str | None:
    """What is wrong with a function's line loops; ``kind``: s for float, d for double."""
    bodies = loops(lines)
    if not bodies:
        return "no loop that asks for memory ahead"
    for body in bodies:
        text = "\n".join(body)
        single = re.findall(rf"\tv?(?:add|sub|mul|div|sqrt|max|min)s{kind}\b.*", text)
        if single:
            return f"{len(single)} operations on single elements, such as {single[0].strip()!r}"
        if re.search(r"\tcall\b", text):
            return "a call"
        if not re.search(rf"\tv?(?:add|sub|mul)p{kind}\b.*%{register}", text):
            return f"no arithmetic on {register} registers"
    return None


def rule_loops(functions: Functions) -> dict[tuple[str, str, str], list[str]]:
    """(struct of the rule, form, s or d) → the function that loops over lines."""
    found = {}
    for name, lines in functions.items():
        parts = re.search(r"FormE(\d)ENS\d*_\d+(\w+?)I([fd])EE", name)
        if parts and any("\tprefetch" in line for line in lines):
            found[parts[2], FORMS[int(parts[1])], {"f": "s", "d": "d"}[parts[3]]] = lines
    return found


@pytest.mark.parametrize("target", REGISTER)
def test_every_line_loop_is_vectorized(target, tmp_path):
    functions = compile_kernel(SOURCE, target, tmp_path / "kernel.s")
    found = rule_loops(functions)
    structs = re.search(r"using Rules =\s*List<(.*?)>;", (SOURCE / "rules.hpp").read_text(), re.DOTALL)
    assert structs
    expected = re.findall(r"(\w+)<T>", structs[1])
    assert len(expected) == len([rule for rule in RULES.values() if rule.elementwise])
    assert found.keys() == {(rule, form, kind) for rule in expected for form in FORMS for kind in "sd"}
    sums = {(name, "", "d"): lines for name, lines in functions.items() if re.search(r"\d+squaresI", name)}
    assert len(sums) == 4
    complaints = {key: complaint(lines, REGISTER[target], key[2]) for key, lines in {**found, **sums}.items()}
    assert {key: text for key, text in complaints.items() if text} == {}

    coded = [lines for name, lines in functions.items() if "run_blocks" in name]
    with_slots = [rule for rule in RULES.values() if rule.elementwise and rule.slots]
    ways = 3  # codes beside numbers, codes beside bfloat16, numbers that were codes
    assert len(coded) == ways * len(FORMS) * len(with_slots)
    for lines in coded:  # blocks ask ahead too, in loops of their own and around the lines
        bodies = ["\n".join(body) for body in loops(lines)]
        assert any(re.search(rf"\tv?mulps\b.*%{REGISTER[target]}", body) for body in bodies)
        assert not any(re.search(r"\tv?(?:add|sub|mul|div|sqrt)ss\b", body) for body in bodies)

    wide = {(kind, name): lines for name, lines in functions.items() for kind in CODECS if kind in name}
    assert {kind for kind, _ in wide} == set(CODECS)
    narrow = {
        name
        for (kind, name), lines in wide.items()
        if not any(re.match(rf"\tv?{CODECS[kind]}\b.*%{REGISTER[target]}", line) for line in lines)
    }
    assert narrow == set()


@pytest.mark.parametrize(
    ("direction", "words"),
    [
        ("return g;", None),
        ("return __builtin_erff(static_cast<float>(g));", "a call|single elements"),
        ('asm volatile(""); return g;', "single elements|no arithmetic"),
    ],
    ids=["as it is", "a function without vectors", "an order to be kept"],
)
def test_a_loop_that_is_not_would_be_seen(direction, words, tmp_path):
    """The control: one rule, spoilt."""
    for name in ("kernel.cpp", *(path.name for path in SOURCE.glob("*.hpp"))):
        shutil.copy(SOURCE / name, tmp_path)
    text = (tmp_path / "rules.hpp").read_text()
    spoilt = text.replace("T direction(T g) const { return g; }", f"T direction(T g) const {{ {direction} }}")
    assert words is None or spoilt != text
    spoilt = re.sub(r"using Rules =\s*List<.*?>;", "using Rules = List<Sgd<T>>;", spoilt, flags=re.DOTALL)
    (tmp_path / "rules.hpp").write_text(spoilt)
    found = rule_loops(compile_kernel(tmp_path, "x86-64-v3", tmp_path / "kernel.s"))
    text = complaint(found["Sgd", "plain", "s"], "ymm", "s")
    assert text is None if words is None else re.search(words, text or "")
