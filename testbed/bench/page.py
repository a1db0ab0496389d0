"""A page of a report: one HTML file that loads nothing from anywhere."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from html import escape
from importlib.resources import files
from string import Template


def own(name: str) -> str:
    """The text of a file beside this one."""
    return files("testbed.bench").joinpath(name).read_text()


def page(title: str, body: Iterable[str]) -> str:
    """`body`: markup; `title`: words."""
    style = own("page.css") + own("plot.css")
    return Template(own("page.html")).substitute(title=escape(title), style=style, body="\n".join(body))


def when(taken: str) -> str:
    """An ISO date for people; "" for none."""
    return f"{datetime.fromisoformat(taken):%Y-%m-%d %H:%M} UTC" if taken else ""


def listed(sentences: Iterable[str]) -> str:
    return f'<ul class="said">{"".join(f"<li>{escape(one)}</li>" for one in sentences)}</ul>'
