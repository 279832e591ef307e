"""Colours: readable on their backgrounds, apart from each other for every reader, unique to their roles."""

import itertools
import re

import matplotlib as mpl
import numpy as np
import pytest

from adamantine.report.theme import COLOUR_MAP, DARK, LIGHT, METHOD_COLOURS, Theme, recoloured, roles, stroke

# Machado, Oliveira & Fernandes 2009, severity 1.0, on linear RGB.
_SIGHT = {
    "usual": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}
_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


def _linear(colour: str) -> np.ndarray:
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def _contrast(a: str, b: str) -> float:
    """WCAG 2 contrast ratio."""
    darker, lighter = sorted(float(_linear(c) @ _TO_XYZ[1]) for c in (a, b))
    return (lighter + 0.05) / (darker + 0.05)


def _lab(linear: np.ndarray) -> np.ndarray:
    x, y, z = _TO_XYZ @ np.clip(linear, 0, 1) / [0.95047, 1.0, 1.08883]
    fx, fy, fz = (np.cbrt(v) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (x, y, z))
    return np.array([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)])


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_contrast(theme: Theme) -> None:
    for background in (theme.page, theme.surface):
        for text in (theme.ink, theme.muted, theme.warn, theme.good, theme.link):
            assert _contrast(text, background) >= 4.5, (text, background)
    for colour in METHOD_COLOURS:
        assert _contrast(colour, theme.surface) >= 3.0, colour


@pytest.mark.parametrize("sight", list(_SIGHT))
def test_methods_are_told_apart(sight: str) -> None:
    def distance(a: str, b: str) -> float:
        return float(np.linalg.norm(_lab(_SIGHT[sight] @ _linear(a)) - _lab(_SIGHT[sight] @ _linear(b))))

    assert min(distance(a, b) for a, b in itertools.combinations(METHOD_COLOURS[:4], 2)) > 20
    assert min(distance(a, b) for a, b in itertools.combinations(METHOD_COLOURS, 2)) > 12


def test_a_colour_says_its_role() -> None:
    light = [colour for _, colour, _ in roles()]
    assert len(set(light)) == len(light)
    data = {mpl.colors.to_hex(c) for c in mpl.colormaps[COLOUR_MAP](np.linspace(0, 1, 256))}
    data |= {*METHOD_COLOURS, "#000000", "#ffffff"}
    assert not data & set(light)
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for _, *pair in roles() for colour in pair)


def test_recoloured() -> None:
    drawn = f'<path style="fill: {LIGHT.ink}; stroke: {METHOD_COLOURS[0]}"/>'
    assert recoloured(drawn, LIGHT) == drawn
    assert recoloured(drawn, DARK) == f'<path style="fill: {DARK.ink}; stroke: {METHOD_COLOURS[0]}"/>'
    assert recoloured(drawn, None) == f'<path style="fill: var(--ink); stroke: {METHOD_COLOURS[0]}"/>'


def test_strokes_do_not_repeat() -> None:
    assert len({stroke(i) for i in range(60)}) == 60
