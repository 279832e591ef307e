"""Checks in a process of their own, so that a class that crashes or hangs costs one row and not the table."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from adamantine.testing.outcome import Conformance, Outcome, Result
from adamantine.testing.run import chosen

#: Seconds without news after which a process is ended; a check takes milliseconds, or one compilation.
TIMEOUT = 60.0

#: The least that a process gets for importing torch and the class's package, on a busy machine too.
START = 60.0


def check_isolated(
    target: str,
    *,
    hyper: Mapping[str, Any] | None = None,
    name: str = "",
    only: Collection[str] | None = None,
    timeout: float = TIMEOUT,
    finished: Callable[[Result], object] = lambda result: None,
) -> Conformance:
    """`check_optimizer` of ``"module:Class"``, in another process.

    A check in which the process ends, or is silent for ``timeout`` seconds, is a row that says so; the checks
    after it run in a new process. Whatever cannot be imported or constructed is a `Conformance` with a
    ``problem``.

    Raises:
        ConformanceError: ``only`` names no check.
    """
    left = [check.name for check in chosen(only)]
    found = Conformance(name=name or target.rpartition(":")[2], reference=target, hyper=dict(hyper or {}))
    results: list[Result] = []

    def heard(result: Result) -> None:
        results.append(result)
        finished(result)

    while left:
        with tempfile.TemporaryDirectory() as folder:
            log = _Log(Path(folder) / "lines")
            ended = _run(
                {
                    "target": target,
                    "hyper": dict(hyper or {}),
                    "name": name,
                    "checks": left,
                    "out": str(log.path),
                },
                log,
                timeout,
                heard,
            )
        if log.problem:
            return replace(found, problem=log.problem)
        if log.subject is None:
            return replace(found, problem=f"{target}: importing or constructing it {ended}")
        found = replace(log.subject, results=())
        if log.done:
            break
        if log.started is None:
            return replace(found, results=tuple(results), problem=f"the process {ended} between two checks")
        results.append(Result(log.started, Outcome.RAISED, f"the process {ended}"))
        finished(results[-1])
        left = left[left.index(log.started) + 1 :]
    return replace(found, results=tuple(results))


class _Log:
    """What the worker has written so far."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problem = ""
        self.subject: Conformance | None = None
        self.started: str | None = None
        self.done = False
        self._read = 0

    def read(self, finished: Callable[[Result], object]) -> bool:
        """Takes in the lines that are complete; whether there were any."""
        if not self.path.exists():
            return False
        with self.path.open("rb") as lines:
            lines.seek(self._read)
            new = lines.read()
        new = new[: new.rfind(b"\n") + 1]
        self._read += len(new)
        for text in new.decode().splitlines():
            line = json.loads(text)
            self.problem = line.get("problem", self.problem)
            self.done = line.get("done", self.done)
            if "subject" in line:
                self.subject = Conformance.of_dict(line["subject"])
            if "start" in line:
                self.started = line["start"]
            if "result" in line:
                self.started = None
                finished(Result.of_dict(line["result"]))
        return bool(new)


def _run(request: dict[str, Any], log: _Log, timeout: float, finished: Callable[[Result], object]) -> str:
    """One worker from start to end; how it ended, in words that follow "the process"."""
    with tempfile.TemporaryFile() as said:
        worker = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "adamantine.testing.worker", json.dumps(request)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
        )
        try:
            heard = time.monotonic()
            while (code := worker.poll()) is None:
                if log.read(finished):
                    heard = time.monotonic()
                limit = timeout if log.subject else max(timeout, START)
                if time.monotonic() - heard > limit:
                    return f"said nothing for {limit:g} s and was ended"
                time.sleep(0.02)
        finally:
            worker.kill()
            worker.wait()
            log.read(finished)
        said.seek(0)
        tail = said.read().decode(errors="replace").strip().splitlines()[-1:]
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}{': ' + tail[0][:200] if tail else ''}"
