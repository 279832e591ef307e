"""Puts the optimizers of other libraries through the conformance kit: benchmarks/results/conformance.json.

    python benchmarks/conformance.py                 # every class below that is not in the file yet
    python benchmarks/conformance.py optimi timm     # only these libraries, anew

Run it in an environment that has the libraries, torch and this package (`PYTHONPATH=src` is enough). What is
not installed is left out. Every class runs in a process of its own, on the CPU.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "conformance.json"

NOTE = (
    "What `adamantine check` printed, CPU only. Not verified by hand: "
    "docs/conformance-results.md names what is."
)

#: Distribution → module → classes. The families of Adam, AdamW, SGD and Lion first.
PEERS: dict[str, dict[str, str]] = {
    "torch": {
        "torch.optim": "AdamW Adam SGD NAdam RAdam RMSprop Adamax Adagrad Adadelta ASGD Adafactor Muon"
    },
    "bitsandbytes": {
        "bitsandbytes.optim": "AdamW Adam Lion SGD AdamW8bit Adam8bit Lion8bit SGD8bit AdEMAMix AdEMAMix8bit "
        "AdEMAMix32bit LAMB LARS PytorchLARS RMSprop Adagrad"
    },
    "torch-optimi": {"optimi": "AdamW Adam SGD Lion RAdam Adan StableAdamW Ranger"},
    "pytorch_optimizer": {
        "pytorch_optimizer": "AdamW Adam SGD SGDW Lion NAdam RAdam RMSprop AdaMax SignSGD AdaBelief AdaBound "
        "AdamP AdamC AdamS Adan ADOPT AdEMAMix StableAdamW LaProp Lamb LARS MADGRAD Muon NovoGrad Prodigy "
        "QHAdam Ranger Ranger21 ScheduleFreeAdamW SGDP Shampoo SOAP Tiger Yogi CAME MARS Amos"
    },
    "timm": {
        "timm.optim": "AdamWLegacy NAdamW SGDW Lion Adan AdamP AdaBelief Lamb Lars LaProp MADGRAD Mars "
        "NvNovoGrad Adopt RMSpropTF RAdamLegacy Kron Muon SGDP AdafactorBigVision"
    },
    "schedulefree": {"schedulefree": "AdamWScheduleFree SGDScheduleFree RAdamScheduleFree"},
    "lion-pytorch": {"lion_pytorch": "Lion"},
    "torchao": {"torchao.optim": "_AdamW AdamW8bit Adam8bit AdamW4bit Adam4bit AdamWFp8 AdamFp8"},
    "heavyball": {"heavyball": "AdamW SGD NAdam RMSprop AdamC ADOPT AdEMAMix LaProp Muon SFAdamW"},
    "torch-optimizer": {
        "torch_optimizer": "SGDW RAdam AdaBelief AdaBound AdamP AdaMod DiffGrad Lamb LARS MADGRAD NovoGrad "
        "QHAdam Ranger SGDP Shampoo Yogi"
    },
    "adam-atan2-pytorch": {"adam_atan2_pytorch": "AdamAtan2 Adam Adopt AdoptAtan2"},
    "adam_mini": {"adam_mini": "Adam_mini"},
    "prodigyopt": {"prodigyopt": "Prodigy"},
    "dadaptation": {"dadaptation": "DAdaptAdam DAdaptSGD DAdaptLion"},
    "adan-pytorch": {"adan_pytorch": "Adan"},
    "came-pytorch": {"came_pytorch": "CAME"},
    "adabelief-pytorch": {"adabelief_pytorch": "AdaBelief"},
    "kron-torch": {"kron_torch": "Kron"},
    "galore-torch": {"galore_torch": "GaLoreAdamW"},
    "apollo-torch": {"apollo_torch": "APOLLOAdamW"},
    "muon-optimizer": {"muon": "SingleDeviceMuonWithAuxAdam"},
    "transformers": {"transformers.optimization": "Adafactor"},
    "flashoptim": {"flashoptim": "FlashAdamW FlashAdam FlashSGD FlashLion"},
    "deepspeed": {"deepspeed.ops.adam": "DeepSpeedCPUAdam", "deepspeed.ops.lion": "DeepSpeedCPULion"},
}

#: `import timm` wants a torchvision that fits torch. Its optimizers do not, so its models are left out.
SITE = """
import sys, types
from importlib import machinery
from pathlib import Path
for place in sys.path:
    if (Path(place) / "timm" / "__init__.py").exists():
        package = types.ModuleType("timm")
        package.__path__ = [str(Path(place) / "timm")]
        package.__spec__ = machinery.ModuleSpec("timm", None, is_package=True)
        sys.modules["timm"] = package
        sys.modules["timm.models"] = models = types.ModuleType("timm.models")
        models.group_parameters = None
        break
"""


#: Columns of the published table, after the class.
FRONT = (
    "formula",
    "decay-mode",
    "decay-order",
    "decay-follows-lr",
    "decay-default",
    "zero-lr",
    "dcp-initialisation",
    "group-betas",
    "gradients-kept",
    "resume",
    "deepcopy",
    "mode-flip",
)
#: What the kit printed and nobody has looked into yet: shown as a question, not as a verdict.
OPEN = {
    ("heavyball:AdamW", "resume"),
    ("heavyball:SGD", "resume"),
    ("heavyball:NAdam", "resume"),
    ("heavyball:NAdam", "mode-flip"),
    ("pytorch_optimizer:SGDW", "mode-flip"),
}
SIGNS = {"passed": "✓", "violated": "✗", "raised": "!", "yes": "+", "no": "−", "n/a": "·"}
MODE = re.compile(r"(l2|decoupled|independent|corrected|cautious|fixed)\b: ")
DEFAULT = re.compile(r"\w+=(\S+) by default")
FAMILY = re.compile(r"(Paged)?(_?AdamW?|NAdamW?|SGDW?|Lion)(Legacy|ScheduleFree)?(8bit)?$")


def front(found: dict[str, Any]) -> str:
    """The Markdown table of the Adam, AdamW, SGD and Lion families: a row per class."""
    rows = [
        "| library | class | decay | default λ | " + " | ".join(FRONT) + " |",
        "|---" * (4 + len(FRONT)) + "|",
    ]
    for library, of in found["libraries"].items():
        for target, each in of["classes"].items():
            name = target.rpartition(":")[2]
            if each["problem"] or not FAMILY.match(name):
                continue
            got = {r["check"]: _sign(target, r) for r in each["results"]}
            cells = " | ".join([*decay(each), *(got.get(check, "") for check in FRONT)])
            rows.append(f"| {library} {of['version']} | `{name}` | {cells} |")
    return "\n".join(rows)


def modes(found: dict[str, Any]) -> str:
    """The Markdown table of what every class's weight_decay was seen to do: a row per class."""
    rows = ["| library | class | decay | default λ | as seen |", "|---" * 5 + "|"]
    for library, of in found["libraries"].items():
        for target, each in of["classes"].items():
            if each["problem"]:
                continue
            seen = next((r["statement"] for r in each["results"] if r["check"] == "decay-mode"), "")
            said = seen.partition(": ")[2] if MODE.match(seen) else seen
            cells = " | ".join([*decay(each), said.replace("|", "\\|")])
            rows.append(f"| {library} {of['version']} | `{target.rpartition(':')[2]}` | {cells} |")
    return "\n".join(rows)


def decay(of: dict[str, Any]) -> tuple[str, str]:
    """Mode and default λ, read from what the kit said."""
    said = {r["check"]: r["statement"] for r in of["results"]}
    mode = MODE.match(said.get("decay-mode", ""))
    default = DEFAULT.match(said.get("decay-default", ""))
    return mode[1] if mode else "–", default[1] if default else "–"


def _sign(target: str, result: dict[str, Any]) -> str:
    if (target, result["check"]) in OPEN and result["outcome"] in {"violated", "raised"}:
        return "?"
    return SIGNS[result["outcome"]] + ("†" if result["inherited"] else "")


def main(only: list[str]) -> None:
    from adamantine.report.files import write_atomic
    from adamantine.testing.isolated import check_isolated

    found: dict[str, Any] = (
        json.loads(RESULTS.read_text()) if RESULTS.exists() else {"note": NOTE, "libraries": {}}
    )
    found["date"] = datetime.date.today().isoformat()
    commit = ["git", "rev-parse", "--short", "HEAD"]
    kit = subprocess.run(commit, capture_output=True, text=True, check=False).stdout.strip()
    jobs = []
    for distribution, modules in PEERS.items():
        if only and distribution not in only:
            continue
        try:
            version = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            print(f"{distribution} is not installed", file=sys.stderr)
            continue
        library = found["libraries"].setdefault(distribution, {"classes": {}})
        library |= {"version": version, "kit": kit}
        targets = [f"{module}:{name}" for module, names in modules.items() for name in names.split()]
        jobs += [(library, target) for target in targets if only or target not in library["classes"]]

    writing = threading.Lock()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "sitecustomize.py").write_text(SITE)
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH", "")]))

        def one(job: tuple[dict[str, dict[str, object]], str]) -> None:
            library, target = job
            result = check_isolated(target, timeout=120).as_dict()
            with writing:
                library["classes"][target] = result
                write_atomic(RESULTS, (json.dumps(found, indent=1, ensure_ascii=False) + "\n").encode())
            print(target, flush=True)

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(one, jobs))


if __name__ == "__main__":
    main(sys.argv[1:])
