"""
Who runs a request.

An engine is one file with ``supports(request) -> None | reason`` and ``run(request) -> Result``, and one row here. It
is imported when it is first taken. Without its row and its file everything else works as before. It may have
``make_stepper(request, batched) -> Stepper`` for `LSTM.stream`; the reference's is taken where it has none. It may have
``run_vjp(request) -> (Result, Pullback)`` for `lstm_vjp`.
"""

import time
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import NamedTuple

from lstm_xp._namespace import library_name, without_autocast, without_recording
from lstm_xp.engines import standard
from lstm_xp.engines._chunks import run_in_chunks
from lstm_xp.engines._request import Cotangents, Gradients, Pullback, Request, Result, Stepper

__all__ = [
    "Choice",
    "Cotangents",
    "Gradients",
    "Pullback",
    "Request",
    "Result",
    "Stepper",
    "available_engines",
    "check_engine",
    "choose",
    "explain",
    "make_stepper",
    "run",
    "run_vjp",
    "warm_up",
]


class _Engine(NamedTuple):
    """
    One row.

    `library` is the array library that it is for, None any; `requires` what has to be installed; `auto` whether it is
    taken unasked; `threads` whether it has threads of its own; `warms_up` whether it compiles something ahead; `load`
    imports its module, where `import_module` cannot.
    """

    library: str | None = None
    requires: tuple[str, ...] = ()
    auto: bool = True
    threads: bool = False
    warms_up: bool = False
    load: Callable[[], ModuleType] | None = None


def _load_torch() -> ModuleType:
    # The first call may be one that torch.compile traces: a statement it can, import_module it cannot.
    from lstm_xp.engines import torch  # noqa: PLC0415

    return torch


_ENGINES = {
    "standard": _Engine(),
    "numpy": _Engine("numpy", threads=True),
    # By name only, so that what is installed never changes a number.
    "numba": _Engine("numpy", ("numba", "scipy"), auto=False, threads=True, warms_up=True),
    "jax": _Engine("jax.numpy", ("jax",)),
    "torch": _Engine("torch", ("torch",), load=_load_torch),
    # By name only: its derivative cannot be differentiated again.
    "bptt": _Engine("torch", ("torch",), auto=False),
    "dask": _Engine("dask.array", ("dask",)),
}

_MODULES: dict[str, ModuleType] = {"standard": standard}


class Choice(NamedTuple):
    """
    Which engine runs a call, and why.

    Parameters
    ----------
    name : str
        The engine.
    reason : str
        Why it was taken.
    rejected : dict
        For the other engines, by name, why not.
    """

    name: str
    reason: str
    rejected: dict[str, str]


def available_engines() -> tuple[str, ...]:
    """
    Return the engines whose libraries are installed.

    Returns
    -------
    tuple of str
        Their names, as `engine` takes them.

    Examples
    --------
    >>> import lstm_xp as lx
    >>> "standard" in lx.available_engines()
    True
    """
    return tuple(name for name, row in _ENGINES.items() if all(find_spec(module) for module in row.requires))


def check_engine(engine: str) -> None:
    """Raise ValueError if there is no engine of that name."""
    if not isinstance(engine, str) or (engine != "auto" and engine not in _ENGINES):
        msg = f"`engine` is {engine!r}, expected 'auto' or one of {', '.join(_ENGINES)}"
        raise ValueError(msg)


def choose(request: Request, engine: str) -> Choice:
    """
    Decide which engine runs a request, by the arrays and the request alone.

    ``"auto"`` takes the engine made for the array library, where there is one and it can do what is asked, else
    ``"standard"``. An engine taken by name runs, or says why it cannot.

    Parameters
    ----------
    request : Request
        The forward pass.
    engine : str
        ``"auto"`` or an engine's name.

    Returns
    -------
    Choice
        The engine, and why.

    Raises
    ------
    ValueError
        There is no such engine, or it cannot do what is asked.
    """
    check_engine(engine)
    if engine != "auto":
        why_not = _why_not(engine, request)
        if why_not is not None:
            msg = f"the engine {engine!r} cannot run this: {why_not}"
            raise ValueError(msg)
        return Choice(engine, "asked for by name", {})

    library = library_name(request.xp)
    rejected = {}
    for name, row in _ENGINES.items():
        if row.auto and row.library == library:
            why_not = _why_not(name, request)
            if why_not is None:
                return Choice(name, f"the engine for {library}", {})
            rejected[name] = why_not
    why_not = _why_not("standard", request)
    if why_not is not None:
        reasons = "; ".join(f"{name!r}: {why}" for name, why in (rejected | {"standard": why_not}).items())
        msg = f"no engine can run this: {reasons}"
        raise ValueError(msg)
    return Choice("standard", "the first choice cannot" if rejected else f"no engine for {library}", rejected)


def explain(request: Request, engine: str) -> Choice:
    """Return what `choose` does, with a reason for every engine that was not taken."""
    choice = choose(request, engine)
    others = {
        name: _why_not(name, request) if row.auto or engine != "auto" else "it is taken by name only"
        for name, row in _ENGINES.items()
        if name != choice.name
    }
    rejected = {name: reason or f"{choice.name} was taken: {choice.reason}" for name, reason in others.items()}
    return choice._replace(rejected=rejected)


def run(request: Request, name: str) -> Result:
    """Run a request on the engine of that name, as `choose` gave it."""
    with without_autocast(request.x):
        result: Result = _module(name).run(request)
    return result


def run_vjp(request: Request, name: str, remat: int | None = None) -> tuple[Result, Pullback]:
    """
    Run a request on the engine of that name, as `choose` gave it; return its result and its pullback.

    With `remat`, in chunks of so many steps.
    """
    module = _module(name)
    with without_autocast(request.x), without_recording(request.x):
        if remat is None:
            result, pullback = module.run_vjp(request)
        else:
            result, pullback = run_in_chunks(request, module.run, module.run_vjp, remat)

    def pull(cotangents: Cotangents) -> Gradients:
        with without_autocast(request.x), without_recording(request.x):
            gradients: Gradients = pullback(cotangents)
        return gradients

    return result, pull


def make_stepper(request: Request, name: str, batched: bool) -> Stepper:
    """Return what the engine of that name has to run one time step after the other."""
    stepper: Stepper = getattr(_module(name), "make_stepper", standard.make_stepper)(request, batched)
    return stepper


def warm_up(engine: str = "numba", *, dtypes: tuple[str, ...] = ("float32", "float64")) -> float:
    """
    Compile ahead what an engine would compile in its first calls, or read it from disk where it was kept.

    Parameters
    ----------
    engine : str, optional
        The engine: one that compiles once for all shapes, ``"numba"``. JAX compiles for each shape, in `jax.jit`.
    dtypes : tuple of str, optional
        The dtypes to be ready for.

    Returns
    -------
    float
        The seconds that it took.

    Raises
    ------
    ValueError
        There is no such engine or dtype, or it has nothing to compile ahead.
    ImportError
        What it needs is not installed.

    Examples
    --------
    >>> import lstm_xp as lx
    >>> seconds = lx.warm_up("numba")
    """
    check_engine(engine)
    if engine == "auto" or not _ENGINES[engine].warms_up:
        able = ", ".join(repr(name) for name, row in _ENGINES.items() if row.warms_up)
        msg = f"`engine` is {engine!r}, expected one that compiles ahead: {able}"
        raise ValueError(msg)
    if not isinstance(dtypes, tuple) or not dtypes or any(dtype not in ("float32", "float64") for dtype in dtypes):
        msg = f"`dtypes` is {dtypes!r}, expected a tuple of 'float32', 'float64'"
        raise ValueError(msg)
    start = time.perf_counter()
    for dtype in dtypes:
        _module(engine).warm_up(dtype)
    return time.perf_counter() - start


def _module(name: str) -> ModuleType:
    """Return an engine's module, imported when it is first asked for."""
    if name not in _MODULES:
        load = _ENGINES[name].load
        _MODULES[name] = import_module(f"lstm_xp.engines.{name}") if load is None else load()
    return _MODULES[name]


def _why_not(name: str, request: Request) -> str | None:
    """Return why an engine cannot run a request, or None if it can."""
    row = _ENGINES[name]
    library = library_name(request.xp)
    if row.library not in (None, library):
        return f"it is for arrays of {row.library}, not of {library}"
    if request.threads > 1 and not row.threads:
        return f"`threads` is {request.threads}, and it has none of its own"
    if name not in _MODULES:
        missing = [module for module in row.requires if find_spec(module) is None]
        if missing:
            return f"{', '.join(missing)} is not installed"
        try:
            _module(name)
        except ImportError as error:  # of another version than its engine needs
            return f"it cannot be loaded: {error}"
    if request.pullback and not hasattr(_MODULES[name], "run_vjp"):
        return "it has no backward pass"
    reason: str | None = _MODULES[name].supports(request)
    return reason
