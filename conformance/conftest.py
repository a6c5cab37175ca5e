"""How pytest runs the suite: options, header, parameters, what is known not to pass, and the results."""

import json
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

# Before NumPy is imported: the arrays are tiny, and threads of BLAS and oneDNN that wait for each other made torch's
# answers 20 times slower.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

import numpy as np

from conformance import oracle
from conformance.backends import Backend, Gap
from conformance.cases import TIERS
from conformance.record import Results, gap_as_property, header
from conformance.running import Checker, fit
from conformance.selection import OPTIONS, Selection, SelectionError, check_folder, default, fits, select, variable

HERE = Path(__file__).parent
# --doctest-modules would import the rest too, with what only other commands need.
collect_ignore = ["mutate", *(path.name for path in HERE.glob("*.py") if not path.match("test_*"))]
SELECTION = pytest.StashKey[Selection]()
RESULTS = pytest.StashKey[Results]()


class MissingFunctionError(Exception):
    """The library does not have a function of the standard, or an attribute of its arrays."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance", "the conformance suite of lstm_xp")
    for name, settings in OPTIONS.items():
        with_variable = f"{settings['help']} [{variable(name)}]"
        group.addoption(
            f"--{name}", dest=f"conformance_{name}", **(settings | {"default": None, "help": with_variable})
        )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "cases(wanted): the cases of the tier for which `wanted(case)` is true")
    config.addinivalue_line(
        "markers",
        "few(wanted): where derivatives are slow, only with the parameters for which `wanted(**params)` is true",
    )
    given = {name: config.getoption(f"conformance_{name}") for name in OPTIONS}
    try:
        given = {name: default(name) if value is None else value for name, value in given.items()}
        selection = select(given)
        check_folder(given["report"])
    except SelectionError as error:
        raise pytest.UsageError(str(error)) from None
    oracle.mode = given["oracle"]
    config.stash[SELECTION] = selection
    config.stash[RESULTS] = Results()
    recorder = Recorder(selection, config.stash[RESULTS], given["report"])
    config.pluginmanager.register(recorder, "conformance-recorder")


class Recorder:
    """Keeps what the tests say, and writes it at the end where that was asked for."""

    def __init__(self, selection: Selection, results: Results, path: str | None) -> None:
        self.selection, self.results, self.path = selection, results, path

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.results.add(report)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.path is not None and not hasattr(session.config, "workerinput"):  # not in a worker of xdist
            found = self.results.as_json(self.selection.backends, self.selection.tier)
            Path(self.path).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def pytest_report_header(config: pytest.Config) -> list[str]:
    selection = config.stash[SELECTION]
    return header(selection.backends, selection.tier)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test on each library, with each case or in each dtype that it takes."""
    if "backend" not in metafunc.fixturenames:
        return
    selection = metafunc.config.stash[SELECTION]
    backends = selection.backends
    marker = metafunc.definition.get_closest_marker("cases")
    if marker is not None:
        cases = lambda b: dict.fromkeys(fit(case, b) for case in TIERS[b.tier] if marker.args[0](case))
        pairs = [(b, case) for b in backends for case in cases(b)]
        metafunc.parametrize(("backend", "case"), pairs, ids=[f"{b}-{c}" for b, c in pairs], indirect=["backend"])
    elif "dtype" in metafunc.fixturenames:
        pairs = [(b, dtype) for b in backends for dtype in b.dtypes]
        metafunc.parametrize(
            ("backend", "dtype"), pairs, ids=["-".join(map(str, p)) for p in pairs], indirect=["backend"]
        )
    else:
        metafunc.parametrize("backend", backends, ids=str, indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put functions first; leave out what a row is not about; mark what is known not to pass; tell of stale gaps."""
    items.sort(key=lambda item: not (_is_ours(item) and capability(item) == "functions"))
    left_out = [item for item in items if _is_beside_the_row(item)]
    left_out += _not_in_turn([item for item in items if item not in left_out], config.stash[SELECTION].tier)
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]
    found = set()
    for item in items:
        backend = _backend_of(item)
        if backend is None:
            continue
        item.user_properties += [("backend", backend.name), ("capability", capability(item))]
        gaps = [gap for gap in backend.gaps if fits(gap, _id(item))]
        found.update(gaps)
        for gap in gaps[:1]:
            item.user_properties.append(("gap", gap_as_property(gap)))
            item.add_marker(getattr(pytest.mark, gap.kind)(reason=f"{gap.reason} ({gap.link})"))
    everything = not (config.getoption("keyword") or config.getoption("markexpr") or config.getoption("deselect"))
    if everything and all(Path(arg).resolve() == HERE for arg in config.args):
        for gap in config.stash[SELECTION].from_files:
            if gap not in found:
                stale = pytest.PytestWarning(f"{gap.kind}s file: in this run there is no test {gap.tests}")
                config.stash[RESULTS].stale.append(str(stale))
                with warnings.catch_warnings():
                    warnings.simplefilter("always")  # a warning, also where all others are errors
                    warnings.warn(stale, stacklevel=1)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Name the function that a library does not have; skip what no oracle knows."""
    try:
        return (yield)
    except AttributeError as error:
        backend = _backend_of(item)
        if backend is None or error.name.startswith("_") or not _is_library(error.obj, backend):
            raise
        if error.name in backend.missing:
            gap = Gap("", "xfail", f"it has no function `{error.name}`", backend.missing[error.name])
            item.user_properties.append(("gap", gap_as_property(gap)))
            pytest.xfail(f"{gap.reason} ({gap.link})")
        what = "arrays have no attribute" if hasattr(error.obj, "dtype") else "has no function"
        msg = f"{backend.module} {what} `{error.name}` of the array API standard, which this test needs"
        raise MissingFunctionError(msg) from error
    except oracle.UnknownAnswerError as error:
        item.user_properties.append(("gap", {"kind": "unknown", "reason": error.summary, "link": ""}))
        pytest.skip(str(error))


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """The array library, in its context."""
    with request.param.context():
        yield request.param


@pytest.fixture
def check(request: pytest.FixtureRequest) -> Checker:
    """Compare with a tolerance, and keep the difference for the report."""
    return Checker(lambda difference: request.node.user_properties.append(("difference", tuple(difference))))


@pytest.fixture
def note(request: pytest.FixtureRequest) -> Callable[[str, Any], None]:
    """Keep a result of another kind for the report."""
    return lambda name, value: request.node.user_properties.append((name, value))


def capability(item: Any) -> str:
    """Return what a test is about: the name of its file."""
    return item.path.stem.removeprefix("test_")


def _is_ours(item: Any) -> bool:
    return item.path.parent == HERE


def _backend_of(item: pytest.Item) -> Backend | None:
    callspec = getattr(item, "callspec", None)
    given = None if callspec is None or not _is_ours(item) else callspec.params.get("backend")
    return given if isinstance(given, Backend) else None


def _is_beside_the_row(item: pytest.Item) -> bool:
    """Tell whether a test has no library, for want of a case in the tier, or is not what its row is about."""
    if not _is_ours(item) or "backend" not in getattr(item, "fixturenames", ()):
        return False
    backend = _backend_of(item)
    if backend is None or (backend.only is not None and capability(item) not in backend.only):
        return True
    marker = item.get_closest_marker("few") if backend.few_derivatives else None
    return marker is not None and not marker.args[0](**item.callspec.params)


def _not_in_turn(items: list[Any], tier: str) -> list[Any]:
    """Return the tests that are alike another one but in dtype, on rows on which the dtypes take turns in a tier."""
    alike: dict[Any, dict[str, list[Any]]] = {}
    for item in items:
        backend = _backend_of(item)
        # Single functions are cheap, and differ from dtype to dtype.
        if backend is None or tier not in backend.in_turn or capability(item) == "functions":
            continue
        if "dtype" in item.callspec.params:
            rest = item.nodeid.replace(f"[{backend}-{item.callspec.params['dtype']}", "[")
            alike.setdefault((backend.name, item.originalname), {}).setdefault(rest, []).append(item)
    left_out = []
    for tests in (tests for tests in alike.values() if len(tests) > 1):
        # In an order that has nothing to do with that of other parameters, which may take turns themselves.
        for k, rest in enumerate(sorted(tests, key=lambda rest: crc32(rest.encode()))):
            left_out += [item for n, item in enumerate(tests[rest]) if n != k % len(tests[rest])]
    return left_out


def _id(item: pytest.Item) -> str:
    return item.nodeid.rpartition("conformance/")[2]


def _is_library(thing: Any, backend: Backend) -> bool:
    namespace = backend.namespace
    return (
        thing is namespace
        or thing is backend.library
        or type(thing) is type(backend.array(np.ones(1, backend.dtypes[-1])))
    )
