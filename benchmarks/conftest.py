"""The benchmarks under pytest: collects samples once for each environment, replays them to pytest-benchmark.

pytest benchmarks/
pytest benchmarks/ --modes iptables,userspace --services 1,1000 --env native
pytest benchmarks/ -k keep_alive --benchmark-save monday --benchmark-save-data

A directory below this one is a suite of its own (`pytest benchmarks/api`): it runs only when it is named.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from testbed.bench import environments, report
from testbed.bench.compare import differing
from testbed.bench.gather import gather
from testbed.bench.measures import DIRECT, MODES, SIZES, Plan, parse_modes, parse_sizes
from testbed.bench.record import Run, extra_info, load_results
from testbed.bench.replay import CLOCK
from testbed.bench.units import UNITS
from testbed.errors import TestbedError, UsageError
from testbed.proxy.modes import KERNEL_FEATURE

HERE = Path(__file__).parent

RUNS: dict[str, Run] = {}
"""What was collected in this session, by environment."""

COLUMNS = ["median", "iqr", "min", "max", "mean", "stddev", "rounds"]
"""Of pytest-benchmark's own table: operations per second and calibration mean nothing here."""

CHOSEN = pytest.StashKey[dict[str, tuple[str, ...]]]()
RESULTS = pytest.StashKey[Path]()
SUMMARY = pytest.StashKey[str]()
SAVED = pytest.StashKey[list[dict]]()


def pytest_addoption(parser):
    group = parser.getgroup("testbed", "comparing proxy modes")
    group.addoption("--modes", default=",".join(MODES), help="proxy modes to compare (default: %(default)s)")
    group.addoption(
        "--services",
        default=",".join(map(str, SIZES)),
        help="numbers of Services to measure at (default: %(default)s)",
    )
    group.addoption("--results", type=Path, metavar="DIR", help="default: results/latest of the checkout")


def _suites(config):
    """The suites named on the command line."""
    paths = [(config.invocation_params.dir / str(word).partition("::")[0]).resolve() for word in config.args]
    inside = [path.relative_to(HERE).parts for path in paths if path.is_relative_to(HERE)]
    return {parts[0] for parts in inside if parts and (HERE / parts[0]).is_dir()}


def pytest_ignore_collect(collection_path, config):
    if collection_path.parent == HERE and collection_path.is_dir():
        return collection_path.name not in _suites(config) or None
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    options = config.option
    suites = _suites(config)
    try:
        modes = parse_modes(options.modes)
        config.stash[CHOSEN] = environments.choose(modes, options.env, environments.lacking(modes))
        options.services = parse_sizes(options.services)
    except UsageError as error:
        raise pytest.UsageError(str(error)) from None
    options.benchmark_columns = options.benchmark_columns or COLUMNS
    config.stash[RESULTS] = options.results or config.rootpath / "results" / "-".join(
        sorted(suites) or ["latest"]
    )
    if not config.option.collectonly:
        config.stash[RESULTS].mkdir(parents=True, exist_ok=True)
        if not options.benchmark_json:
            options.benchmark_json = config.stash[RESULTS] / "results.json"


def pytest_report_header(config):
    chosen = config.stash[CHOSEN]
    lines = [f"measured {name}: {', '.join(modes)}" for name, modes in chosen.items()]
    moved = [mode for mode in chosen.get("vm", ()) if "native" in chosen and mode not in chosen["native"]]
    if moved:
        features = ", ".join(KERNEL_FEATURE[mode] for mode in moved)
        lines.append(f"the running kernel lacks {features}: all modes are compared in a VM as well")
    return lines


def pytest_generate_tests(metafunc):
    if {"environment", "services", "mode"} <= set(metafunc.fixturenames):
        cells = [
            (environment, services, mode)
            for environment, modes in metafunc.config.stash[CHOSEN].items()
            for services in metafunc.config.option.services
            for mode in (DIRECT, *modes)
        ]
        names = [f"{environment}-{services}-{mode}" for environment, services, mode in cells]
        metafunc.parametrize(("environment", "services", "mode"), cells, ids=names)


def pytest_collection_modifyitems(items):
    """All of one environment before the next, so that each is whole if a later one fails.

    A benchmark collects its samples wherever its environment is; the test itself stays here.
    """
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker("moves_itself")
        if "recorded" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.benchmark(timer=CLOCK))
    order = {name: number for number, name in enumerate(environments.CHOICES)}
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
def run(request, environment):
    """The samples of an environment, collected by the first test that asks."""
    return _collected(request, environment)


@pytest.fixture
def replay(request, run, benchmark, environment, services, mode):
    """A function that plays the samples of a measure back to pytest-benchmark, and returns their cell."""

    def play(measure):
        cell = run.cell(measure.name, services, mode)
        request.node.user_properties.append(("environment", environment))
        of = measure.unit
        CLOCK.load([of.seconds(value) for value in cell.samples])
        benchmark.group = f"{environment}: {measure.title}, Services {services:6,}"
        benchmark.extra_info.update(extra_info(cell))
        benchmark.pedantic(CLOCK.step, rounds=len(cell.samples))
        return cell

    return play


def _collected(request, environment):
    """The run of an environment: taken now if it was not, with all that this session's tests ask for."""
    if environment not in RUNS:
        asked = [_parameters(item) for item in request.session.items]
        asked = [params for params in asked if params.get("environment") == environment]
        chosen = request.config.stash[CHOSEN][environment]
        modes = [mode for mode in chosen if any(params["mode"] == mode for params in asked)] or chosen
        sizes = sorted({params["services"] for params in asked})
        capture = request.config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled():
            print(file=sys.stderr)
            try:
                RUNS[environment] = gather(
                    environment, Plan(tuple(modes), tuple(sizes)), request.config.stash[RESULTS]
                )
                _refuse_other_environments(request.config, RUNS[environment])
            except TestbedError as error:
                pytest.exit(f"measuring ({environment}) failed: {error}", returncode=1)
    return RUNS[environment]


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
    machine_info["environments"] = {name: run.about() for name, run in RUNS.items()}


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    """After pytest-benchmark has written its file: keep it with the results, and write the reports."""
    config = session.config
    written = config.option.benchmark_json
    if not RUNS or not written or not Path(written).exists():
        return
    directory = config.stash[RESULTS]
    if Path(written) != directory / "results.json":
        shutil.copyfile(written, directory / "results.json")
    results = load_results(directory)
    summed = report.summaries(results)
    report.write(directory, summed, results.taken)
    config.stash[SUMMARY] = report.terminal(summed)


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter, config):
    if SUMMARY in config.stash:
        terminalreporter.section("proxy modes compared")
        terminalreporter.write_line(config.stash[SUMMARY])
        terminalreporter.write_line("")
        for name in ("report.html", "report.md", "results.json"):
            terminalreporter.write_line(str(config.stash[RESULTS] / name))
