"""What a heat map says in words: about one setting, and about the whole."""

from __future__ import annotations

import numpy as np

from adamantine.report import coordinates as system
from adamantine.report.model import MethodGrid
from adamantine.report.numbers import Scores, setting
from adamantine.report.phrases import counted, fill
from adamantine.report.separability_model import Coordinates
from adamantine.report.words import Words


def told(method: MethodGrid, at: tuple[int, int], scores: Scores, steps_per_epoch: int | None) -> list[Words]:
    """What a reader learns about one setting: the score with its spread first, then ``name: value`` lines."""
    i, j = at
    values = method.validation[at][np.isfinite(method.validation[at])]
    diverged, seeds = int(method.diverged[at].sum()), len(method.seeds)
    spread = f" ± {scores.number(float(values.std(ddof=1)))}" if values.size > 1 else ""
    shown = f"{scores.number(float(values.mean()))}{spread}" if values.size else "–"
    unit = f" {scores.unit}" if scores.unit and values.size else ""
    lines = [
        fill(Words("Validation {name} {value}", "验证{name} {value}"), name=scores.name, value=shown + unit),
        fill(Words("learning rate η: {x}", "学习率 η：{x}"), x=setting(method.lrs[i])),
        fill(Words("weight decay λ: {x}", "权重衰减 λ：{x}"), x=setting(method.weight_decays[j])),
        fill(
            Words("per step γ: {x}", "每步衰减 γ：{x}")
            if method.decay == "independent"
            else Words("per step γ = ηλ: {x}", "每步衰减 γ = ηλ：{x}"),
            x=setting(system.per_step(method, method.lrs[i], method.weight_decays[j])),
        ),
    ]
    tau = system.timescale(method, method.lrs[i], method.weight_decays[j])
    if tau is not None:
        epochs = Words("", "")
        if steps_per_epoch:
            epochs = fill(Words(" = {n} epochs", " = {n} 轮"), n=system.steps(tau / steps_per_epoch))
        lines.append(
            fill(
                Words("timescale τ = 1/γ: {n} steps{e}", "时间尺度 τ = 1/γ：{n} 步{e}"),
                n=system.steps(tau),
                e=epochs,
            )
        )
    lines.append(
        fill(
            Words("seeds: {finished} of {seeds} finished", "种子：{seeds} 个中完成 {finished} 个"),
            finished=str(values.size),
            seeds=str(seeds),
        )
    )
    if diverged:
        lines.append(fill(Words("diverged: {seeds}", "发散：{seeds}"), seeds=counted(diverged, "seed")))
    if at == method.best and method.finest is not None:
        lines.append(
            fill(
                Words(
                    "best of the grid; between its steps, ★ η = {lr}, λ = {decay} is better: {value}",
                    "网格中最好的；网格之间的 ★ η = {lr}、λ = {decay} 更好：{value}",
                ),
                lr=setting(method.finest.lr),
                decay=setting(method.finest.weight_decay),
                value=scores.value(float(method.finest.validation.mean())),
            )
        )
    elif at == method.best:
        lines.append(Words("★ best setting of its method", "★ 该方法的最佳设置"))
    elif method.basin[at]:
        lines.append(Words("in the basin of the best setting", "在最佳设置的盆地之内"))
    return lines


def alt_text(method: MethodGrid, scores: Scores, coordinates: Coordinates) -> Words:
    """What the map shows, in a sentence or two."""
    diverged = int(method.diverged.any(axis=2).sum())
    said = fill(
        Words(
            "Heat map of the validation {score} of {method} over {lrs} and {decays}, in coordinates η and "
            "{second}.",
            "{method} 的验证{score}热图：{lrs}、{decays}，坐标为 η 与 {second}。",
        ),
        score=scores.name,
        method=method.name,
        lrs=counted(len(method.lrs), "learning rate"),
        decays=counted(len(method.weight_decays), "weight decay"),
        second=coordinates,
    )
    if method.chosen is not None:
        best = fill(
            Words(
                " Best: {best} at learning rate {lr}, weight decay {decay}; {inside} of {all} settings are "
                "in its basin.",
                "最佳：{best}，学习率 {lr}，权重衰减 {decay}；{all} 组设置中有 {inside} 组在它的盆地里。",
            ),
            best=scores.value(float(method.chosen.validation.mean())),
            lr=setting(method.chosen.lr),
            decay=setting(method.chosen.weight_decay),
            inside=str(int(method.basin.sum())),
            all=str(method.basin.size),
        )
        said = Words(said.en + best.en, said.zh + best.zh)
    if diverged:
        lost = fill(Words(" {n} diverged.", "{n}发散。"), n=counted(diverged, "setting"))
        said = Words(said.en + lost.en, said.zh + lost.zh)
    return said
