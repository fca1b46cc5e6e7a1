"""The colours of the nine labels, for all who see them."""

import re
from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.timeline_site import LABELS, STATIC

Colour = NDArray[np.float64]

# Linear RGB as others see it. Source: Machado, Oliveira and Fernandes 2009, "A
# physiologically-based model for simulation of color vision deficiency", severity 1.
SEEN = {
    "all": np.eye(3),
    "no red": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "no green": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "no blue": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
XYZ = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
WHITE = [0.9505, 1.0, 1.089]
_JUST_SEEN = 2.3  # of CIE 1976's distance


def rules(theme: str) -> dict[str, Colour]:
    """Colours of the style sheet by name, linear RGB."""
    light, dark = (STATIC / "timeline.css").read_text().split('[data-theme="dark"]')[:2]
    listed = re.findall(r"--et-(\w+): #(\w{6});", light if theme == "light" else dark)
    found = {}
    for name, value in listed:
        given = np.array([int(value[at : at + 2], 16) for at in (0, 2, 4)]) / 255
        found[name] = np.where(given <= 0.04045, given / 12.92, ((given + 0.055) / 1.055) ** 2.4)
    return found


def lab(colour: Colour) -> Colour:
    """CIE 1976 L*a*b*, in which distances are about what is seen."""
    part = np.asarray(XYZ) @ np.clip(colour, 0, 1) / WHITE
    root = np.where(part > 0.008856, np.cbrt(part), 7.787 * part + 16 / 116)
    return np.array([116 * root[1] - 16, 500 * (root[0] - root[1]), 200 * (root[1] - root[2])])


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("seen", SEEN.values(), ids=SEEN.keys())
def test_labels_are_told_apart_by_everybody(theme: str, seen: Colour) -> None:
    """Any two of them differ by eight times what is just seen, whatever somebody cannot see."""
    known = rules(theme)
    colours = {label: lab(np.asarray(seen) @ known[label]) for label in LABELS}
    apart = {
        (one, other): float(np.linalg.norm(colours[one] - colours[other]))
        for one, other in combinations(LABELS, 2)
    }
    assert {pair: apart[pair] for pair in apart if apart[pair] < 8 * _JUST_SEEN} == {}


def contrast(one: Colour, other: Colour) -> float:
    """By WCAG 2.2, 1 to 21."""
    high, low = sorted((float(colour @ XYZ[1]) for colour in (one, other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_words_can_be_read(theme: str) -> None:
    """As WCAG 2.2 asks for at level AA: 4.5 to 1, on either ground."""
    known = rules(theme)
    for name in ("text", "muted", "accent"):
        for ground in ("back", "raised"):
            assert contrast(known[name], known[ground]) >= 4.5, (name, ground)
