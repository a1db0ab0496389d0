"""Rows, sentences, tables, plots, the page and the comparison, from samples whose answer is known."""

import random
import re
import struct
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from testbed.bench import compare, difference, pictures, report, tables
from testbed.bench.columns import DIRECT
from testbed.bench.measures import FIRST_PACKET, GROWTH, KEEP_ALIVE
from testbed.bench.record import Cell, Results, Run
from testbed.bench.summary import summarise
from testbed.bench.svg import Axis, apart
from testbed.bench.units import micros
from testbed.bench.words import sentences
from testbed.errors import UsageError

COST = {DIRECT: 1.0, "iptables": 1.5, "ipvs": 1.2, "userspace": 5.0}
BLOCKS, EACH = 20, 12


def run(environment="native", growth=1.0, slower=1.0, seed=1, modes=tuple(COST), each=EACH):
    """A run in which iptables costs `growth` times as much at 1,000 Services, and everything `slower`."""
    source = random.Random(seed)
    cells = []
    for services in (1, 1000):
        moods = [source.uniform(1, 1.3) for _ in range(BLOCKS)]
        for measure in (FIRST_PACKET, KEEP_ALIVE):
            for mode in modes:
                factor = COST[mode] * (growth if mode == "iptables" and services > 1 else 1.0)
                values = [m * factor * slower * source.uniform(19, 21) for m in moods for _ in range(each)]
                blocks = [block for block in range(BLOCKS) for _ in range(each)]
                places = ["first", "middle", "last"] if services > 1 else ["only"]
                positions = [places[i % len(places)] for i in range(len(values))]
                cells.append(
                    Cell(
                        environment,
                        measure.name,
                        services,
                        mode,
                        tuple(values),
                        tuple(blocks),
                        tuple(positions),
                    )
                )
    facts = {"engine": "", "kernel": "Linux <6.1>", "processor": "x", "iptables": "v1.8.9 (nf_tables)"}
    cells += [
        Cell(environment, GROWTH.name, services, mode, (0.1 * services,), (0,), ("all",))
        for services in (1, 1000)
        for mode in modes
    ]
    return Run(environment, facts, {"rounds": BLOCKS}, {"clock": 0.05}, tuple(cells))


def test_ratios_are_of_medians_in_the_same_run():
    summary = summarise(run(growth=2.0))
    row = summary.row(FIRST_PACKET.name, 1000, "iptables")
    assert 3.0 in row.to_direct
    assert row.to_base is None
    assert 0.4 in summary.row(FIRST_PACKET.name, 1000, "ipvs").to_base
    assert summary.row(FIRST_PACKET.name, 1, DIRECT).to_direct is None
    assert list(row.positions) == ["first", "middle", "last"]


def test_sentences_say_what_grew_and_what_did_not():
    said = "\n".join(sentences(summarise(run(growth=2.0))))
    assert re.search(
        r"From 1 Service to 1,000 Services.*iptables (1\.9|2\.[01])\d× \(.*ipvs no difference", said
    )
    assert re.search(r"First packet, median at 1,000 Services: ipvs \d+\.\d µs, iptables", said)
    assert "Noise: direct traffic" in said


def test_a_percentile_without_enough_samples_is_not_made_up():
    summary = summarise(run(each=4))
    assert summary.row(FIRST_PACKET.name, 1, DIRECT).p99 is None
    assert 0.99 not in summary.row(FIRST_PACKET.name, 1, DIRECT).percentiles
    assert "p99" not in tables.figures(summary, FIRST_PACKET.name).heads
    mixed = run(each=4)
    more = [cell for cell in run().cells if cell.mode == DIRECT]
    rest = [cell for cell in mixed.cells if cell.mode != DIRECT]
    text = tables.to_text(tables.figures(summarise(replace(mixed, cells=(*more, *rest))), FIRST_PACKET.name))
    assert "p99" in text
    assert "too few" in text


def test_lost_probes_are_told():
    whole = run()
    cells = tuple(replace(cell, lost=3) if cell.mode == "ipvs" else cell for cell in whole.cells)
    summary = summarise(replace(whole, cells=cells))
    assert "ipvs 3 of 243 (First packet, 1 Service), ipvs 3 of 243" in "\n".join(sentences(summary))
    assert "240, 3 lost" in tables.to_text(tables.figures(summary, FIRST_PACKET.name))
    assert "without an answer" not in "\n".join(sentences(summarise(whole)))


def test_without_the_base_mode_its_column_is_left_out():
    summary = summarise(run(modes=(DIRECT, "ipvs")))
    assert "× iptables" not in tables.figures(summary, FIRST_PACKET.name).heads


def test_environments_never_share_a_table():
    summed = report.summaries(Results((run(modes=(DIRECT, "iptables")), run("vm"))))
    native, vm = report.markdown(summed, "").split("## In a virtual machine")
    assert "ipvs" not in native.partition("## What")[0]
    assert "| ipvs |" in vm


@pytest.mark.feature("D8")
def test_the_page_is_whole_loads_nothing_and_escapes():
    page = report.html(report.summaries(Results((run(),))), "2026-01-01T10:00:00+00:00")
    assert "Linux &lt;6.1&gt;" in page
    assert "2026-01-01 10:00 UTC" in page
    assert not re.search(r"""(src|href)=["'](?!data:|#)|@import|url\(""", page)
    pictures = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(pictures) == 2 * 2 + 1 + 1
    for picture in pictures:
        root = ElementTree.fromstring(picture)
        assert root.find("{http://www.w3.org/2000/svg}title").text
        assert "nan" not in picture
    assert (
        len(re.findall("median .* µs, 95 % interval", "\n".join(pictures).replace("<g", "\n"))) == 2 * 2 * 4
    )


@pytest.mark.feature("D8")
def test_a_run_is_a_page_markdown_and_pictures(tmp_path):
    lines = report.write(tmp_path, [summarise(run())], "")
    assert [line.rpartition(".")[2] for line in lines[:3]] == ["html", "md", "svg"]
    assert "(report.svg)" in (tmp_path / "report.md").read_text()
    if pictures.browser():
        width, height = struct.unpack(">II", (tmp_path / "report.png").read_bytes()[16:24])
        assert (width, height) == (2 * 970, 2 * 392)


def test_without_a_browser_a_line_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "BROWSERS", ("no-such-browser",))
    lines = report.write(tmp_path, [summarise(run())], "")
    assert lines[-1] == "no report.png: PNG needs a browser: apt-get install chromium"
    assert not (tmp_path / "report.png").exists()


def test_a_run_without_what_is_drawn_has_no_picture(tmp_path):
    bare = run()
    bare = replace(bare, cells=tuple(cell for cell in bare.cells if cell.measure == GROWTH.name))
    assert pictures.svg([summarise(bare)]) == ""
    assert len(report.write(tmp_path, [summarise(bare)], "")) == 2


def test_the_picture_stands_by_itself():
    root = ElementTree.fromstring(pictures.svg([summarise(run())]))
    assert "prefers-color-scheme: dark" in root.find("{http://www.w3.org/2000/svg}style").text


def test_two_runs_of_the_same_show_no_difference_even_when_the_machine_was_slower():
    (pair,) = compare.comparable(Results((run(),)), Results((run(slower=1.4, seed=2),)))
    verdicts = {(row[0], row[1]): row[-1] for row in compare.tables(*pair)[0].rows}
    assert set(verdicts.values()) == {"the base", "no difference shown"}


@pytest.mark.feature("D8")
def test_a_real_change_of_one_mode_is_found():
    (pair,) = compare.comparable(Results((run(),)), Results((run(growth=1.2, seed=2),)))
    verdicts = {(row[0], row[1]): row[-1] for row in compare.tables(*pair)[0].rows}
    assert verdicts["1,000", "iptables"] == "worse"
    assert verdicts["1,000", "ipvs"] == "no difference shown"


def test_two_runs_make_a_page_that_begins_with_what_changed(tmp_path):
    (pair,) = compare.comparable(Results((run(),)), Results((run(growth=1.2, seed=2),)))
    found = compare.tables(*pair)
    first, *named = difference.sentences(found)
    assert re.match(r"\d+ figures: .*\d worse", first)
    assert any(
        re.search(r"First packet, iptables at 1,000: worse, [\d.]+ → [\d.]+, 1\.", one) for one in named
    )
    page = difference.html(found, "2026-01-01T00:00:00+00:00", "2026-01-02T00:00:00+00:00")
    assert "2026-01-01 00:00 UTC, then 2026-01-02 00:00 UTC" in page
    assert "http" not in page.replace("http://www.w3.org/", "")
    assert difference.text(found).splitlines()[-1].startswith("* ")


def test_different_environments_are_not_compared():
    with pytest.raises(UsageError, match="measured in native, the other in vm"):
        compare.comparable(Results((run(),)), Results((run("vm"),)))
    other = replace(run(), facts={**run().facts, "kernel": "Linux 7"})
    with pytest.raises(UsageError, match=r"kernel was 'Linux <6\.1>', is 'Linux 7'"):
        compare.comparable(Results((run(),)), Results((other,)))


@pytest.mark.parametrize(
    ("value", "text"), [(9.874, "9.87"), (9.996, "10.0"), (99.96, "100"), (1234.5, "1,234")]
)
def test_micros(value, text):
    assert micros(value) == text


@pytest.mark.parametrize(("low", "high"), [(8, 700), (9, 11), (1, 1_000_000)])
def test_an_axis_has_few_round_ticks_inside(low, high):
    ticks = Axis(low, high, 0, 100).ticks()
    assert 1 <= len(ticks) <= 8
    assert all(low <= tick <= high for tick in ticks)


def test_names_are_moved_apart_in_their_order():
    assert apart([50, 51, 10], 15, 0, 100) == [50, 65, 10]
    assert apart([95, 96], 15, 0, 100) == [85, 100]
