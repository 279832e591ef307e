"""What is measured: one record per case.

The goals are stated for two threads and the full sizes.
"""

from __future__ import annotations

from adamantine.bench.case import DEFAULT, FLAT, FUSED, LIMIT, OURS, Case, Iteration, Step
from adamantine.bench.errors import BenchError
from adamantine.bench.formats import FORMAT_CASES
from adamantine.bench.goals import MIB, Goal
from adamantine.bench.shapes import gpt2, resnet18

TORCH = ("fused", "default", "foreach")
EVERYONE = (*TORCH, "deepspeed", "optimi", "pytorch_optimizer", "schedulefree", "compile")


_STEP = "one step of AdamW"
_AT_THE_LIMIT = (Goal(OURS, LIMIT, "at most", 1.05), Goal(FUSED, OURS, "at least", 1.1))

_CASES = (
    Case(
        "tensor",
        "One tensor, 64M",
        "AdamW in float32 on one tensor of 2²⁶ elements: nothing but memory.",
        _STEP,
        Step(((2**26,),)),
        Step(((2**16,),)),
        peers=EVERYONE,
        goals=_AT_THE_LIMIT,
    ),
    Case(
        "gpt2",
        "GPT-2 small",
        "AdamW in float32 on the 148 tensors (124M elements) of GPT-2 small, the tied head counted once.",
        _STEP,
        Step(gpt2()),
        Step(gpt2(width=16, vocabulary=64, context=16)),
        peers=EVERYONE,
        goals=_AT_THE_LIMIT,
    ),
    Case(
        "resnet18",
        "ResNet-18",
        "AdamW in float32 on the 62 tensors (11.7M elements) of ResNet-18.",
        _STEP,
        Step(resnet18()),
        Step(resnet18(width=4, classes=10)),
        peers=EVERYONE,
        goals=_AT_THE_LIMIT,
    ),
    Case(
        "many",
        "1000 small tensors",
        "AdamW on 1000 tensors of 256 elements, with new gradient tensors for each step as backward makes "
        "them (made outside of the timed part); flat: gradients in one buffer, as flatten() keeps them.",
        _STEP,
        Step(((256,),) * 1000, gradients="fresh"),
        Step(((256,),) * 50, gradients="fresh"),
        ours=(OURS, FLAT),
        peers=EVERYONE,
        goals=(
            Goal(FUSED, OURS, "at least", 12),
            Goal(FUSED, FLAT, "at least", 40),
            Goal(DEFAULT, OURS, "at least", 100),
        ),
    ),
    Case(
        "one",
        "One tensor of 256",
        "The whole step() of AdamW on one tensor of 256 elements: nothing but overhead.",
        _STEP,
        Step(((256,),)),
        Step(((256,),)),
        peers=EVERYONE,
        limited=False,
        goals=(Goal(FUSED, OURS, "at least", 4),),
    ),
    Case(
        "clip",
        "Clip + step, GPT-2 small",
        "Clipping the global norm and AdamW's step on GPT-2 small: ours by max_norm, the others by "
        "torch.nn.utils.clip_grad_norm_.",
        "one clip and step",
        Step(gpt2(), max_norm=1.0),
        Step(gpt2(width=16, vocabulary=64, context=16), max_norm=1.0),
        peers=("fused", "default", "deepspeed"),
        limited=False,
        goals=(Goal(OURS, FUSED, "at most", 0.70),),
    ),
    Case(
        "mlp",
        "Training an MLP",
        "Whole training iterations of an MLP 784-256-10 with batch 32: zero_grad, forward, backward, clip, "
        "step of AdamW.",
        "one iteration",
        Iteration((784, 256, 10)),
        Iteration((784, 256, 10)),
        ours=(OURS, FLAT),
        peers=("fused", "default"),
        limited=False,
        goals=(Goal(FLAT, FUSED, "at most", 0.70), Goal(OURS, FUSED, "at most", 0.75)),
    ),
    Case(
        "deep-mlp",
        "Training 20 layers",
        "The same for an MLP with 20 layers of width 64.",
        "one iteration",
        Iteration((64,) * 20 + (10,)),
        Iteration((16,) * 20 + (10,)),
        ours=(OURS, FLAT),
        peers=("fused", "default"),
        limited=False,
    ),
    Case(
        "bfloat16",
        "bfloat16, 64M",
        "AdamW on one tensor of 2²⁶ elements, parameters and gradients in bfloat16, our state in float32. "
        "torch keeps its state in bfloat16: less to move, and rounded at every step.",
        _STEP,
        Step(((2**26,),), dtype="bfloat16", options={"state": "float32"}),
        Step(((2**16,),), dtype="bfloat16", options={"state": "float32"}),
        peers=("fused", "deepspeed"),
        goals=(Goal(OURS, LIMIT, "at most", 1.15),),
    ),
    Case(
        "memory",
        "Peak extra memory",
        "What one step of AdamW needs for a moment, beyond parameters, gradients and state, on the 62 "
        "tensors (47 MB) of ResNet-18: the high-water mark of the process.",
        _STEP,
        Step(resnet18()),
        Step(resnet18(width=16, classes=10)),
        peers=EVERYONE,
        limited=False,
        quantity="bytes",
        goals=(Goal(OURS, None, "at most", MIB),),
    ),
)

#: Every rule but AdamW's: the class that has it, its options, its number of slots.
RULES_BY_CLASS: dict[str, tuple[str, dict[str, object], int]] = {
    "sgd": ("SGD", {}, 0),
    "heavy_ball": ("SGD", {"momentum": 0.9}, 1),
    "nesterov": ("SGD", {"momentum": 0.9, "nesterov": True}, 1),
    "adagrad": ("Adagrad", {}, 1),
    "rmsprop": ("RMSprop", {}, 1),
    "rmsprop_momentum": ("RMSprop", {"momentum": 0.9}, 2),
    "rmsprop_centered": ("RMSprop", {"centered": True}, 2),
    "rmsprop_centered_momentum": ("RMSprop", {"centered": True, "momentum": 0.9}, 3),
    "amsgrad": ("AdamW", {"amsgrad": True}, 3),
    "adamax": ("Adamax", {}, 2),
    "nadam": ("NAdam", {}, 2),
    "radam": ("RAdam", {}, 2),
    "lion": ("Lion", {}, 1),
    "adam_atan2": ("AdamAtan2", {}, 2),
}


def _rule_case(rule: str) -> Case:
    optimizer, options, slots = RULES_BY_CLASS[rule]
    work, quick = (Step(((2**power,),), optimizer, options, slots) for power in (24, 14))
    return Case(
        f"rules/{rule}",
        rule,
        f"{work.traffic // work.elements} bytes per parameter.",
        f"one step of {optimizer} on one tensor of 2²⁴ elements",
        work,
        quick,
        goals=(Goal(OURS, LIMIT, "at most", 1.1),),
    )


#: Every case by name.
CASES: dict[str, Case] = {
    case.name: case for case in (*_CASES, *FORMAT_CASES, *map(_rule_case, RULES_BY_CLASS))
}


def chosen(names: tuple[str, ...]) -> tuple[Case, ...]:
    """The cases of these names or families, in their usual order; all where none is named.

    Raises:
        BenchError: there is no such case.
    """
    families = {case.family for case in CASES.values()}
    for name in names:
        if name not in CASES and name not in families:
            there = ", ".join(dict.fromkeys(case.family for case in CASES.values()))
            raise BenchError(f"--case {name!r}: there are {there}, and one rule as rules/lion")
    return tuple(case for case in CASES.values() if not names or case.name in names or case.family in names)
