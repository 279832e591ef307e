"""The main job: run what is missing of a plan, and keep its folder true at every moment."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from adamantine.report.machine import processor
from adamantine.report.model import Comparison
from adamantine.study import methods, ranges
from adamantine.study.analysis import analyse
from adamantine.study.cell import Cell, Result
from adamantine.study.errors import StudyError
from adamantine.study.folder import FORMAT, Folder, identity, opened
from adamantine.study.origin import origins
from adamantine.study.plan import Method, Plan, fingerprint
from adamantine.study.refine import MOST
from adamantine.study.schedules import SCHEDULES
from adamantine.study.stages import Chunk, chunks, confirmation, planned, wanted
from adamantine.study.task import Settings, Task, check, task_errors
from adamantine.study.tasks import TASKS, load
from adamantine.study.workers import Inline, Pool, Runner, cores

ENGINES = ("local", "ray")
CHUNK = 48  # cells in a batch at most: larger ones are hardly faster, and leave the last worker alone
MANY = 1000  # seeds, and values of an axis, at most: more is a slip of the finger


class Watcher(Protocol):
    """Is told how a comparison goes on; see :mod:`adamantine.study.watch`."""

    def planned(self, method: Method, done: int, total: int, results: Mapping[Cell, Result]) -> None:
        """A method's grid now has ``total`` runs, of which ``done`` are done."""

    def finished(self, result: Result, results: Mapping[Cell, Result]) -> None:
        """One more run is done."""


class Watchers:
    """Several watchers as one, told in turn; none is a watcher that shows nothing."""

    def __init__(self, watchers: Sequence[Watcher] = ()) -> None:
        self.watchers = watchers

    def planned(self, method: Method, done: int, total: int, results: Mapping[Cell, Result]) -> None:
        for watcher in self.watchers:
            watcher.planned(method, done, total, results)

    def finished(self, result: Result, results: Mapping[Cell, Result]) -> None:
        for watcher in self.watchers:
            watcher.finished(result, results)


@dataclasses.dataclass(frozen=True)
class Run:
    """A plan checked against its task, ready to go; ``manifest`` is what its folder will say, ``members``
    how many cells are trained as one batch."""

    plan: Plan
    task: Task
    manifest: dict[str, Any]
    out: Path
    members: int
    solitary: str = ""  # why cells are trained one by one, where they are


def prepare(
    task: str = "digits",
    specs: tuple[str, ...] = methods.DEFAULTS,
    *,
    lrs: Mapping[str, str] | None = None,
    weight_decays: Mapping[str, str] | None = None,
    seeds: tuple[int, ...] = (0, 1, 2),
    schedule: str = "cosine",
    grow: int = 2,
    confirm: int = 7,
    refine: int = 1,
    settings: Settings | None = None,
    out: Path | None = None,
    command: str = "",
) -> Run:
    """Checks every argument, loads the task, and takes one step with each optimizer.

    ``lrs`` and ``weight_decays`` map a method (its spec, its class name, or ``""`` for all) to an axis such
    as ``"1e-4:1e-2:5"`` or ``"0,0.01,0.1"``. Raises :class:`StudyError` for whatever the user can mend.
    """
    from adamantine.study.ensemble.size import members_at_once  # here, for they need torch
    from adamantine.study.ensemble.trainer import why_not_batchable
    from adamantine.study.trainer import rehearse

    if schedule not in SCHEDULES:
        raise StudyError(f"--schedule {schedule!r}: there are {', '.join(SCHEDULES)}")
    if not 0 < len(seeds) <= MANY:
        raise StudyError(f"--seeds: {len(seeds)} given; give 1 to {MANY}")
    if len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise StudyError(f"--seeds {','.join(map(str, seeds))}: give different numbers, 0 or more")
    if grow < 0:
        raise StudyError(f"--grow must be 0 or more, not {grow}")
    if not 0 <= refine <= MOST:
        raise StudyError(f"--refine must be 0 to {MOST}, not {refine}")
    if not 0 <= confirm <= MANY:
        raise StudyError(f"--confirm must be 0 to {MANY}, not {confirm}")
    if max(seeds) + confirm >= 2**32:
        raise StudyError(f"--seeds {max(seeds)}: with --confirm {confirm}, seeds must stay below {2**32}")
    settings = settings or Settings()
    searches = _methods(specs, lrs or {}, weight_decays or {})
    plan = Plan(task, settings, searches, seeds, schedule, grow, confirm, refine)
    loaded = load(task, settings)
    manifest = _manifest(plan, loaded, command)
    rehearse(plan, loaded)
    safe_name = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in task)
    out = out or Path("runs") / f"{safe_name}-{fingerprint(identity(manifest))}"
    with task_errors(loaded):
        reason = why_not_batchable(loaded, plan.seeds)
        members = 1 if reason else min(members_at_once(loaded, plan.seeds[0]), CHUNK)
    return Run(plan, loaded, manifest, out, members, reason)


def check_engine(engine: str, address: str | None) -> None:
    """Raises :class:`StudyError` for an engine that there is not, or an address that it has no use for."""
    if engine not in ENGINES:
        raise StudyError(f"--engine {engine!r}: there are {', '.join(ENGINES)}")
    if address is not None and engine != "ray":
        raise StudyError(f"--address {address}: is for --engine ray")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A comparison and how many of its runs failed (raised something), as opposed to diverged."""

    comparison: Comparison
    failed: int


def compare(
    run: Run,
    *,
    jobs: int | None = 1,
    fresh: bool = False,
    watcher: Watcher | None = None,
    engine: str = "local",
    address: str | None = None,
) -> Outcome:
    """Trains every cell that the run's folder does not have yet, and writes the folder's table.

    The results depend neither on ``jobs`` (None: all cores there are) nor on ``engine``. On KeyboardInterrupt
    everything finished so far is in the folder.

    Args:
        engine: ``"local"``, processes of this machine; or ``"ray"``, a cluster.
        address: of the Ray cluster; None: what RAY_ADDRESS names, else one on this machine.
    """
    if jobs is not None and jobs < 1:
        raise StudyError(f"--jobs must be at least 1, not {jobs}")
    check_engine(engine, address)

    def start(chunks: int) -> Runner:
        if engine == "ray":
            from adamantine.study.cluster import RayRunner

            return RayRunner(run.plan, run.task, address=address, jobs=jobs)
        few = min(jobs or cores(), chunks)
        return Inline(run.plan, run.task) if few == 1 else Pool(run.plan, few)

    with opened(run.out, run.manifest, fresh=fresh) as folder:
        try:
            _train_missing(run, folder, start, watcher or Watchers())
        finally:
            folder.write_table(
                cell for method in run.plan.methods for cell in planned(method, run.plan, folder.results)
            )
        failed = sum(result.status == "failed" for result in folder.results.values())
        return Outcome(analyse(run.manifest, folder.results), failed)


def _train_missing(run: Run, folder: Folder, start: Callable[[int], Runner], watcher: Watcher) -> None:
    """Each method goes on at its own pace: when a stage is done, it may want more cells."""
    plan = run.plan
    waiting = {method.spec: 0 for method in plan.methods}
    runner: Runner | None = None
    try:
        while True:
            queues = []
            for method in plan.methods:
                if waiting[method.spec]:
                    continue
                missing = len(wanted(method, plan, folder.results))
                done = len(planned(method, plan, folder.results)) - missing
                later = plan.confirm if missing and not confirmation(method, plan, folder.results) else 0
                watcher.planned(method, done, done + missing + later, folder.results)
                todo = chunks(method, plan, folder.results, run.members)
                waiting[method.spec] = sum(map(len, todo))
                queues.append(todo)
            submitted = _interleaved(queues)
            if submitted:
                runner = runner or start(len(submitted))
                runner.submit(submitted)
            while any(waiting.values()):
                assert runner is not None
                results = runner.next()
                news = [result for result in results if result.cell not in folder.results]
                folder.add(results)
                for result in news:
                    watcher.finished(result, folder.results)
                spec = results[0].cell.method
                waiting[spec] -= len(results)
                if not waiting[spec]:
                    break
            else:
                return
    finally:
        if runner is not None:
            runner.close()


def _interleaved(queues: list[list[Chunk]]) -> list[Chunk]:
    """The methods' chunks in turn, so that all grids fill at the same pace."""
    longest = max(map(len, queues), default=0)
    return [queue[index] for index in range(longest) for queue in queues if index < len(queue)]


def _methods(
    specs: tuple[str, ...], lrs: Mapping[str, str], weight_decays: Mapping[str, str]
) -> tuple[Method, ...]:
    parsed = [methods.parse(text) for text in specs]
    names = [str(spec) for spec in parsed]
    keys = [(spec.module, spec.class_name, sorted(map(repr, spec.arguments))) for spec in parsed]
    for index, name in enumerate(names):
        if keys[index] in keys[:index]:
            raise StudyError(f"--method {name!r} is given twice")
    for option, given in (("--lr", lrs), ("--weight-decay", weight_decays)):
        known = {"", *names, *(spec.class_name for spec in parsed)}
        for key in given:
            if key not in known and not _matches(key, names):
                raise StudyError(f"{option} '{key}=...': no such method here; there are {', '.join(names)}")
    found = []
    for spec in parsed:
        methods.resolve(spec)
        lr_text, wd_text = _chosen(spec, lrs), _chosen(spec, weight_decays)
        lr_axis = _axis(lr_text, "--lr") if lr_text else ranges.default_lrs(spec)
        mode = methods.probe(spec, lr_axis[0], 0.0)
        wd_axis = _axis(wd_text, "--weight-decay") if wd_text else ranges.default_weight_decays(spec, mode)
        methods.probe(spec, lr_axis[-1], wd_axis[-1])
        found.append(Method("", str(spec), mode, lr_axis, wd_axis))
    titles = methods.titles(parsed, [method.decay for method in found])
    return tuple(dataclasses.replace(method, name=title) for method, title in zip(found, titles, strict=True))


def _axis(text: str, option: str) -> tuple[float, ...]:
    """The values of an axis, counted before they are made."""
    for part in text.split(","):
        with contextlib.suppress(ValueError):  # what is no number is for the parser to refuse
            if part.count(":") == 2 and float(part.rpartition(":")[2]) > MANY:
                raise StudyError(f"{option} {text!r}: at most {MANY} values")
    values = ranges.parse_axis(text, option)
    if len(values) > MANY:
        raise StudyError(f"{option}: {len(values)} values; at most {MANY}")
    return values


def _matches(key: str, names: list[str]) -> bool:
    try:
        return str(methods.parse(key)) in names
    except StudyError:
        return False


def _chosen(spec: methods.Spec, given: Mapping[str, str]) -> str | None:
    """The axis for this method: the most exact key wins."""
    for key, text in given.items():
        if key and _matches(key, [str(spec)]):
            return text
    return given.get(spec.class_name, given.get(""))


def _manifest(plan: Plan, task: Task, command: str) -> dict[str, Any]:
    """Everything a reader needs to run this again, and nothing that changes when it is."""
    configuration = plan.to_dict()
    users = [] if plan.task in TASKS else [plan.task.partition(":")[0]]
    modules = users + [methods.parse(method.spec).module for method in plan.methods]
    files = {key: configuration["settings"].pop(key) for key in ("data_dir", "text")}
    return {
        "format": FORMAT,
        "command": command,
        "configuration": configuration,
        "task": {
            "title": task.title,
            "score_name": task.score_name,
            "score_unit": task.score_unit,
            "batch_size": task.batch_size,
            "epochs": task.epochs,
        },
        "seeds": list(plan.seeds),
        "fresh seeds": list(plan.fresh_seeds),
        "files": files,
        "data": check(task, plan.seeds[0]),
        "code": origins(modules),
        "versions": {
            name: importlib.metadata.version(name)
            for name in ("adamantine", "torch", "numpy", "scikit-learn")
        }
        | {"python": platform.python_version()},
        "machine": {
            "system": f"{platform.system()} {platform.release()}",
            "processor": processor(),
            "cores": os.cpu_count(),
        },
    }
