"""Is weight_decay applied, how, in which order, scaled by what, and is its default what the name says?"""

from __future__ import annotations

from adamantine.testing.decaymode import Decay, decay_of, options_for_decay
from adamantine.testing.measure import copies, same
from adamantine.testing.oracles import DECOUPLED, TORCH_DEFAULT, family_of
from adamantine.testing.outcome import NotApplicable, Verdict, no, not_applicable, passed, violated, yes
from adamantine.testing.registry import check
from adamantine.testing.subject import LR, WEIGHT_DECAY, Subject

#: Size of gradients beside which a decay of λ = ½ turns the sign of most, if it is added to them at all.
SMALL = 1e-3

#: A decay that is there, for classes that look whether it is, and hardly shows.
FAINT = 1e-6


@check("decay-applied", "weight_decay, where it is taken, does something", by="its signature")
def decay_applied(subject: Subject) -> Verdict:
    """With λ = 0.5 the weights end elsewhere than with λ = 0.

    Promised by taking the argument. Broken by pytorch_optimizer's SignSGD (#517), which took ``weight_decay``
    and never applied it.
    """
    if not subject.accepts("weight_decay"):
        raise NotApplicable("takes no weight_decay")
    ends = []
    for decay in (0.0, WEIGHT_DECAY):
        params = subject.parameters()
        subject.run(params, subject.build(params, weight_decay=decay, **subject.lr), range(5), size=SMALL)
        ends.append(copies(params))
    if same(*ends) and "ignored" in subject.promise:
        return not_applicable("told not to decay")
    if not same(*ends):
        return passed(f"five steps with weight_decay={WEIGHT_DECAY} end elsewhere than with 0")
    return violated(
        f"five steps with weight_decay={WEIGHT_DECAY} end exactly where those with 0 do",
        [
            "ends = []",
            f"for weight_decay in (0.0, {WEIGHT_DECAY}):",
            f"    w = torch.nn.Parameter({subject.tensor})",
            *[
                "    " + line.replace("weight_decay=0.0", "weight_decay=weight_decay")
                for line in subject.new("w", weight_decay=0.0, **subject.lr)
            ],
            "    for _ in range(5):",
            "        w.grad = torch.full_like(w, -1e-3)",
            f"        {subject.step_of()}",
            "    ends.append(w.flatten()[0].item())",
            "print(ends)",
            "print(ends[0] != ends[1])",
        ],
    )


@check("decay-mode", "weight_decay acts as the name says", by="its name")
def decay_mode(subject: Subject) -> Verdict:
    """Decoupled in a class whose name says so (a W, Lion, Adam-atan2), or the mode that an argument names.

    Promised by Loshchilov & Hutter (2019) for the W, by Chen et al. (2023, Algorithm 2) for Lion. Broken by
    Keras, whose AdamW fell back to L2 (#19051), and by bitsandbytes, whose Lion was coupled on some backends
    (#1992).
    """
    found = _found(subject)
    if found.mode in subject.promise:
        return passed(f"{found.mode}: {found.evidence}")
    if found.mode == "ignored":
        return not_applicable("weight_decay changes nothing")
    if found.mode in {"unknown", "none"} or (found.mode == "other" and not subject.promise):
        return no(found.evidence)
    if not subject.promise:
        return yes(f"{found.mode}: {found.evidence}")
    kind = "one of no known kind" if found.mode == "other" else found.mode
    promise = "decoupled" if "decoupled" in subject.promise else "".join(subject.promise)
    return violated(
        f"{subject.name} promises {promise} decay and has {kind}: {found.evidence}",
        [
            "decays = []",
            "for size in (1.0, 100.0):",
            "    ends = []",
            f"    for weight_decay in (0.0, {WEIGHT_DECAY}):",
            f"        w = torch.nn.Parameter(2 * {subject.tensor})",
            *[
                "        " + line.replace("weight_decay=0.0", "weight_decay=weight_decay")
                for line in subject.new("w", weight_decay=0.0, **options_for_decay(subject))
            ],
            "        for t in range(6):",
            "            w.grad = torch.full_like(w, size * (-1.0 if t % 2 else 0.8))",
            f"            {subject.step_of()}",
            "        ends.append(w.flatten()[0].item())",
            "    decays.append(ends[0] - ends[1])",
            'print("six steps decay a weight of 2 by", decays[0])',
            'print("with 100 times the gradients by", decays[1])',
            f"expected = 2 * (1 - (1 - {LR} * {WEIGHT_DECAY}) ** 6)",
            "print(all(abs(d - expected) < 0.2 * expected for d in decays))",
        ],
    )


@check("decay-order", "decays the weight that the step began with", by="its paper")
def decay_order(subject: Subject) -> Verdict:
    """θ ← (1-ηλ)θ - ηu, and not (1-ηλ)(θ - ηu), which differ by η²λu.

    Loshchilov & Hutter (2019), Algorithm 2, line 12, and torch.optim.AdamW. Small, but two backends of one
    library then train two models: bitsandbytes #2010.
    """
    found = _found(subject)
    if found.mode not in DECOUPLED or found.order == "unclear":
        return not_applicable("the decay is part of the gradient, or the order cannot be told")
    if found.order == "before":
        return passed(found.evidence)
    if subject.oracle is None:
        return no(f"the step comes first, the decay after it: {found.evidence}")
    return violated(
        f"the decay shrinks the weight after the step: {found.evidence}",
        [
            "ends = []",
            f"for weight_decay in (0.0, {WEIGHT_DECAY}):",
            f"    w = torch.nn.Parameter({subject.tensor})",
            *[
                "    " + line.replace("weight_decay=0.0", "weight_decay=weight_decay")
                for line in subject.new("w", weight_decay=0.0, **subject.lr)
            ],
            "    w.grad = torch.ones_like(w)",
            f"    {subject.step_of()}",
            "    ends.append(w.flatten()[0].item())",
            'print("decay of a weight of 1:", ends[0] - ends[1])',
            f'print("of what the step made of it:", {LR} * {WEIGHT_DECAY} * ends[0])',
            f"print(abs(ends[0] - ends[1] - {LR} * {WEIGHT_DECAY}) < 1e-6)",
        ],
    )


@check("decay-follows-lr", "the decay per step follows the learning rate", by="its paper")
def decay_follows_lr(subject: Subject) -> Verdict:
    """With a schedule that lowers lr, the decay becomes less, whatever its mode.

    Loshchilov & Hutter (2019) multiply the decay by the schedule (η_t in Algorithm 2), torch by lr itself.
    Broken by fixed decay (NVIDIA apex #1849), and by an lr kept from the constructor. For a class whose name
    stands for no formula and no decay it is told and not judged: its paper may want a fixed one.
    """
    found = _found(subject)
    if found.follows_lr is None:
        return not_applicable("no decay whose size could be compared at two learning rates")
    if found.follows_lr:
        return passed(f"{found.mode}: {found.evidence}")
    said = f"the same fraction of a weight decays whatever lr is: {found.evidence}"
    if subject.oracle is None and not subject.promise:
        return no(said)
    return violated(
        said,
        [
            "decays = []",
            f"for lr in ({LR}, {LR / 10}):",
            f"    w = torch.nn.Parameter({subject.tensor})",
            *[f"    {line}" for line in subject.new("w", **subject.lr, **subject.strong_decay)],
            '    optimizer.param_groups[0]["lr"] = lr',
            "    w.grad = torch.zeros_like(w)",
            f"    {subject.step_of()}",
            "    decays.append(1 - w.flatten()[0].item())",
            f'print("decay at lr {LR}:", decays[0], "and at a tenth of it:", decays[1])',
            "print(decays[1] < 0.5 * decays[0])",
        ],
    )


@check("decay-live", "weight_decay may change in training", by="torch's documentation")
def decay_live(subject: Subject) -> Verdict:
    """``group["weight_decay"]`` set after two steps is what the next one uses, as a decay schedule needs it.

    Promised by torch.optim's groups, whose options are read at every step; asked for in pytorch #22343.
    Broken by values kept from the constructor.
    """
    if not subject.accepts("weight_decay"):
        raise NotApplicable("takes no weight_decay")
    ends = []
    for later in (FAINT, WEIGHT_DECAY):
        params = subject.parameters()
        optimizer = subject.build(params, weight_decay=FAINT, **subject.lr)
        subject.run(params, optimizer, range(2), size=SMALL)
        for group in optimizer.param_groups:
            if "weight_decay" not in group:
                return no("its groups have no weight_decay to change")
            group["weight_decay"] = later
        subject.run(params, optimizer, range(2, 4), size=SMALL)
        ends.append(copies(params))
    if not same(*ends):
        return passed(f"raised from {FAINT:g} to {WEIGHT_DECAY} after two steps, the next two differ")
    if _found(subject).mode in {"ignored", "none"}:
        return not_applicable("weight_decay changes nothing")
    return violated(
        f"raised from {FAINT:g} to {WEIGHT_DECAY} after two steps, it changes nothing",
        [
            "ends = []",
            f"for weight_decay in ({FAINT}, {WEIGHT_DECAY}):",
            f"    w = torch.nn.Parameter({subject.tensor})",
            *[f"    {line}" for line in subject.new("w", weight_decay=FAINT, **subject.lr)],
            "    w.grad = torch.full_like(w, -1e-3)",
            f"    {subject.step_of()}",
            '    optimizer.param_groups[0]["weight_decay"] = weight_decay',
            f"    {subject.step_of()}",
            "    ends.append(w.flatten()[0].item())",
            "print(ends)",
            "print(ends[0] != ends[1])",
        ],
    )


@check(
    "decay-default",
    "the default weight_decay is zero where torch's of the same name is, and only there",
    by="its name",
)
def decay_default(subject: Subject) -> Verdict:
    """A class called AdamW decays unless told not to; one called Adam does not unless told to.

    The default of torch.optim's class of the same name (AdamW 0.01, every other 0) is what a change of the
    import alone would keep. Broken by HeavyBall's AdamW (#71), whose default was 0: Adam, unless one knew.
    """
    if not subject.accepts("weight_decay"):
        raise NotApplicable("takes no weight_decay")
    default = 0.0
    if "weight_decay" in subject.hyper:
        raise NotApplicable("weight_decay is given")
    value = subject.value_of("weight_decay")
    try:
        default = float(value)
    except (TypeError, ValueError):
        return no(f"the default is {value!r}")
    family = family_of(subject.name)
    if family not in TORCH_DEFAULT:
        return yes(f"weight_decay={default:g} by default; torch has no class of this name")
    torchs = TORCH_DEFAULT[family]
    if (default == 0.0) == (torchs == 0.0):
        return passed(f"weight_decay={default:g} by default, torch's {family}: {torchs:g}")
    return violated(
        f"weight_decay={default:g} by default, torch's {family}: {torchs:g}",
        [
            f"w = torch.nn.Parameter({subject.tensor})",
            *subject.new("w", **subject.lr),
            "w.grad = torch.zeros_like(w)",
            *[subject.step_of()] * 3,
            'print("a weight of 1 after three steps without a gradient:", w.flatten()[0].item())',
            f"print((w.flatten()[0].item() == 1) == {torchs == 0.0})",
        ],
    )


def _found(subject: Subject) -> Decay:
    if not subject.accepts("weight_decay"):
        raise NotApplicable("takes no weight_decay")
    return decay_of(subject)
