"""Checkpoints that the real libraries wrote (make_fixtures.py), unpacked once."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the fixtures; never written to."""
    folder = tmp_path_factory.mktemp("fixtures")
    with tarfile.open(Path(__file__).parent / "fixtures.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="session")
def expected(written: Path) -> dict[str, Any]:
    """file/parameter/slot → SHA-256 of the float32 values that the library itself reads there."""
    return dict(json.loads((written / "expected.json").read_text()))
