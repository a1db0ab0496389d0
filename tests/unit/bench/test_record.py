"""The record goes to JSON and back unchanged, and what is no record is refused in one line."""

import json

import pytest

from testbed.bench.columns import columns, parse_modes, parse_proxy
from testbed.bench.plan import Plan, parse_endpoints, parse_paths, parse_sizes
from testbed.bench.record import Cell, Run, dump_run, extra_info, load_results, load_run
from testbed.bench.replay import ReplayClock
from testbed.errors import UsageError

CELL = Cell("native", "first-packet", 100, "ipvs", (41.25, 40.001, 0.1), (0, 0, 1), ("first", "last", "last"))
RATES = Cell("native", "requests", 100, "ipvs", (9345.25, 7.0), (0, 1), ("last",) * 2, 0, 10, "outside")
RUN = Run(
    "native",
    {"kernel": "6.1"},
    {"blocks": 2},
    {"clock": 0.05},
    (CELL, RATES),
    {"profile": "quick"},
)


def replayed(cell):
    """What pytest-benchmark's timer sees, in seconds."""
    seconds = []
    clock = ReplayClock()
    clock.load([cell.of.unit.seconds(sample) for sample in cell.samples])
    for _ in cell.samples:
        start = clock()
        clock.step()
        seconds.append(clock() - start)
    return seconds


def results(tmp_path, **changes):
    raw = {
        "machine_info": {"environments": {"native": RUN.about()}},
        "benchmarks": [
            {"extra_info": extra_info(cell), "stats": {"data": replayed(cell)}} for cell in RUN.cells
        ],
        "datetime": "2026-01-01T00:00:00+00:00",
    }
    path = tmp_path / "results.json"
    path.write_text(json.dumps({**raw, **changes}))
    return path


def test_a_run_survives_the_way_from_the_collector():
    assert load_run(dump_run(RUN)) == RUN


def test_samples_replayed_through_pytest_benchmark_come_back_as_they_were(tmp_path):
    loaded = load_results(results(tmp_path))
    assert loaded.runs == (RUN,)
    assert loaded.taken == "2026-01-01T00:00:00+00:00"
    assert load_results(tmp_path) == loaded


def test_a_replay_clock_ends_with_its_samples():
    clock = ReplayClock()
    clock.load([1.0])
    clock.step()
    with pytest.raises(IndexError):
        clock.step()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense", "is not JSON"),
        ("[]", "is not a results file"),
        ('{"benchmarks": [{}]}', "is not a results"),
    ],
)
def test_what_is_no_results_file_is_refused(tmp_path, text, message):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=message) as error:
        load_results(path)
    assert "\n" not in str(error.value)


def test_a_measure_that_is_no_more_is_left_out_and_named(tmp_path, capsys):
    gone = {"extra_info": extra_info(CELL) | {"measure": "rules-kernel"}, "stats": {"data": [1.0] * 3}}
    kept = {"extra_info": extra_info(CELL), "stats": {"data": replayed(CELL)}}
    loaded = load_results(results(tmp_path, benchmarks=[gone, kept]))
    assert loaded.runs[0].cells == (CELL,)
    assert "left out what this version does not measure: rules-kernel" in capsys.readouterr().err
    assert load_results(results(tmp_path, benchmarks=[gone])).runs == ()


def test_results_without_samples_are_refused(tmp_path):
    path = results(tmp_path, benchmarks=[{"extra_info": extra_info(CELL), "stats": {"median": 1}}])
    with pytest.raises(UsageError, match="without its samples"):
        load_results(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UsageError, match="No such file"):
        load_results(tmp_path / "none")


@pytest.mark.parametrize("text", ["", "0", "1,x", "30001", "-1"])
def test_sizes_that_cannot_be_are_refused(text):
    with pytest.raises(UsageError, match="--services"):
        parse_sizes(text)


@pytest.mark.parametrize("text", ["", "iptables,iptables", "ebtables", "direct"])
def test_modes_that_cannot_be_are_refused(text):
    with pytest.raises(UsageError, match="mode"):
        parse_modes(text)


def test_sizes_are_sorted_and_modes_keep_their_order():
    assert parse_sizes("100, 1,100") == (1, 100)
    assert parse_modes("userspace, iptables") == ("userspace", "iptables")


def test_a_plan_survives_the_way_to_the_collector():
    plan = Plan(
        columns("ipvs,iptables-legacy", ["own=/bin/true {node}"]),
        (1, 5),
        ("bulk",),
        endpoints=(1, 10),
        paths=("outside",),
        done=((1, 10),),
    )
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


@pytest.mark.parametrize("text", ["own", "own=", "ipvs=/bin/true", "direct=/bin/true", "UP=/bin/true", "=x"])
def test_proxies_that_cannot_be_are_refused(text):
    with pytest.raises(UsageError, match="--proxy"):
        parse_proxy(text)


def test_a_proxy_named_twice_is_refused():
    with pytest.raises(UsageError, match="twice"):
        columns("ipvs", ["own=/bin/true", "own=/bin/false"])


@pytest.mark.parametrize("text", ["", "inside", "outside,outside"])
def test_paths_that_cannot_be_are_refused(text):
    with pytest.raises(UsageError, match="path"):
        parse_paths(text)


def test_more_endpoints_than_addresses_are_refused():
    with pytest.raises(UsageError, match="--endpoints"):
        parse_endpoints("1,241")
