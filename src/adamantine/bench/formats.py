"""The cases of storage formats: what a step costs with weights and state in fewer bytes.

Goals are those of the issue that asked for the formats, stated before the first measurement.
"""

from __future__ import annotations

from adamantine.bench.case import OURS, Case, Format, Step
from adamantine.bench.goals import Goal
from adamantine.bench.shapes import gpt2

EIGHT, FOUR, MIXED = "adamantine 8-bit", "adamantine 4-bit", "adamantine m 4-bit, v 8-bit"
STOCHASTIC, SPLIT = "adamantine bf16 stochastic + 8-bit", "adamantine bf16 split8 + 8-bit"
STOCHASTIC_FOUR = "adamantine bf16 stochastic + 4-bit"

BITSANDBYTES = "bitsandbytes AdamW8bit"
TORCHAO_8, TORCHAO_4, TORCHAO_FP8 = "torchao AdamW8bit", "torchao AdamW4bit", "torchao AdamWFp8"

FORMATS: dict[str, Format] = {
    EIGHT: Format("float32", {"state": "8bit"}),
    MIXED: Format("float32", {"state": {"exp_avg": "4bit", "exp_avg_sq": "8bit"}}),
    FOUR: Format("float32", {"state": "4bit"}),
    SPLIT: Format("bfloat16", {"state": "8bit", "weights": "split8"}),
    STOCHASTIC: Format("bfloat16", {"state": "8bit", "weights": "stochastic"}),
    STOCHASTIC_FOUR: Format("bfloat16", {"state": "4bit", "weights": "stochastic"}),
}

_LAYER = (768, 3072)  # GPT-2 small has one of these in each of its 12 layers

FORMAT_CASES = (
    Case(
        "formats",
        "Storage formats",
        "AdamW on the 148 tensors of GPT-2 small, with state and weights in fewer bytes; gradients are in "
        "the dtype of the weights.",
        "one step of AdamW",
        Step(gpt2()),
        Step(gpt2(width=16, vocabulary=64, context=16)),
        ours=(OURS, *FORMATS),
        peers=("fused",),
        limited=False,
        goals=(
            Goal(EIGHT, OURS, "at most", 1.0),
            Goal(STOCHASTIC, OURS, "at most", 1.1),
            Goal(FOUR, OURS, "at most", 1.5),
        ),
        formats=FORMATS,
    ),
    Case(
        "format-peers",
        "8 and 4 bits elsewhere",
        "AdamW in float32 with state in 8 or 4 bits, on the first matrices of GPT-2 small's 12 MLPs "
        "(768 × 3072, 28M elements). torchao's are compiled first, which is not counted.",
        "one step of AdamW",
        Step((_LAYER,) * 12),
        Step(((64, 128),) * 2),
        ours=(EIGHT, FOUR),
        peers=("bitsandbytes", "torchao8", "torchao4", "torchaofp8"),
        limited=False,
        goals=(
            Goal(BITSANDBYTES, EIGHT, "at least", 25),
            Goal(TORCHAO_8, EIGHT, "at least", 25),
            Goal(TORCHAO_4, FOUR, "at least", 25),
        ),
        formats={name: FORMATS[name] for name in (EIGHT, FOUR)},
    ),
)
