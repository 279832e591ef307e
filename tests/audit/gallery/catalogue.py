"""The scripts of this gallery as values, and the table of `docs/gallery.md`:

    python tests/audit/gallery/catalogue.py > docs/gallery.md

A script of ``mistakes/`` says in its docstring what is wrong, and has

- ``SOURCE``: the public thread that the mistake is known from;
- ``FINDINGS``: what the audit must find: code → names of the parameters concerned, as patterns over the
  model's names (None where it is about tensors that have no name in the model, or about a whole group);
- ``NOTES``, if any: codes of notes that are right, and beside the point;
- ``PLAN``: steps, and steps per epoch, that the user states;
- ``build()``: the model and the optimizer, as a script has them before its loop, and the scheduler if any;
- ``train(model, optimizer)``: a few steps, where only training shows the mistake.

A script of ``correct/`` has ``PLAN``, ``NOTES`` and ``build()``; its optimizer may be a list of optimizers.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Script:
    """One training script of the gallery."""

    name: str
    says: str  # the docstring's first paragraph, as one line
    build: Callable[[], tuple[Any, ...]]
    plan: Mapping[str, int]
    source: str = ""
    findings: Mapping[str, Sequence[str] | None] | None = None  # None: a correct one
    notes: Sequence[str] = ()
    train: Callable[[Any, Any], None] | None = None


def scripts(kind: str) -> list[Script]:
    """All of a folder, by name."""
    return [_script(path) for path in sorted((HERE / kind).glob("*.py"))]


def page() -> str:
    """`docs/gallery.md`."""
    mistakes, correct = scripts("mistakes"), scripts("correct")
    return f"""# A gallery of mistakes

{len(mistakes)} short training scripts with one real mistake each, known from a public thread, and \
{len(correct)} correct ones. The tests ask of `adamantine audit` that it finds every mistake, on exactly the \
parameters concerned, and warns of nothing in the correct ones (`tests/audit/test_gallery.py`; this page is \
made of the scripts' headers).

Models are small, since the mistake is in how the optimizer is made. Optimizers that others have repaired \
since are re-created as they were when the thread was opened.

To see one: `adamantine audit tests/audit/gallery/mistakes/adam_with_l2.py:build --steps 10000`.

| the mistake | script | known from | found as |
|---|---|---|---|
{chr(10).join(map(_row, mistakes))}

## Correct scripts

{chr(10).join(f"- {_link(script, 'correct')}: {script.says}" for script in correct)}
"""


def _row(script: Script) -> str:
    codes = ", ".join(f"`{code}`" for code in script.findings or ())
    thread = f"[{_thread(script.source)}]({script.source})"
    return f"| {script.says} | {_link(script, 'mistakes')} | {thread} | {codes} |"


def _link(script: Script, kind: str) -> str:
    return f"[{script.name}](../tests/audit/gallery/{kind}/{script.name}.py)"


def _script(path: Path) -> Script:
    spec = importlib.util.spec_from_file_location(f"gallery_{path.parent.name}_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # as for a script of one's own: its classes can be imported by name
    spec.loader.exec_module(module)
    assert module.__doc__, f"{path} says nothing about itself"
    return Script(
        name=path.stem,
        says=" ".join(module.__doc__.split("\n\n")[0].split()),
        build=module.build,
        plan=module.PLAN,
        source=getattr(module, "SOURCE", ""),
        findings=getattr(module, "FINDINGS", None),
        notes=getattr(module, "NOTES", ()),
        train=getattr(module, "train", None),
    )


def _thread(url: str) -> str:
    """The usual short form.

    >>> _thread("https://github.com/pytorch/pytorch/issues/38767")
    'pytorch/pytorch#38767'
    """
    owner, repository, _, number = url.removeprefix("https://github.com/").split("/")
    return f"{owner}/{repository}#{number}"


if __name__ == "__main__":
    print(page(), end="")
