"""What a run found: results by library and capability, as data."""

import os
import re
import sys
from collections.abc import Iterable
from importlib import metadata
from typing import Any

import numpy as np

import lstm_xp
from conformance import oracle
from conformance.backends import Backend, Gap
from conformance.compare import TOLERANCE
from conformance.selection import PREFIX
from lstm_xp._namespace import device_of

# Environment variables by which libraries let themselves be changed.
VARIABLES = re.compile(
    rf"{PREFIX}|ARRAY_API_STRICT_|BLIS_|CUDA_|CUPY_|CUBED_|DASK_|DNNL_|GOTO_NUM|JAX_|KMP_|MKL_|MLX_|NDONNX_|NPY_|NUMBA_|NVIDIA_TF32|OMP_|ONEDNN_|OPENBLAS_"
    r"|PYTORCH_|SPARSE_|TORCH|VECLIB_|XLA_"
)


# Environment variables that may have had an effect, as they were before the libraries set some of their own.
ENVIRONMENT = {name: value for name, value in sorted(os.environ.items()) if VARIABLES.match(name) and value}


def oracles() -> dict[str, str]:
    """Return the oracles, each with its version and whether it is asked or was."""
    said = {name: "asked live" if oracle.is_live(name) else "frozen answers" for name in oracle.NEEDS}
    return {name: f"{oracle.version(name)}, {how}" for name, how in said.items()}


def describe(backend: Backend) -> dict[str, Any]:
    """Return what is to be known of a row, beside its results."""
    if backend.not_run is not None:
        return {"title": backend.title, "module": backend.module, "not_run": backend.not_run}
    with backend.context():
        namespace = backend.namespace
        return {
            "title": backend.title,
            "module": backend.module,
            "version": version_of(backend),
            "array_api_version": getattr(namespace, "__array_api_version__", "not told"),
            "device": _device(backend),
            "dtypes": list(backend.dtypes),
            "engine": backend.engine,
            "steps": backend.steps,
            "tier": backend.tier,
            "switches": _switches(backend),
            "only": backend.only,
            "not_run": None,
        }


def version_of(backend: Backend) -> str:
    """Return a library's version."""
    top = (backend.requires or backend.module).partition(".")[0]
    module = sys.modules.get(top)
    version = getattr(module, "__version__", None)
    try:
        return str(version or metadata.version(top))
    except metadata.PackageNotFoundError:
        return "not told"


def _device(backend: Backend) -> str:
    if backend.device is not None:
        return backend.device
    array = backend.array(np.zeros(1, backend.dtypes[-1]))
    device = device_of(array)
    return "not told" if device is None else str(device)


def _switches(backend: Backend) -> dict[str, str]:
    """Return in what a library may compute products, other than in the dtype of what is multiplied."""
    if backend.module == "torch":
        torch = sys.modules["torch"].backends
        return {"torch: TF32 in products, in cuDNN": f"{torch.cuda.matmul.allow_tf32}, {torch.cudnn.allow_tf32}"}
    if backend.module == "jax.numpy":
        config = sys.modules["jax"].config
        return {
            "jax: matmul precision": str(config.jax_default_matmul_precision),
            "jax: float64": str(config.jax_enable_x64),
        }
    return {}


def header(backends: Iterable[Backend], tier: str) -> list[str]:
    """Return what is said before a run."""
    lines = [f"conformance of lstm_xp {lstm_xp.__version__}, tier {tier}"]
    for backend in backends:
        row = describe(backend)
        lines.append(
            f"  {backend.name}: {row['module']} {row['version']}, array API {row['array_api_version']}, device"
            f" {row['device']}, {' and '.join(row['dtypes'])}, engine {row['engine']}"
        )
        lines += [f"    {name}: {value}" for name, value in row["switches"].items()]
    lines += [f"  oracle: {name} {said}" for name, said in oracles().items()]
    lines.append("  tolerances: " + ", ".join(f"{value:.0e} in {name}" for name, value in TOLERANCE.items()))
    lines += [f"  environment: {name}={value}" for name, value in ENVIRONMENT.items()]
    return lines


class Results:
    """The results of a run, by row and capability."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        self.stale: list[str] = []

    def add(self, report: Any) -> None:
        """
        Add what one test did.

        Parameters
        ----------
        report : pytest.TestReport
            Of any phase.
        """
        said = dict(report.user_properties)
        if "backend" not in said or (report.when != "call" and report.passed):
            return
        row = self.rows.setdefault(said["backend"], {"seconds": 0.0, "capabilities": {}})
        row["seconds"] += report.duration
        cell = row["capabilities"].setdefault(said["capability"], new_cell())
        outcome = "xfailed" if hasattr(report, "wasxfail") and report.skipped else report.outcome
        cell[outcome] += 1
        if outcome in ("skipped", "xfailed"):
            gap = said.get("gap") or {"kind": "skip", "reason": _skip_reason(report), "link": ""}
            known = next((each for each in cell["gaps"] if {**each, "tests": 0} == {**gap, "tests": 0}), None)
            if known is None:
                cell["gaps"].append({**gap, "tests": 1})
            else:
                known["tests"] += 1
        if outcome == "failed":
            cell["failures"].append({"test": report.nodeid, "message": _message(report)})
        for name, value in report.user_properties:
            if name == "difference" and report.passed:
                error, tolerance = value
                if error / tolerance >= (cell["units"] or 0.0):
                    cell["error"], cell["units"] = error, error / tolerance
            elif name in ("accuracy", "curve") and report.passed:
                row.setdefault(name, {}).update(value)

    def as_json(self, backends: Iterable[Backend], tier: str) -> dict[str, Any]:
        """Return everything as plain data; its form is told in conformance/README.md."""
        return {
            "lstm_xp": lstm_xp.__version__,
            "tier": tier,
            "python": sys.version.partition(" ")[0],
            "oracles": oracles(),
            "tolerances": TOLERANCE,
            "environment": ENVIRONMENT,
            "stale": self.stale,
            "backends": {
                backend.name: describe(backend) | self.rows.get(backend.name, {"seconds": 0.0, "capabilities": {}})
                for backend in backends
            },
        }


def new_cell() -> dict[str, Any]:
    """Return what is known of a capability before its first test."""
    return {
        "passed": 0,
        "failed": 0,
        "skipped": 0,
        "xfailed": 0,
        "error": None,
        "units": None,
        "gaps": [],
        "failures": [],
    }


def gap_as_property(gap: Gap) -> dict[str, str]:
    """Return a gap as it stands in the results."""
    return {"kind": gap.kind, "reason": gap.reason, "link": gap.link}


def _skip_reason(report: Any) -> str:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return str(reason).removeprefix("Skipped: ")


def _message(report: Any) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(report.longrepr if crash is None else crash.message).split("\n\n")[0][:400]
