"""The console entry: ``adamantine`` or ``python -m adamantine``."""

from __future__ import annotations

import io
import sys
from importlib.util import find_spec

ALWAYS = ("rich", "typer")
NEEDED = {  # by command
    "audit": ("torch", "jinja2"),
    "bench": ("torch", "matplotlib", "jinja2"),
    "check": ("torch",),
    "checkpoint": ("torch",),
    "claims": ("torch", "sklearn", "scipy", "matplotlib"),
    "compare": ("torch", "sklearn", "scipy", "matplotlib", "jinja2"),
    "report": ("scipy", "matplotlib", "jinja2"),
    "transfer": ("scipy",),
    "tune": ("torch", "sklearn", "scipy", "matplotlib"),
}
OF_CHECK = ("audit", "check", "checkpoint")  # commands that the extra "check" is enough for


def main() -> None:
    """Starts the command line, or says which extra is missing and exits 2."""
    command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    missing = [name for name in (*NEEDED.get(command, ()), *ALWAYS) if find_spec(name) is None]
    if missing:
        extra = "check" if command in OF_CHECK else "study"
        print(
            f'adamantine: {", ".join(missing)} not installed; run: pip install "adamantine[{extra}]"',
            file=sys.stderr,
        )
        raise SystemExit(2)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that lacks a letter shows another
    from adamantine.cli import app

    app()


if __name__ == "__main__":
    main()
