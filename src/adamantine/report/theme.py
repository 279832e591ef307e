"""Colours and strokes of a report, said once for the figures and for the page.

A figure is drawn in the colours of `LIGHT`; because every colour that depends on the theme is unique to its
role, the drawn SVG can be turned into its dark twin, or into one that follows the page's CSS variables, by
replacing colour codes (`recoloured`). What carries data keeps its colour in both themes: a method's colour
(`stroke`) and the colour map of the heatmaps.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

COLOUR_MAP = "viridis_r"  # perceptually uniform, safe for colour-blind readers; bright is good


@dataclass(frozen=True)
class Theme:
    """One colour per role, ``#rrggbb`` in lower case."""

    page: str  # behind everything
    surface: str  # cards and figures
    ink: str  # text
    muted: str  # secondary text, axes
    line: str  # grid lines and rules
    void: str  # heatmap cells without a score
    warn: str  # edge of the grid, divergence
    good: str  # decided in favour
    link: str  # focus ring, controls


LIGHT = Theme(
    page="#f6f7f8",
    surface="#fefefe",
    ink="#1b2026",
    muted="#5a646f",
    line="#dfe3e7",
    void="#e9ecef",
    warn="#a4500b",
    good="#17683f",
    link="#2f55c8",
)
DARK = Theme(
    page="#101317",
    surface="#181c21",
    ink="#e7eaee",
    muted="#a0aab5",
    line="#30363e",
    void="#2a3037",
    warn="#f0a35c",
    good="#6fd09c",
    link="#8fa8ff",
)


@dataclass(frozen=True)
class Stroke:
    """How one method is drawn in every figure. Colour is never the only cue: dash and marker differ too."""

    colour: str
    dash: tuple[float, ...]  # on, off, ... in line widths; empty for a solid line
    marker: str  # of matplotlib

    @property
    def marker_path(self) -> str:
        """The marker as SVG path data, centred on (0, 0), within 4 units."""
        return _MARKERS[self.marker]


# At least 3 : 1 against both surfaces, and apart from each other under the three colour-vision deficiencies
# (tests/report/test_theme.py computes both).
METHOD_COLOURS = ("#4c66e5", "#c9731d", "#29a38f", "#c76bc7", "#816731", "#e54c66")
_DASHES: tuple[tuple[float, ...], ...] = ((), (5, 2), (7, 1.5, 1.5, 1.5), (1.5, 1.5), (3, 1.5))
_MARKERS = {
    "o": "M4 0A4 4 0 1 1-4 0 4 4 0 1 1 4 0Z",
    "s": "M-3.5-3.5h7v7h-7Z",
    "^": "M0-4 4 3.5H-4Z",
    "D": "M0-4.5 4.5 0 0 4.5-4.5 0Z",
    "v": "M0 4 4-3.5H-4Z",
    "P": "M-1.5-4.5h3v3h3v3h-3v3h-3v-3h-3v-3h3Z",
    "X": "M-4-2-2-4 0-2 2-4 4-2 2 0 4 2 2 4 0 2-2 4-4 2-2 0Z",
}


def stroke(index: int) -> Stroke:
    """The stroke of the method at place ``index`` of the comparison.

    Colours, dashes and markers have cycles of 6, 5 and 7, so a combination repeats only after 210 methods.

    >>> stroke(0).colour == stroke(6).colour, stroke(0) == stroke(6)
    (True, False)
    """
    return Stroke(
        METHOD_COLOURS[index % len(METHOD_COLOURS)],
        _DASHES[index % len(_DASHES)],
        list(_MARKERS)[index % len(_MARKERS)],
    )


def roles() -> list[tuple[str, str, str]]:
    """Every role with its light and its dark colour, for the style sheet."""
    return [(f.name, getattr(LIGHT, f.name), getattr(DARK, f.name)) for f in fields(Theme)]


def recoloured(svg: str, theme: Theme | None) -> str:
    """An SVG drawn in `LIGHT`, in the colours of ``theme``; ``None`` stands for the page's CSS variables."""
    for role, light, _ in roles():
        svg = svg.replace(light, f"var(--{role})" if theme is None else getattr(theme, role))
    return svg
