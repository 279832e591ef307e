"""The plugin in a pytest run of its own, as a user has it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

USER = """
import torch

GOOD = torch.nn.Linear(4, 2, bias=False)
BAD = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.LayerNorm(4))


def test_good(assert_no_findings):
    assert_no_findings(torch.optim.SGD(GOOD.parameters(), lr=0.1), GOOD)


def test_bad(assert_no_findings):
    optimizer = torch.optim.Adam(BAD.parameters(), lr=1e-3, weight_decay=0.1)
    assert_no_findings(optimizer, BAD)  # here


def test_bad_and_known(assert_no_findings):
    optimizer = torch.optim.AdamW(BAD[1].parameters(), lr=1e-3, weight_decay=0.1)
    assert_no_findings(optimizer, BAD[1], ignore=["decays-norm", "decays-bias"])


def test_own_look(audit_optimizer):
    audited = audit_optimizer(torch.optim.Adam(BAD.parameters(), weight_decay=0.1), BAD)
    assert "l2-in-adaptive" in {finding.code for finding in audited.findings}
"""


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # Entry points are off, and the plugin is named: registered twice, pytest would refuse it.
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "adamantine.audit.pytest_plugin",
        "-p",
        "no:cacheprovider",
    ]
    return subprocess.run(
        [*command, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("user")
    (folder / "test_training.py").write_text(USER)
    return run(folder, "-rA").stdout


def test_only_the_test_with_a_mistake_fails(output: str) -> None:
    assert "3 passed" in output
    assert "1 failed" in output
    assert "FAILED test_training.py::test_bad -" in output


def test_a_failure_shows_the_findings_and_the_line_of_the_test(output: str) -> None:
    assert "l2-in-adaptive" in output
    assert "0.weight" in output
    assert "# here" in output
    assert "pytest_plugin.py" not in output  # the user's lines only


def test_fixtures_say_what_they_do(tmp_path: Path) -> None:
    listed = run(tmp_path, "--fixtures").stdout
    assert "assert_no_findings [session scope]" in listed
    assert "audit_optimizer [session scope]" in listed


def test_a_run_that_uses_no_fixture_pays_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text(
        "import sys\n\n\ndef test_other():\n"
        "    assert 'torch' not in sys.modules\n"
        "    assert 'adamantine.audit.api' not in sys.modules\n"
    )
    done = run(tmp_path)
    assert done.returncode == 0, done.stdout
