"""Runs claims over worker processes, and reads a folder of them back."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path

from adamantine.report.claimmodel import ClaimResult
from adamantine.report.files import write_atomic
from adamantine.report.words import Language
from adamantine.study.claims import load_claim, modules, record, work
from adamantine.study.claims.claim import Effort
from adamantine.study.errors import StudyError

SUMMARY = "claims.json"
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def chosen(numbers: Sequence[int]) -> list[str]:
    """The modules of these claims, of all without a number.

    Raises:
        StudyError: a number without a claim.
    """
    known = modules()
    for number in numbers:
        if number not in known:
            raise StudyError(f"claim {number}: there are {', '.join(map(str, known))}")
    return [module for number, module in known.items() if not numbers or number in numbers]


def default_folder(effort: Effort) -> Path:
    return Path("runs") / f"claims-{effort.value}"


def run(
    claims: Sequence[str],
    effort: Effort,
    folder: Path,
    *,
    jobs: int = 1,
    language: Language = "en",
    fresh: bool = False,
    finished: Callable[[ClaimResult], None] = lambda result: None,
) -> list[ClaimResult]:
    """Measures and draws the claims of these modules into ``folder``, each as soon as a worker is free.

    A claim whose record was made with the same effort by the same code is not measured again, unless
    ``fresh``. Results do not depend on ``jobs``: each claim has its own process's single thread and its own
    seeds. What a claim raises is its result's ``error``.

    Raises:
        StudyError: ``jobs`` below 1, or a folder that cannot be made.
    """
    if jobs < 1:
        raise StudyError(f"--jobs must be at least 1, not {jobs}")
    _prepare(folder)
    loaded = {module: load_claim(module) for module in claims}
    if fresh:
        for claim in loaded.values():
            record.path(folder, claim.number).unlink(missing_ok=True)
    order = sorted(claims, key=lambda module: -loaded[module].seconds)
    results = []
    with _workers(min(jobs, len(order))) as pool:
        waiting: dict[Future[ClaimResult], str] = {
            pool.submit(work.work, module, effort, folder, language): module for module in order
        }
        for future in as_completed(waiting):
            try:
                result = future.result()
            except BrokenProcessPool:
                gone = RuntimeError("its worker process was killed; the same command measures it again")
                result = work.failed(loaded[waiting[future]], effort, gone)
            results.append(result)
            finished(result)
    results.sort(key=lambda result: result.number)
    text = json.dumps([asdict(result) for result in results], indent=1, ensure_ascii=False)
    write_atomic(folder / SUMMARY, (text + "\n").encode())
    return results


def load(folder: Path, language: Language = "en") -> list[ClaimResult]:
    """The claims that were measured into a folder, with figures for a page; nothing is measured.

    Verdicts are read from the stored numbers by the present predictions. A claim whose stored data the
    present code cannot read any more is an error of that claim.

    Raises:
        StudyError: the folder has no measured claim.
    """
    from adamantine.report.claimfigure import panel

    results = []
    for number, module in modules().items():
        known = record.read(folder, number)
        if known is None:
            continue
        claim = load_claim(module)
        try:
            measurement = record.from_record(known)
            title = work.headline(claim, measurement)
            figure = panel(f"claim-{number:02d}", title, partial(claim.draw, measurement), language)
            results.append(work.result(claim, known, figure=figure))
        except Exception as error:
            results.append(work.failed(claim, Effort(known["effort"]), error))
    if not results:
        raise StudyError(f"{folder}: no claims were measured there; run: adamantine claims --out {folder}")
    return results


def _prepare(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StudyError(f"--out {folder}: {error.strerror}") from error


@contextmanager
def _workers(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Spawned processes of one thread each (fork is unsafe once torch has started its own)."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(
        dict.fromkeys(_THREADS, "1")
    )  # read when a library loads, so before the processes start
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), initializer=_begin)
    try:
        yield pool
    except BaseException:
        # Not waited for: whoever interrupts wants to stop now, and what is finished is on disk.
        for process in list(getattr(pool, "_processes", {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _begin() -> None:
    """The first act of a worker: Ctrl-C is the parent's to handle, and it ends with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends this process when its parent is gone, even killed with SIGKILL in the middle of a claim."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
