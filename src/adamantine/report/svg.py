"""From a matplotlib figure to bytes that are the same on every run, and to SVG that lives inside a page."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from markupsafe import escape
from matplotlib.figure import Figure

from adamantine.report.theme import DARK, LIGHT, Theme, recoloured

PNG_DPI = 144
KINDS = ("png", "svg")

_ID = re.compile(r' id="([^"]*)"')
_REFERENCE = re.compile(r'url\(#([^)]+)\)|href="#([^"]+)"')


@contextmanager
def drawing(theme: Theme = LIGHT) -> Iterator[None]:
    """Draw and save figures inside this context: colours, fonts and everything that determinism needs."""
    settings: Any = {  # Any: matplotlib's types want literal keys
        "font.family": ["DejaVu Sans"],
        "font.size": 10.5,
        "text.color": theme.ink,
        "text.parse_math": False,  # a method's name may hold any character, "$" too
        "axes.edgecolor": theme.muted,
        "axes.facecolor": "none",
        "axes.labelcolor": theme.muted,
        "axes.labelsize": 10.5,
        "axes.linewidth": 0.8,
        "axes.titlecolor": theme.ink,
        "axes.titlelocation": "left",
        "axes.titlesize": 11.5,
        "axes.titleweight": "bold",
        "axes.unicode_minus": True,
        "figure.facecolor": theme.surface,
        "grid.color": theme.line,
        "grid.linewidth": 0.8,
        "hatch.color": theme.muted,
        "hatch.linewidth": 0.7,
        "legend.frameon": False,
        "savefig.facecolor": "auto",
        "svg.hashsalt": "adamantine",
        "xtick.color": theme.muted,
        "xtick.labelsize": 10,
        "xtick.major.width": 0.8,
        "xtick.minor.width": 0.6,
        "ytick.color": theme.muted,
        "ytick.labelsize": 10,
        "ytick.major.width": 0.8,
        "ytick.minor.width": 0.6,
    }
    with mpl.rc_context(), warnings.catch_warnings():
        # From matplotlib's own defaults: a user's matplotlibrc must not change the report's bytes.
        mpl.rcParams.update({k: v for k, v in mpl.rcParamsDefault.items() if k != "backend"})
        mpl.rcParams.update(settings)
        # A name in a script that the figure's font lacks is shown as boxes; that is no reason to fail.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font", category=UserWarning)
        yield


def png(figure: Figure) -> bytes:
    """The figure as PNG."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=PNG_DPI, metadata={"Software": None})
    return out.getvalue()


def svg(figure: Figure, *, text: str) -> str:
    """The figure as SVG without metadata.

    ``text="path"`` draws letters as shapes: the same picture wherever the file is opened. ``text="text"``
    keeps them as text, which a page can show in its own font and a reader can search and select.
    """
    metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    out = io.StringIO()
    with mpl.rc_context({"svg.fonttype": {"path": "path", "text": "none"}[text]}):
        figure.savefig(out, format="svg", metadata=metadata)
    return out.getvalue()


def themed(
    name: str, draw: Callable[[Theme], Figure], kinds: Collection[str] = KINDS, text: str = "path"
) -> Iterator[tuple[str, bytes]]:
    """Names and contents of a figure's files: of each kind, light and dark. ``text`` is that of `svg`."""
    for theme_name, theme in {"light": LIGHT, "dark": DARK}.items():
        with drawing(theme):
            figure = draw(theme)
            if "png" in kinds:
                yield f"{name}-{theme_name}.png", png(figure)
            if theme is LIGHT and "svg" in kinds:  # the dark twin of the SVG differs in colour codes only
                source = svg(figure, text=text)
        if "svg" in kinds:
            yield f"{name}-{theme_name}.svg", recoloured(source, theme).encode()


def inline(source: str, *, prefix: str, alt: str) -> str:
    """SVG source made fit to stand inside HTML: no XML preamble, no ids that clash with others', an alt text.

    >>> source = '<?xml?><svg viewBox="0 0 9 9"><g id="a"><path id="p"/><use xlink:href="#p"/></g></svg>'
    >>> inline(source, prefix="x", alt="A & B")
    '<svg role="img" aria-label="A &amp; B" viewBox="0 0 9 9"><g><path id="x-p"/><use href="#x-p"/></g></svg>'
    """
    body = source[source.index("<svg") :].strip()
    used = {a or b for a, b in _REFERENCE.findall(body)}
    body = _ID.sub(lambda m: f' id="{prefix}-{m[1]}"' if m[1] in used else "", body)
    body = body.replace("url(#", f"url(#{prefix}-").replace('xlink:href="#', f'href="#{prefix}-')
    head, rest = body.split(">", 1)
    view_box = re.search(r'viewBox="[^"]*"', head)
    assert view_box is not None, head
    return f'<svg role="img" aria-label="{escape(alt)}" {view_box[0]}>{rest}'
