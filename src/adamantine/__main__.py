"""The console entry: ``adamantine`` or ``python -m adamantine``."""

from __future__ import annotations

import sys
from importlib.util import find_spec

NEEDED = ("torch", "sklearn", "matplotlib", "jinja2", "rich", "typer")


def main() -> None:
    """Starts the command line, or says which extra is missing and exits 2."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        print(
            f'adamantine: {", ".join(missing)} not installed; run: pip install "adamantine[study]"',
            file=sys.stderr,
        )
        raise SystemExit(2)
    from adamantine.cli import app

    app()


if __name__ == "__main__":
    main()
