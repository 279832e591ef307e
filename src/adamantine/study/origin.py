"""Which code of the user's a run depends on, so that an edited task or optimizer is another run."""

from __future__ import annotations

import hashlib
import importlib.metadata
import sys
from collections.abc import Iterable
from pathlib import Path

INSTALLED = {"site-packages", "dist-packages"}


def origins(modules: Iterable[str]) -> dict[str, str]:
    """By name: the version of an installed distribution, the SHA-256 of any other module's source file.

    ``modules`` have been imported. What they have imported from their own top-level package counts as well,
    since a package's ``__init__`` often only passes on what other files define. Adamantine itself and the
    standard library are left out: the manifest has their versions.
    """
    found: dict[str, str] = {}
    for top in sorted({module.partition(".")[0] for module in modules} - {"", "adamantine"}):
        if top in sys.stdlib_module_names:
            continue
        for name, module in sorted(sys.modules.items()):
            file = getattr(module, "__file__", None)
            if name.partition(".")[0] != top or file is None:
                continue
            if INSTALLED & set(Path(file).parts):
                found |= _versions(top)
                break
            found[name] = hashlib.sha256(Path(file).read_bytes()).hexdigest()
    return found


def _versions(top: str) -> dict[str, str]:
    distributions = importlib.metadata.packages_distributions().get(top, [])
    return {name: importlib.metadata.version(name) for name in sorted(set(distributions))}
