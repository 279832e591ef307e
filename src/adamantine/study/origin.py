"""The user's own code: imported from the current folder, and known, so that an edited one is another run."""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

INSTALLED = {"site-packages", "dist-packages"}


def import_here(name: str) -> ModuleType:
    """The module, looked for in the current folder too: a console script does not, ``python -m`` does."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    return importlib.import_module(name)


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
