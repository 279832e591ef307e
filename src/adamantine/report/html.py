"""A template to a page that needs nothing else: one script, known to the page's policy by its hash."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from adamantine.report.theme import roles
from adamantine.report.words import Language, Words

HERE = "adamantine.report"


def rendered(
    template: str,
    language: Language,
    *,
    scripts: Sequence[tuple[str, str]],
    package: str = HERE,
    **values: Any,
) -> str:
    """The page.

    Args:
        template: its name in the folder ``templates`` of ``package``; it may extend ``report/base.html``.
        language: of `Words`, as ``say(en, zh)`` in the template.
        scripts: package and name of the files that make the page's script, in this order.
        package: looked into before the report itself.
        values: what the template shows.
    """
    base = jinja2.PackageLoader(HERE)
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(
            [jinja2.PackageLoader(package), base, jinja2.PrefixLoader({"report": base})]
        ),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = "\n".join(
        resources.files(owner).joinpath("templates", name).read_text(encoding="utf-8")
        for owner, name in scripts
    )
    return environment.get_template(template).render(
        language=language,
        say=lambda en, zh: Words(en, zh).of(language),
        theme_roles=roles(),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        **values,
    )
