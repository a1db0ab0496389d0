"""SVG as text: elements, and axes that turn values into places. Knows nothing of what is drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape


def element(tag: str, *children: str, **attributes: object) -> str:
    """`<tag …>children</tag>`. Attributes: `class_` is class, `stroke_width` stroke-width; floats to 0.1.

    Children are markup already; use `text` for words.
    """
    words = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{_plain(value)}"' for name, value in attributes.items()
    )
    return f"<{tag}{words}>{''.join(children)}</{tag}>" if children else f"<{tag}{words}/>"


def _plain(value: object) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else escape(str(value))


def text(words: str, x: float, y: float, class_: str = "", anchor: str = "start") -> str:
    return element("text", escape(words), x=float(x), y=float(y), class_=class_, text_anchor=anchor)


def title(words: str) -> str:
    """What a browser shows on hover, and a screen reader reads."""
    return element("title", escape(words))


def path(points: Sequence[tuple[float, float]], class_: str) -> str:
    """An open line through points in pixels."""
    return element("path", d="M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in points), class_=class_)


@dataclass(frozen=True)
class Axis:
    """Values from `low` to `high` to pixels from `start` to `end`; logarithmic."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round values inside, as finely as eight or fewer allow."""
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for steps in ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
            values = [step * 10.0**decade for decade in decades for step in steps]
            inside = [value for value in values if self.low <= value <= self.high]
            if len(inside) <= 8:
                break
        return inside


def around(values: Sequence[float], margin: float = 1.15) -> tuple[float, float]:
    """Bounds of a logarithmic axis that leave room around `values` (all above 0)."""
    return min(values) / margin, max(values) * margin


def apart(places: Sequence[float], distance: float, low: float, high: float) -> list[float]:
    """`places` moved as little as needed to stand `distance` apart, in their own order, from low to high."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    moved = [0.0] * len(places)
    at = low - distance
    for i in order:
        at = moved[i] = max(places[i], at + distance)
    limit = high
    for i in reversed(order):
        moved[i] = min(moved[i], limit)
        limit = moved[i] - distance
    return moved
