"""SVG as text: elements whose attributes and contents are escaped, numbers short enough to read."""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup, escape


def number(value: float) -> str:
    """A coordinate to a tenth of a pixel.

    >>> number(12.04), number(-0.01), number(3.26)
    ('12', '0', '3.3')
    """
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def element(name: str, *content: str | Markup, **attributes: str | float | None) -> Markup:
    """``<name attributes>content</name>``. Underscores in names stand for hyphens; one at the end is dropped,
    for words that Python keeps to itself. ``None`` leaves an attribute out.

    >>> print(element("text", "a < b", x=3.0, text_anchor="end", class_="axis"))
    <text x="3" text-anchor="end" class="axis">a &lt; b</text>
    """
    attributed = "".join(
        f' {key.removesuffix("_").replace("_", "-")}="'
        f'{number(value) if isinstance(value, int | float) else escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    inside = "".join(escape(part) for part in content)
    return Markup(f"<{name}{attributed}>{inside}</{name}>" if content else f"<{name}{attributed}/>")


def drawing(width: float, height: float, alt: str, content: Iterable[Markup], role: str = "img") -> Markup:
    """A picture of so many units that grows and shrinks with the page; ``alt`` says what it shows."""
    box = f"0 0 {number(width)} {number(height)}"
    return element("svg", Markup("").join(content), role=role, aria_label=alt, viewBox=box)


def path(points: Iterable[tuple[float, float]]) -> str:
    """Straight lines through the points, as path data."""
    return "M" + "L".join(f"{number(x)} {number(y)}" for x, y in points)
