"""One thread, since the tensors here are tiny and threads would only wait; every warning, every time."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _settings():
    threads, always = torch.get_num_threads(), torch.is_warn_always_enabled()
    torch.set_num_threads(1)
    torch.set_warn_always(True)  # torch warns once per process: the first test would hide the others'
    yield
    torch.set_num_threads(threads)
    torch.set_warn_always(always)
