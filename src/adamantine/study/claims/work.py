"""What happens to one claim: measured unless its record is there, then drawn. Runs in a worker process."""

from __future__ import annotations

import sys
import time
import traceback
from functools import partial
from pathlib import Path
from typing import Any

from adamantine.report.claimmodel import CheckedPrediction, ClaimResult
from adamantine.report.files import write_atomic
from adamantine.report.words import Language, Words
from adamantine.study.claims import load_claim, record
from adamantine.study.claims.claim import Claim, Effort, Measurement
from adamantine.study.claims.verdict import claim_verdict, judged, measured_text, tolerance

FIGURES = "figures"
VARIANTS = ("light.png", "light.svg", "dark.png", "dark.svg")


def work(module: str, effort: Effort, folder: Path, language: Language) -> ClaimResult:
    """Measures and draws one claim into ``folder``; what it raises is its result, never this function's.

    The record is written before the figures are drawn: a process killed meanwhile loses the drawing only.
    """
    claim = load_claim(module)
    try:
        code = code_of(module)
        known = record.read(folder, claim.number)
        if known is None or not record.valid(known, effort, code):
            known = _measured(claim, effort) | {"code": code}
            record.write(folder, claim, known)
        if known.get("drawn") != language or not all(file.exists() for file in _figure_files(claim, folder)):
            _draw(claim, record.from_record(known), folder, language)
            record.write(folder, claim, known | {"drawn": language})
        return result(claim, known)
    except Exception as error:  # a claim's own code: reported as its error, and the others go on
        return failed(claim, effort, error)


def code_of(module: str) -> str:
    """The fingerprint of the code that decides what the claim measures."""
    return record.fingerprint(Path(str(sys.modules[module].__file__)))


def _measured(claim: Claim, effort: Effort) -> dict[str, Any]:
    start = time.perf_counter()
    measurement = record.to_record(claim.measure(effort))
    judged(claim.predictions, measurement["values"])  # refuses a form that no verdict can be read from
    seconds = round(time.perf_counter() - start, 2)
    return {"effort": effort.value, "seconds": seconds, "measurement": measurement}


def _figure_files(claim: Claim, folder: Path) -> list[Path]:
    return [folder / FIGURES / f"claim-{claim.number:02d}-{variant}" for variant in VARIANTS]


def _draw(claim: Claim, measurement: Measurement, folder: Path, language: Language) -> None:
    from adamantine.report.claimfigure import files

    (folder / FIGURES).mkdir(parents=True, exist_ok=True)
    name = f"claim-{claim.number:02d}"
    title = headline(claim, measurement)
    for file, content in files(name, title, partial(claim.draw, measurement), language):
        write_atomic(folder / FIGURES / file, content)


def headline(claim: Claim, measurement: Measurement) -> Words:
    """The figure's title: the finding where the claim holds, else its verdict and what was claimed."""
    if callable(claim.finding):
        return claim.finding(measurement)
    status = claim_verdict(claim.predictions, measurement.values)
    if status == "holds":
        return claim.finding
    if status == "refuted":
        return Words(f"Refuted: {claim.title.en}", f"被否证：{claim.title.zh}")
    return Words(f"Not decided: {claim.title.en}", f"未定：{claim.title.zh}")


def result(claim: Claim, known: dict[str, Any], *, figure: str = "") -> ClaimResult:
    """A record as the plain data that tables and pages show."""
    values = known["measurement"]["values"]
    statuses = judged(claim.predictions, values)
    checked = tuple(
        CheckedPrediction(p.said, tolerance(p), measured_text(p, values[p.name]), status)
        for p, status in zip(claim.predictions, statuses, strict=True)
    )
    return ClaimResult(
        number=claim.number,
        title=claim.title,
        says=claim.says,
        formula=claim.formula,
        sources=claim.sources,
        predictions=checked,
        verdict=claim_verdict(claim.predictions, values),
        revised=claim.revised,
        effort=known["effort"],
        seconds=known["seconds"],
        figure=figure,
    )


def failed(claim: Claim, effort: Effort, error: BaseException) -> ClaimResult:
    """The result of a claim whose experiment could not be carried out."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return ClaimResult(
        number=claim.number,
        title=claim.title,
        says=claim.says,
        formula=claim.formula,
        sources=claim.sources,
        predictions=(),
        verdict="error",
        effort=effort.value,
        error=f"{type(error).__name__}: {error}{where}",
    )
