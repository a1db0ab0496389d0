"""iptables, legacy and nft alike: read tables, compute the difference, and apply it by iptables-restore.

A table is `{chain: rules}`; a rule is the text after `-A CHAIN `, spelled exactly as iptables-save prints it,
so that what is wanted and what the kernel has compare as strings.
"""

from __future__ import annotations

import socket
import struct
import subprocess
from collections.abc import Iterable, Iterator, Mapping

from testbed.errors import TestbedError

Rules = tuple[str, ...]
Table = dict[str, Rules]
Tables = dict[str, Table]

NETLINK_NETFILTER = 12
LOCK_WAIT = "5"
"""Seconds to wait for the lock of iptables-legacy (/run/xtables.lock)."""
NFT_CHUNK = 200
"""New chains in one nft transaction. iptables-nft-restore --noflush looks chains up in time quadratic in the
chains of one transaction: 30,000 at once take 30 s, in portions of this size 1 s."""
EDITS, EDIT_SHARE = 8, 0.02
"""A chain with more changes than this, or than this part of its rules, is filled anew: each change makes
iptables search the chain."""


class XtablesError(TestbedError):
    """iptables could not read or change a table. Holds its own first line of complaint."""


class Xtables:
    """The iptables of PATH in the current network namespace, for one IP family.

    `variant`: "nft" or "legacy" for that one, whichever PATH has. Raises XtablesError where there is none.
    """

    def __init__(self, family: int = 4, variant: str = "") -> None:
        self.command = ("iptables" if family == 4 else "ip6tables") + f"-{variant}" * bool(variant)
        version = self._run([self.command, "--version"])
        self.is_nft = "nf_tables" in version
        self.version = version.strip()

    def read(self, table: str) -> Table:
        """Every chain of `table` with its rules, by iptables-save."""
        chains: dict[str, list[str]] = {}
        for line in self._run([f"{self.command}-save", "-t", table]).splitlines():
            if line.startswith(":"):
                chains[line[1 : line.index(" ")]] = []
            elif line.startswith("-A "):
                _, chain, rule = line.split(" ", 2) if line.count(" ") > 1 else (*line.split(" "), "")
                chains[chain].append(rule)
        return {chain: tuple(rules) for chain, rules in chains.items()}

    def restore(self, text: str) -> None:
        """Feed `text` to iptables-restore --noflush. Raises XtablesError."""
        self._run([f"{self.command}-restore", "-w", LOCK_WAIT, "--noflush"], text)

    def _run(self, argv: list[str], stdin: str = "") -> str:
        try:
            done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            raise XtablesError(f"{argv[0]} is not on PATH; install the package iptables") from None
        if done.returncode:
            raise XtablesError(f"{' '.join(argv)}: {' '.join(done.stderr.split()) or done.returncode}")
        return done.stdout


def generation() -> int:
    """The generation of the nf_tables rules of this network namespace: every change by anybody adds one.

    Zero where it cannot be read (kernel without nf_tables). Source: NFT_MSG_GETGEN, linux/nf_tables.h.
    """
    nfnl_subsys_nftables, nft_msg_getgen, nlm_f_request = 10, 16, 1
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as netlink:
            netlink.bind((0, 0))
            kind = nfnl_subsys_nftables << 8 | nft_msg_getgen
            netlink.send(struct.pack("=IHHIIBBH", 20, kind, nlm_f_request, 1, 0, 0, 0, 0))
            answer = netlink.recv(4096)
    except OSError:
        return 0
    attribute = 1  # NFTA_GEN_ID, the first of the message
    length, kind, value = struct.unpack_from("=HHI", answer, 20) if len(answer) >= 28 else (0, 0, 0)
    return socket.ntohl(value) if (length, kind) == (8, attribute) else 0


def chain_edits(chain: str, have: Rules, want: Rules) -> list[str]:
    """The lines that turn `have` into `want`: single deletions and insertions, or flush and refill.

    A flush is `:CHAIN - [0:0]`. Deletions name the rule, not its number: if someone else has changed the
    chain meanwhile, the restore fails and nothing else is hit.
    """
    if have == want:
        return []
    had, wanted = set(have), set(want)
    kept = [rule for rule in have if rule in wanted]
    unique = len(had) == len(have) and len(wanted) == len(want)
    edits = len(have) + len(want) - 2 * len(kept)
    in_order = unique and kept == [rule for rule in want if rule in had]
    if not kept or not in_order or edits > max(EDITS, len(want) * EDIT_SHARE):
        return [f":{chain} - [0:0]", *(f"-A {chain} {rule}" for rule in want)]
    lines = [f"-D {chain} {rule}" for rule in have if rule not in wanted]
    length = len(kept)
    for position, rule in enumerate(want, start=1):
        if rule not in had:
            lines.append(
                f"-A {chain} {rule}" if position > length else f"-I {chain} {position} {rule}",
            )
            length += 1
    return lines


def jump_edits(chain: str, have: Rules, want: Rules, stale: Iterable[str]) -> list[str]:
    """The lines that put the jumps `want` first into the built-in `chain`, and take `stale` ones out."""
    lines = [f"-D {chain} {rule}" for rule in stale]
    if tuple(rule for rule in have if rule in want) != want:
        lines += [f"-D {chain} {rule}" for rule in have if rule in want]
        lines += [f"-I {chain} {position} {rule}" for position, rule in enumerate(want, start=1)]
    return lines


def table_edits(have: Mapping[str, Rules], want: Mapping[str, Rules]) -> Iterator[list[str]]:
    """Portions of lines, in order: each new chain, each changed one, then those that go, emptied first.

    `want` lists leaves first: a chain jumps only to chains before it. So every portion can be a transaction
    of its own, and a packet never meets a chain that is half there.
    """
    for chain, rules in want.items():
        if chain not in have:
            yield [f":{chain} - [0:0]", *(f"-A {chain} {rule}" for rule in rules)]
    for chain, rules in want.items():
        if (old := have.get(chain, rules)) is not rules and (lines := chain_edits(chain, old, rules)):
            yield lines
    gone = [chain for chain in have if chain not in want]
    yield from ([f":{chain} - [0:0]"] for chain in gone)
    yield from ([f"-X {chain}"] for chain in gone)


def transaction(table: str, portions: Iterable[list[str]], chunk: int = 0) -> str:
    """The input of iptables-restore. With `chunk`, a COMMIT after that many portions, else one at the end."""
    out: list[str] = []
    pending: list[str] = []
    count = 0
    for lines in portions:
        pending += lines
        count += bool(lines)
        if chunk and count >= chunk:
            out += _block(table, pending)
            pending, count = [], 0
    return "\n".join([*out, *_block(table, pending), ""])


def _block(table: str, lines: list[str]) -> list[str]:
    if not lines:
        return []
    chains = [line for line in lines if line[0] == ":"]
    return [f"*{table}", *chains, *(line for line in lines if line[0] != ":"), "COMMIT"]
