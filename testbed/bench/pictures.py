"""A run in one picture by itself, for a README: as SVG, and as PNG by a browser without a window."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from testbed.bench import page, plots
from testbed.bench.measures import FIRST_PACKET, KEEP_ALIVE, MEASURES, RULES_MEMORY
from testbed.bench.summary import Summary
from testbed.bench.svg import element, text, title
from testbed.errors import TestbedError, UsageError

TITLE = "Proxy modes against the number of Services"
PICTURED = (FIRST_PACKET.name, KEEP_ALIVE.name, RULES_MEMORY.name)
"""The measures of the picture, the first two of them that a run has."""

BROWSERS = (
    "chromium",
    "chromium-headless-shell",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
)
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--force-device-scale-factor=2")
SECONDS = 60.0
"""That a browser may take."""


def svg(summed: Sequence[Summary]) -> str:
    """The main measures against Services, a row an environment; "" when none of them was measured."""
    step_x, step_y = plots.WIDTH + 10, plots.HEIGHT + 62
    drawings: list[str] = []
    shown = [summary for summary in summed if _pictured(summary)]
    for row, summary in enumerate(shown):
        for column, measure in enumerate(_pictured(summary)):
            rows = plots.slices(summary, measure)[0][1]
            drawings.append(
                element(
                    "g",
                    text(MEASURES[measure].title + ", median", plots.LEFT, 22, "strong"),
                    element("g", *plots.growth_parts(summary, measure, rows), transform="translate(0,32)"),
                    transform=f"translate({column * step_x},{row * step_y})",
                )
            )
        drawings.append(text(summary.title, plots.LEFT, (row + 1) * step_y - 12.0, "small"))
    if not drawings:
        return ""
    width, height = 2 * step_x - 10, len(shown) * step_y
    style = page.own("page.css").partition("* {")[0] + page.own("plot.css") + ".plot { color: var(--ink); }"
    return element(
        "svg",
        element("style", style),
        title(TITLE),
        element("rect", width=width, height=height, rx=10, class_="paper"),
        *drawings,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width} {height}",
        class_="plot",
    )


def _pictured(summary: Summary) -> list[str]:
    drawn = [name for name in PICTURED if name in summary.rows and plots.slices(summary, name)]
    return drawn[:2]


def browser() -> str | None:
    """The program of the first that is installed."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def png(drawing: str, file: Path) -> None:
    """What `svg` gave, as it looks in light colours, at two pixels for one; in a namespace without a network.

    Raises UsageError when no browser is installed, TestbedError when it fails.
    """
    program = browser()
    if program is None:
        raise UsageError("PNG needs a browser: apt-get install chromium")
    width, height = re.findall(r'viewBox="0 0 (\d+) (\d+)"', drawing)[0]
    with tempfile.TemporaryDirectory(prefix="testbed-picture-") as name:
        room = Path(name)
        (room / "drawing.svg").write_text(drawing)
        words = [program, *FLAGS, f"--user-data-dir={room}", f"--window-size={width},{height}"]
        words += [f"--screenshot={room / 'drawing.png'}", (room / "drawing.svg").as_uri()]
        alone = ["unshare", "--net"] if os.geteuid() == 0 else []
        try:
            done = subprocess.run([*alone, *words], capture_output=True, text=True, timeout=SECONDS)
        except subprocess.TimeoutExpired:
            raise TestbedError(f"{program} drew nothing in {SECONDS:g} s") from None
        if not (room / "drawing.png").exists():
            last = (done.stderr.strip() or "no word").splitlines()[-1]
            raise TestbedError(f"{program} drew nothing and ended with {done.returncode}: {last}")
        shutil.copyfile(room / "drawing.png", file)
