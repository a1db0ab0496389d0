"""docs/tutorial.md as something to be done: its commands, where they are typed, and what they print.

What varies from run to run is recognised by its shape: an address, a node port, the ending of a name. Each
such word of the document stands for one word of the run, in what is printed and in what is typed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

ENDING = "[bcdfghjklmnpqrstvwxz2-9]"
"""Letters of generated names (apimachinery, util/rand)."""

BOUND = {
    "pod": r"\b10\.244\.\d+\.\d+\b(?![./])",
    "cluster": r"\b10\.(?:9[6-9]|10\d|11[01])\.\d+\.\d+\b(?!/[12])",
    "port": r"\b[1-6]\d{4}\b",
    "name": rf"(?<=-)(?:{ENDING}{{10}}-)?{ENDING}{{5}}\b",
    "chain": r"(?<=KUBE-SVC-|KUBE-SEP-)[A-Z2-7]{16}\b",
    "nft": r"(?<=service-|ndpoint-)[A-Z2-7]{8}(?=-)",
}
FREE = {
    "log": r"\bI\d{4} [\d:.]+ +\d+ \w+\]",
    "took": r"\b\d+\.\d s\b",
    "age": r"\b(?:\d+[hms])+\b",
    "any": "…",
}
SHAPES = re.compile("|".join(f"(?P<{kind}>{shape})" for kind, shape in (BOUND | FREE).items()) + r"|\s+")
PROMPT = re.compile(r"(|\w+)\$ (.*)")
ANY_LINES = r"(?:[^\n]*\n)*?[^\n]*"
BLOCK = re.compile(r"^```console([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass
class Step:
    """A command, typed on `machine` ("": the reader's own), and what it should print.

    `line`: where the document has it.
    """

    machine: str
    command: str
    line: int
    printed: list[str] = field(default_factory=list)


def steps(text: str, mode: str) -> Iterator[Step]:
    """Those that are done in the proxy mode: a block that names modes is for them alone.

    A block named `once` is the same whatever the mode, and done in the default one.
    """
    for block in BLOCK.finditer(text):
        modes = block[1].replace("once", "iptables").split()
        if not modes or mode in modes:
            yield from _steps(block[2], text[: block.start(2)].count("\n") + 1)


def _steps(block: str, first: int) -> Iterator[Step]:
    step: Step | None = None
    for number, line in enumerate(block.splitlines(), first):
        prompt = PROMPT.fullmatch(line)
        if prompt:
            if step:
                yield step
            step = Step(prompt[1], prompt[2], number)
        elif step and line.startswith("> "):
            step.command += f"\n{line[2:]}"
        elif step:
            step.printed.append(line)
    if step:
        yield step


class Words:
    """The words of the document that vary, and the words of this run that they stand for."""

    def __init__(self) -> None:
        self._meaning: dict[str, str] = {}

    def typed(self, command: str) -> str:
        return SHAPES.sub(lambda word: self._meaning.get(word[0], word[0]), command)

    def agree(self, printed: list[str], seen: str) -> bool:
        """Whether the run printed what the document says; if so, its words are remembered."""
        new: dict[str, str] = {}
        match = re.fullmatch(self._pattern(printed, new), seen.strip("\n"), re.DOTALL)
        if not match:
            return False
        found = {word: match[group] for word, group in new.items()}
        meanings = [*self._meaning.values(), *found.values()]
        if len(set(meanings)) < len(meanings):
            return False  # two words of the document for one of the run
        self._meaning |= found
        return True

    def _pattern(self, printed: list[str], new: dict[str, str]) -> str:
        lines = [
            r"(?:[^\n]*\n)*?[^\n]*" if line.strip() == "…" else self._line(line, new) for line in printed
        ]
        return "\n".join(lines)

    def _line(self, line: str, new: dict[str, str]) -> str:
        """A regular expression. `new`: words without a meaning yet, and the group that each gets."""
        made, at, line = "", 0, line.strip()
        for word in SHAPES.finditer(line):
            made += re.escape(line[at : word.start()]) + self._word(word, new)
            at = word.end()
        return rf"[ \t]*{made}{re.escape(line[at:])}[ \t]*"

    def _word(self, word: re.Match[str], new: dict[str, str]) -> str:
        kind, text = word.lastgroup, word[0]
        if kind is None:
            return r"[ \t]+"
        if kind == "any":
            return r"[^\n]*"
        if kind in FREE:
            return FREE[kind]
        if text in self._meaning:
            return re.escape(self._meaning[text])
        if text in new:
            return f"(?P={new[text]})"
        new[text] = f"w{len(new)}"
        return f"(?P<{new[text]}>{BOUND[kind]})"
