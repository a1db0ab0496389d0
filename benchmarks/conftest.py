"""The benchmarks under pytest: collects samples once for each environment, replays them to pytest-benchmark.

pytest benchmarks/
pytest benchmarks/ --modes iptables,userspace --services 1,1000 --env native
pytest benchmarks/ -k keep_alive --benchmark-save monday --benchmark-save-data

A directory below this one is a suite of its own (`pytest benchmarks/api`): it runs only when it is named.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from testbed.bench.columns import DEFAULT, DIRECT
from testbed.bench.compare import differing
from testbed.bench.environments import FLEET
from testbed.bench.gather import Counting, Cut, joined, on_sigterm, take
from testbed.bench.measures import MEASURES
from testbed.bench.parts import AUTO, CLOCK_HELP, CLOCKS, parts
from testbed.bench.plan import OTHER_NODE, PROFILES, parse_endpoints, parse_paths, parse_sizes
from testbed.bench.record import Run, extra_info, load_results
from testbed.bench.replay import CLOCK
from testbed.bench.saving import save
from testbed.bench.units import INSTRUCTIONS, UNITS
from testbed.errors import TestbedError, UsageError

HERE = Path(__file__).parent

RUNS: dict[str, Run] = {}
"""What was collected in this session, by environment."""

SHOWN = ["median", "iqr", "min", "max", "mean", "stddev", "rounds"]
"""Of pytest-benchmark's own table: operations per second and calibration mean nothing here."""

AXES = ("measure", "environment", "services", "endpoints", "path", "mode")
CHOSEN = pytest.StashKey[dict]()
RESULTS = pytest.StashKey[Path]()
SUMMARY = pytest.StashKey[str]()
SAVED = pytest.StashKey[list[dict]]()
BEFORE = pytest.StashKey[dict[str, Run]]()


def pytest_addoption(parser):
    group = parser.getgroup("testbed", "comparing proxy modes")
    group.addoption("--clock", choices=CLOCKS, default=AUTO, help=CLOCK_HELP)
    group.addoption("--modes", help=f"columns to compare (default: {','.join(DEFAULT)})")
    group.addoption(
        "--proxy", action="append", default=[], metavar="NAME=CMD", help="a column more: a proxy of your own"
    )
    group.addoption(
        "--profile", choices=sorted(PROFILES), default="quick", help="how much (default: %(default)s)"
    )
    group.addoption("--services", help="numbers of Services to measure at (default: the profile's)")
    group.addoption("--endpoints", help="endpoints of each Service (default: the profile's)")
    group.addoption("--paths", help="other-node, same-node, outside (default: the profile's)")
    group.addoption("--results", type=Path, metavar="DIR", help="default: results/latest of the checkout")
    group.addoption("--resume", action="store_true", help="go on where the run into --results stopped")


def _suites(config):
    """The suites named on the command line."""
    paths = [(config.invocation_params.dir / str(word).partition("::")[0]).resolve() for word in config.args]
    inside = [path.relative_to(HERE).parts for path in paths if path.is_relative_to(HERE)]
    return {parts[0] for parts in inside if parts and (HERE / parts[0]).is_dir()}


def pytest_ignore_collect(collection_path, config):
    chosen = config.stash[CHOSEN]
    checkable = [part for name, part in chosen.items() if part.matrix and name != INSTRUCTIONS]
    if collection_path == HERE / "test_correctness.py" and not checkable:
        return True  # the guest of instructions has rules and no cluster
    if collection_path.parent == HERE and collection_path.is_dir():
        # The suite of the fleet is for machines that the matrix cannot take, unless it is named.
        suites = _suites(config) or {name for name in {FLEET} & {*chosen} if not chosen[name].matrix}
        return collection_path.name not in suites or None
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    options = config.option
    suites = _suites(config)
    profile = PROFILES[options.profile]
    try:
        sizes = parse_sizes(options.services) if options.services else None
        config.stash[CHOSEN] = parts(options.modes, options.proxy, options.clock, options.env, profile, sizes)
        options.endpoints = parse_endpoints(options.endpoints) if options.endpoints else profile.endpoints
        options.paths = parse_paths(options.paths) if options.paths else profile.paths
        if FLEET in config.stash[CHOSEN] and not (1 in options.endpoints and OTHER_NODE in options.paths):
            raise UsageError("a fleet has other-node and 1 endpoint only; leave --paths, --endpoints out")
        config.stash[RESULTS] = options.results or config.rootpath / "results" / "-".join(
            sorted(suites) or ["latest"]
        )
        config.stash[BEFORE] = _before(config) if options.resume else {}
    except TestbedError as error:
        pytest.exit(str(error), returncode=error.exit_code)
    options.benchmark_columns = options.benchmark_columns or SHOWN
    if not suites and not options.benchmark_compare:
        options.benchmark_quiet = True  # hundreds of rows; the comparison below has them in order
    if not config.option.collectonly:
        on_sigterm()
        config.stash[RESULTS].mkdir(parents=True, exist_ok=True)
        if suites and not options.benchmark_json:
            options.benchmark_json = config.stash[RESULTS] / "results.json"


def _before(config):
    """What the run that is to go on has measured, by environment. Raises UsageError."""
    return {run.environment: run for run in load_results(config.stash[RESULTS]).runs}


def pytest_report_header(config):
    chosen = config.stash[CHOSEN]
    return [
        line
        for name, part in chosen.items()
        for line in (f"measured {name}: {', '.join(column.name for column in part.columns)}", *part.told)
    ]


def pytest_generate_tests(metafunc):
    if "replay" in metafunc.fixturenames:
        option = metafunc.config.option
        cells = [
            (name, environment, services, endpoints, path, mode)
            for environment, part in metafunc.config.stash[CHOSEN].items()
            for name in part.measures
            for services in part.sizes
            for endpoints in option.endpoints
            for path in option.paths
            for mode in (DIRECT, *(column.name for column in part.columns))
            if part.takes(environment, name, services, endpoints, path, mode)
        ]
        metafunc.parametrize(AXES, cells, ids=map(_id, cells))


def _id(cell):
    """`first-packet-native-1000-iptables`; axes that are not asked for do not stand in it."""
    measure, environment, services, endpoints, path, mode = cell
    more = [f"{endpoints}ep"] if endpoints > 1 else []
    more += [path] if path != OTHER_NODE else []
    return "-".join([measure, environment, str(services), *more, mode])


def pytest_collection_modifyitems(config, items):
    """All of one environment before the next, so that each is whole if a later one fails.

    A benchmark collects its samples wherever its environment is; the test itself stays here.
    """
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker("moves_itself")
        if "recorded" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.benchmark(timer=CLOCK))
    order = {name: number for number, name in enumerate(config.stash[CHOSEN])}
    items.sort(key=lambda item: order.get(_parameters(item).get("environment"), -1))


def _parameters(item):
    return item.callspec.params if hasattr(item, "callspec") else {}


@pytest.fixture
def recorded(benchmark):
    """A function that gives pytest-benchmark samples which a test took itself; units: bench/units.py."""

    def record(values, unit="µs"):
        CLOCK.load([UNITS[unit].seconds(value) for value in values])
        benchmark.extra_info["unit"] = unit
        benchmark.pedantic(CLOCK.step, rounds=len(values))

    return record


@pytest.fixture
def promise(benchmark, capsys):
    """Hold a figure against its promise, and print it. Of wall time only on a machine that is not busy."""
    busy = os.getloadavg()[0] > (os.cpu_count() or 1)

    def hold(what: str, value: float, limit: float, unit: str, *, wall: bool = False) -> None:
        benchmark.extra_info[what] = {"value": value, "promised": limit, "unit": unit}
        kept, sign = (value >= limit, "≥") if unit.endswith("/s") else (value <= limit, "≤")
        told = "kept" if kept else "not told apart from other load" if wall and busy else "BROKEN"
        with capsys.disabled():
            print(f"\n  {what}: {value:,.1f} {unit} (promised {sign} {limit:,} {unit}): {told}", end="")
        assert kept or (wall and busy)

    return hold


@pytest.fixture(scope="session")
def on_fleet(request):
    """Whether it is the fleet that is measured."""
    return FLEET in request.config.stash[CHOSEN]


@pytest.fixture
def run(request, environment):
    """The samples of an environment, collected by the first test that asks."""
    return _collected(request, environment)


@pytest.fixture
def replay(request, run, benchmark, measure, environment, services, endpoints, path, mode):
    """A function that plays the samples of a cell back to pytest-benchmark, and returns it."""

    def play():
        of = MEASURES[measure]
        cell = run.cell(measure, services, mode, endpoints, path)
        if cell is None and environment == INSTRUCTIONS:
            pytest.skip("loading so few rules takes less than the kernel's account resolves")
        if cell is None:
            pytest.fail(f"{measure} has no sample here: the agent serves no metrics")
        request.node.user_properties.append(("environment", environment))
        CLOCK.load([of.unit.seconds(value) for value in cell.samples])
        benchmark.group = f"{environment}: {of.title}, Services {services:6,}"
        benchmark.extra_info.update(extra_info(cell))
        benchmark.pedantic(CLOCK.step, rounds=len(cell.samples))
        return cell

    return play


def _collected(request, environment):
    """The run of an environment: taken now if it was not, with all that this session's tests ask for."""
    if environment not in RUNS:
        config = request.config
        before = config.stash[BEFORE].get(environment)
        capture = config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled():
            print(file=sys.stderr)
            try:
                plan = _plan(request.session, environment)
                RUNS[environment] = take(environment, plan, before, config.stash[RESULTS])
                _refuse_other_environments(config, RUNS[environment])
            except Cut as cut:
                if cut.run and cut.run.cells:
                    RUNS[environment] = joined(before, cut.run)
                pytest.exit(f"measuring ({environment}): {cut}", returncode=1)
            except TestbedError as error:
                pytest.exit(f"measuring ({environment}) failed: {error}", returncode=error.exit_code)
    return RUNS[environment]


def _plan(session, environment):
    """All that the session's tests ask for in an environment; None when that is nothing."""
    asked = [_parameters(item) for item in session.items]
    asked = [params for params in asked if params.get("environment") == environment]
    if not asked:
        return None
    before = session.config.stash[BEFORE].get(environment)
    done = {(cell.services, cell.endpoints) for cell in before.cells} if before else ()
    return session.config.stash[CHOSEN][environment].plan(asked, done)


@pytest.fixture(scope="module")
def counted_meanwhile(request):
    """Instructions, where they are to be counted, while something else runs that no load changes either."""
    plan, config = _plan(request.session, INSTRUCTIONS), request.config
    if plan is None or INSTRUCTIONS in {*RUNS, *config.stash[BEFORE]}:
        yield
        return
    with Counting(plan) as counting:
        yield
        if run := counting.result():
            RUNS[INSTRUCTIONS] = run
            _refuse_other_environments(config, run)


@pytest.hookimpl(tryfirst=True)
def pytest_benchmark_compare_machine_info(config, machine_info, compared_benchmark):
    """Called before anything is measured: keep the saved environments, to check when ours are known."""
    saved = compared_benchmark["machine_info"].get("environments", {})
    machine_info["environments"] = saved
    config.stash.setdefault(SAVED, []).append(saved)


def _refuse_other_environments(config, run):
    """--benchmark-compare against figures of another kernel or machine is dropped, and said so."""
    for saved in config.stash.get(SAVED, []):
        facts = saved.get(run.environment, {}).get("facts", run.facts)
        if difference := differing(facts, run.facts):
            print(f"--benchmark-compare dropped: another environment, {difference}", file=sys.stderr)
            config._benchmarksession.compared_mapping.clear()


def pytest_benchmark_update_machine_info(config, machine_info):
    if RUNS:
        machine_info["environments"] = {name: run.about() for name, run in RUNS.items()}


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    """Leave what was measured, of a run that was interrupted too."""
    if RUNS:
        runs = [RUNS[name] for name in session.config.stash[CHOSEN] if name in RUNS]
        session.config.stash[SUMMARY] = save(session.config.stash[RESULTS], runs)


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter, config):
    if SUMMARY in config.stash:
        terminalreporter.section("proxy modes compared")
        terminalreporter.write_line(config.stash[SUMMARY])
