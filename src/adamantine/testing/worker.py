"""The process in which a foreign class is tried: ``python -m adamantine.testing.worker REQUEST``.

A class may end the process that runs it (a segmentation fault of its kernel) or never return. It therefore
runs in its own, which writes a line of JSON before and after every check; `isolated.py` reads them.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, TextIO


def main(request: dict[str, Any]) -> None:
    """Runs the checks that are asked for, and writes what happens into the file ``request["out"]``."""
    with open(request["out"], "a", encoding="utf-8") as out:
        sys.path.insert(0, os.getcwd())  # a class of the user's own project, as with any script there
        from adamantine.testing.errors import ConformanceError
        from adamantine.testing.resolve import subject_of
        from adamantine.testing.run import ask, chosen, conformance

        try:
            it = subject_of(request["target"], hyper=request["hyper"], name=request["name"])
        except ConformanceError as error:
            _write(out, {"problem": str(error)})
            return
        _write(out, {"subject": conformance(it, []).as_dict()})
        for check in chosen(request["checks"]):
            _write(out, {"start": check.name})
            _write(out, {"result": ask(check, it).as_dict()})
        _write(out, {"done": True})


def _write(out: TextIO, line: dict[str, Any]) -> None:
    out.write(json.dumps(line) + "\n")
    out.flush()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
