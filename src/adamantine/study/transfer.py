"""lr and λ for another batch size, number of epochs or data size: named rules, nothing fitted.

Both rules speak about one quantity, the *rate* γ: the fraction of a weight that one step at peak lr removes.
It is ηλ for ``decoupled``, ``cautious`` and ``corrected`` decay and λ itself for ``independent``.

- *timescale* (Wang & Aitchison 2025, arXiv 2405.13698): weights average their updates over τ = 1/γ steps, and
  the best τ, counted in epochs, τ·B/N, stays: γ ∝ B/N.
- *normalized* (Loshchilov & Hutter 2019, Appendix B): γ = λ_norm·√(B/(N·T)), with λ_norm kept.

L2 inside an adaptive rule has no rate: its strength differs per weight. Inside SGD it is a decay of rate ηλ
(with momentum μ, ηλ/(1-μ); rules are ratios, so that factor cancels).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from adamantine.rules.decay import MODES, convert, normalized, timescale
from adamantine.study import methods
from adamantine.study.errors import StudyError
from adamantine.study.folder import read_manifest, read_results
from adamantine.study.plan import plan_from_dict
from adamantine.study.stages import best_setting, wanted

Family = Literal["adaptive", "sgd"]
LrRule = Literal["keep", "sqrt", "linear"]
Rule = Literal["timescale", "normalized"]

LR_RULES: dict[LrRule, str] = {
    "keep": "lr kept",
    "sqrt": "lr × √(B′/B), for Adam-like methods (Malladi et al. 2022, arXiv 2205.10287)",
    "linear": "lr × B′/B, for SGD (Goyal et al. 2017, arXiv 1706.02677)",
}
RULES: dict[Rule, str] = {
    "timescale": "τ in epochs kept (Wang & Aitchison 2025, arXiv 2405.13698)",
    "normalized": "λ_norm kept (Loshchilov & Hutter 2019, Appendix B)",
}
USUAL: dict[Family, LrRule] = {"adaptive": "sqrt", "sgd": "linear"}
SGD = frozenset({"SGD", "SGDW"})


@dataclass(frozen=True)
class Regime:
    """How a network is trained: B examples a step, N examples in all, T epochs.

    Raises:
        StudyError: a number that is not above 0, or a batch larger than the data.
    """

    batch_size: int
    train_size: int
    epochs: float

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 < value < math.inf:
                raise StudyError(f"--{name.replace('_', '-')} must be above 0, not {value}")
        if self.batch_size > self.train_size:
            raise StudyError(
                f"--batch-size {self.batch_size}: larger than the {self.train_size} training examples"
            )


class NoRule(StudyError):
    """A rule says nothing here, or nothing that can be done."""


@dataclass(frozen=True)
class Start:
    """A method at a setting that is good for it."""

    name: str
    spec: str  # see adamantine.study.methods
    decay: str  # "" for a class that is not ours
    lr: float
    weight_decay: float


@dataclass(frozen=True)
class Setting:
    """A setting in its regime, with the quantities that the rules keep."""

    lr: float
    weight_decay: float  # in the unit of its decay mode
    tau_steps: float  # 1/γ, infinite without decay
    tau_epochs: float
    lambda_norm: float

    def plausible(self, regime: Regime) -> bool:
        """Whether τ lies between one epoch and the whole training: shorter forgets examples, longer never
        forgets the start (Wang & Aitchison, arXiv 2405.13698v1)."""
        return 1 <= self.tau_epochs <= regime.epochs


def transferred(
    lr: float,
    weight_decay: float,
    source: Regime,
    target: Regime,
    *,
    rule: Rule,
    decay: str = "decoupled",
    family: Family = "adaptive",
    lr_rule: LrRule | None = None,
) -> Setting:
    """The setting that ``rule`` suggests for ``target``, from one that is good for ``source``.

    Args:
        lr: the peak learning rate η, > 0.
        weight_decay: λ ≥ 0 in the unit of ``decay``; the suggestion has the same unit.
        source: where the setting was found.
        target: where it is to be used; the schedule's shape is taken to be the same.
        rule: a key of `RULES`.
        decay: decay mode (docs/decay.md); ``"l2"`` for SGD only.
        family: ``"adaptive"`` (Adam and its relatives) or ``"sgd"``.
        lr_rule: a key of `LR_RULES`; by default that of the family. Only the batch size changes lr.

    Raises:
        StudyError: a value out of range; `NoRule` for L2 in an adaptive method, and for a rate of 1 or
            more, with which a single step would remove whole weights.

    >>> short, long = Regime(128, 50_000, 100), Regime(128, 50_000, 1500)
    >>> found = transferred(1e-3, 0.1265, short, long, rule="normalized")
    >>> f"{found.lambda_norm:.3f} {found.lr:g} {found.weight_decay:.4f}"
    '0.025 0.001 0.0327'
    >>> found = transferred(1e-3, 1.265e-4, short, long, rule="normalized", decay="independent")
    >>> f"{found.weight_decay:.3g}"
    '3.27e-05'
    >>> found = transferred(1e-3, 0.1, short, Regime(512, 50_000, 100), rule="timescale")
    >>> f"{found.lr:g} {found.weight_decay:g} {found.tau_epochs:.2f}"
    '0.002 0.2 25.60'
    """
    now = described(lr, weight_decay, source, decay=decay, family=family)
    new_lr = lr * _lr_factor(lr_rule or USUAL[family], target.batch_size / source.batch_size)
    if rule == "normalized":
        rate = _normalized(now.lambda_norm, target)
    elif rule == "timescale":
        rate = target.batch_size / (now.tau_epochs * target.train_size)
    else:
        raise StudyError(f"--rule {rule!r}: there are {', '.join(RULES)}")
    if rate >= 1:
        raise NoRule(
            f"the {rule} rule asks for a decay that removes whole weights in one step (γ = {rate:.3g}): "
            "the new regime is too far from the old one"
        )
    unit = _unit(decay)
    new_decay = convert(rate, source="independent", target=unit, peak_lr=new_lr)
    return described(new_lr, new_decay, target, decay=decay, family=family)


def described(
    lr: float, weight_decay: float, regime: Regime, *, decay: str = "decoupled", family: Family = "adaptive"
) -> Setting:
    """A setting with its timescale and its normalized decay.

    >>> now = described(1e-3, 0.1, Regime(128, 50_000, 100))
    >>> f"{now.tau_steps:g} steps, {now.tau_epochs:g} epochs, {now.lambda_norm:.5f}"
    '10000 steps, 25.6 epochs, 0.01976'
    """
    _check(lr, weight_decay, decay, family)
    rate = convert(weight_decay, source=_unit(decay), target="independent", peak_lr=lr)
    if decay == "none":
        rate = weight_decay = 0.0
    if rate >= 1:
        raise StudyError(
            f"--weight-decay {weight_decay:g} with --lr {lr:g}: one step would remove whole weights "
            f"(γ = {rate:.3g}); is it meant for another --decay than {decay!r}?"
        )
    steps = timescale(lr=1.0, weight_decay=rate)
    return Setting(
        lr,
        weight_decay,
        tau_steps=steps,
        tau_epochs=steps * regime.batch_size / regime.train_size,
        lambda_norm=rate / _normalized(1.0, regime),
    )


def side_by_side(start: Start, source: Regime, target: Regime, lr_rule: LrRule) -> dict[str, Setting]:
    """The start as ``"now"``, and what each of `RULES` makes of it.

    Raises:
        StudyError: as `transferred`; `NoRule` where the method's decay follows no rule.
    """
    mode, family = decay_of(start.spec, start.decay), family_of(start.spec)
    now = described(start.lr, start.weight_decay, source, decay=mode, family=family)
    suggested: dict[str, Setting] = {
        rule: transferred(
            start.lr,
            start.weight_decay,
            source,
            target,
            rule=rule,
            decay=mode,
            family=family,
            lr_rule=lr_rule,
        )
        for rule in RULES
    }
    return {"now": now, **suggested}


@dataclass(frozen=True)
class Found:
    """What a run folder of ``adamantine compare`` says."""

    regime: Regime
    starts: tuple[Start, ...]  # of the methods that have a best setting
    unfinished: int  # runs still to do; the best settings may change


def found_in(folder: Path) -> Found:
    """The best setting so far of each compared method, and the regime that it was trained in.

    Raises:
        StudyError: no run folder, or none of its methods has a setting that every seed finished.
    """
    manifest, results = read_manifest(folder), read_results(folder)
    try:
        plan = plan_from_dict(manifest["configuration"])
        task, train_size = manifest["task"], int(manifest["data"]["train"])
        regime = Regime(min(int(task["batch_size"]), train_size), train_size, task["epochs"])
    except (KeyError, TypeError, ValueError) as error:
        raise StudyError(f"{folder}: its manifest is damaged ({error})") from error
    best = {method: best_setting(method, plan, results) for method in plan.methods}
    starts = tuple(Start(m.name, m.spec, m.decay, *setting) for m, setting in best.items() if setting)
    if not starts:
        raise StudyError(f"{folder}: no method has a setting that every seed finished")
    return Found(regime, starts, sum(len(wanted(method, plan, results)) for method in plan.methods))


def family_of(spec: str) -> Family:
    """Whether a method spec names an adaptive method.

    >>> family_of("SGD(momentum=0.9)"), family_of("torch.optim:AdamW")
    ('sgd', 'adaptive')
    """
    return "sgd" if methods.parse(spec).class_name in SGD else "adaptive"


def decay_of(spec: str, decay: str) -> str:
    """The decay mode of a compared method; of classes that are not ours, torch's own are known.

    Raises:
        NoRule: for any other class.
    """
    parsed = methods.parse(spec)
    if decay or not parsed.module:
        return decay
    if parsed.module != "torch.optim":
        raise NoRule(
            f"{spec}: how it decays is not known; give its numbers with --decay instead of the folder"
        )
    decoupled = parsed.class_name == "AdamW" or dict(parsed.arguments).get("decoupled_weight_decay")
    return "decoupled" if decoupled else "l2"


def _unit(decay: str) -> str:
    return "decoupled" if decay in ("l2", "none") else decay


def _normalized(lambda_norm: float, regime: Regime) -> float:
    return normalized(
        lambda_norm, batch_size=regime.batch_size, examples=regime.train_size, epochs=regime.epochs
    )


def _lr_factor(rule: LrRule, ratio: float) -> float:
    if rule not in LR_RULES:
        raise StudyError(f"--lr-rule {rule!r}: there are {', '.join(LR_RULES)}")
    return {"keep": 1.0, "sqrt": math.sqrt(ratio), "linear": ratio}[rule]


def _check(lr: float, weight_decay: float, decay: str, family: Family) -> None:
    if not 0 < lr < math.inf:
        raise StudyError(f"--lr must be above 0, not {lr:g}")
    if not 0 <= weight_decay < math.inf:
        raise StudyError(f"--weight-decay must be 0 or more, not {weight_decay:g}")
    if decay not in MODES:
        raise StudyError(f"--decay {decay!r}: there are {', '.join(MODES)}")
    if decay == "l2" and family == "adaptive" and weight_decay > 0:
        raise NoRule(
            "L2 inside an adaptive method has no timescale: its strength differs per weight, so neither rule "
            "says anything about its λ; search λ anew, or use decoupled decay"
        )
