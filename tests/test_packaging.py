"""What is shipped: a source distribution that is the repository, and a wheel that runs without a compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Run where the wheel is installed, nothing else of this project is, and PATH has no compiler.
STEP = """
import shutil, sys
assert not any(map(shutil.which, ["c++", "cc", "g++", "gcc", "clang++", "cmake", "ninja"]))
import adamantine
assert adamantine.__file__.startswith(sys.prefix), adamantine.__file__
assert "torch" not in sys.modules
import torch
from adamantine.torch import AdamW

def train(engine):
    theta = torch.nn.Parameter(torch.linspace(-1, 1, 1000))
    optimizer = AdamW([theta], lr=0.1, engine=engine)
    for _ in range(3):
        optimizer.zero_grad()
        theta.square().sum().backward()
        optimizer.step()
    return theta.detach(), str(optimizer.explain())
"""


def run(*command: str | Path, cwd: Path = ROOT, path: str | None = None) -> str:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "ADAMANTINE", "COV_CORE"))}
    if path is not None:
        env["PATH"] = path
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def build_wheel(folder: Path) -> Path:
    """Without isolation and in a build folder that stays, so that only what changed is compiled."""
    run(
        *(sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation"),
        *("--config-settings", "build-dir=build/wheel/{wheel_tag}", "--wheel-dir", folder),
    )
    (wheel,) = folder.glob("*.whl")
    return wheel


def install(wheel: Path, folder: Path) -> Path:
    """A virtual environment that has the wheel and, from the environment of the tests, what it requires."""
    venv.create(folder, symlinks=os.name != "nt")
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel)
    purelib = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    Path(purelib, "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def tracked(*folders: str) -> set[str]:
    """Files of the checkout that git does not ignore."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout")
    names = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *folders).splitlines()
    return {name for name in names if (ROOT / name).exists()}


def test_the_source_distribution_is_the_repository(tmp_path):
    build = "import sys; from scikit_build_core.build import build_sdist; build_sdist(sys.argv[1])"
    run(sys.executable, "-c", build, tmp_path)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        names = {member.name.partition("/")[2] for member in tar if member.isfile()}
    assert names - {"PKG-INFO"} == tracked()


def test_a_wheel_runs_where_there_is_no_compiler(tmp_path):
    wheel = build_wheel(tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    (kernel,) = {name for name in names if name.endswith((".so", ".pyd"))}
    assert kernel.startswith("adamantine/_native.")
    assert {f"src/{name}" for name in names - {kernel}} == tracked("src")

    python = install(wheel, tmp_path / "venv")
    compare = STEP + "assert torch.equal(train('native')[0], train('generic')[0])\nprint(train('auto')[1])"
    assert "1 on the native engine" in run(python, "-c", compare, cwd=tmp_path, path=str(python.parent))

    (installed,) = (tmp_path / "venv").rglob(Path(kernel).name)
    for damage in (lambda: installed.write_bytes(b"not a library"), installed.unlink):
        damage()
        without = run(python, "-c", STEP + "print(train('auto')[1])", cwd=tmp_path, path=str(python.parent))
        assert "1 on the generic engine" in without
        assert "no compiled kernel" in without
