"""Coverage-guided fuzzing of all readers (needs atheris).

    python tests/checkpoint/fuzz/fuzz_reader.py CORPUS -max_total_time=600 -timeout=20 -rss_limit_mb=4096

CORPUS is a folder; the seeds are put there. The first byte of an input says what it is (`KINDS`), the rest is
the file, or the part of a file that is put under right checksums. Whatever a reader raises besides
CheckpointError ends the run and is written to a file ``crash-…``.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["adamantine.checkpoint", "zipfile", "pickletools"]):
    import forging

KINDS: list[tuple[str, forging.Forge]] = [
    ("f.safetensors", forging.with_bytes),
    ("f.safetensors", forging.with_manifest),
    ("f.safetensors", forging.with_header),
    ("f.safetensors.index.json", forging.with_bytes),
    ("f.pt", forging.with_bytes),
    ("f.pt", forging.with_pickle),
    ("f.msgpack", forging.with_bytes),
    ("f-zero", forging.with_rank),
]
_SLICES = ("bitsandbytes.pt", "torchao-AdamW8bit.pt", "torchao-AdamW4bit.pt", "torchao-AdamWFp8.pt")


def seeds(folder: Path) -> list[tuple[int, bytes]]:
    """(kind, content) of valid inputs; ``folder`` keeps the files that forgeries borrow from."""
    single, pickled = forging.adamantine(folder), forging.torch_file(folder)
    (folder / "shards").mkdir()
    forging.adamantine(folder / "shards", max_shard_bytes=40)
    for shard in (folder / "shards").iterdir():
        shard.rename(folder / shard.name)
    found = [
        (0, single.read_bytes()),
        (1, forging.manifest_of(single)),
        (2, forging.header_of(single)),
        (3, (folder / "seed.safetensors.index.json").read_bytes()),
        (4, pickled.read_bytes()),
        (5, forging.pickle_of(pickled)),
    ]
    found.append((7, forging.pickle_of(forging.zero(folder))))
    for path in sorted((folder / "fixtures").rglob("*")):
        if path.suffix == ".msgpack":
            found.append((6, path.read_bytes()))
        elif path.name in _SLICES or path.name.endswith("_optim_states.pt"):
            found.append((5, forging.pickle_of(path)))
    return found


def main() -> None:
    warnings.simplefilter("ignore")  # of torch, about dtypes a hostile file may name
    corpus = Path(next(argument for argument in sys.argv[1:] if not argument.startswith("-")))
    corpus.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, (kind, content) in enumerate(seeds(folder)):
            (corpus / f"seed-{number}").write_bytes(bytes([kind]) + content)

        def one(data: bytes) -> None:
            if data:
                file, forge = KINDS[data[0] % len(KINDS)]
                forging.read(forge(folder / file, data[1:]))

        atheris.Setup(sys.argv, one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
