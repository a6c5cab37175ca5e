"""
The table of array libraries: one row each.

A row says how arrays go in and come out, how a function is called, and what the library cannot do, with the link. It
drives the tests' parameters and marks, the report, and the table in the README.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
from array_api_compat import array_namespace

from conformance.cases import map_arrays

Arrays = tuple[Any, ...]


@dataclass(frozen=True)
class Gap:
    """
    Tests that a library does not pass, and why.

    Parameters
    ----------
    tests : str
        Which: the id of a test within the suite or its beginning, ``*`` standing for anything.
    kind : {"skip", "xfail"}
        ``"skip"`` is a legitimate limit, ``"xfail"`` a violation of the standard. A test that was to fail and passes
        is a failure.
    reason : str
        Why.
    link : str
        Where that is documented or reported.
    """

    tests: str
    kind: Literal["skip", "xfail"]
    reason: str
    link: str


def _to_numpy(arrays: Arrays) -> tuple[np.ndarray, ...]:
    """Return arrays of any library that follows the standard as NumPy's."""
    return tuple(np.array(a) if isinstance(a, (np.ndarray, np.generic)) else _from_dlpack(a) for a in arrays)


def _from_dlpack(array: Any) -> np.ndarray:
    try:
        return np.from_dlpack(array, device="cpu", copy=True)
    except TypeError:  # a `__dlpack__` as it was before the standard of 2023.12
        return np.from_dlpack(array).copy()


@dataclass(frozen=True)
class Backend:
    """
    An array library in one of its states.

    Parameters
    ----------
    name : str
        What the row is called, in ids of tests and as ``--xp`` takes it.
    module : str
        The library, as a user imports it.
    title : str
        What the tables call it.
    asarray : callable, optional
        Makes the library's array of a NumPy array, in its dtype, and takes ``device=`` where the row has one;
        `xp.asarray` if absent.
    to_numpy : callable, optional
        Makes NumPy arrays of a tuple of the library's: all at once, so that a lazy library computes what they share
        once.
    compile : callable, optional
        What a function goes through before it is called.
    context : callable, optional
        Returns the context in which everything happens.
    calling : callable, optional
        Returns the context in which the LSTM is called: that of a lazy library refuses to compute.
    gradients : callable, optional
        ``gradients(function, arrays)`` returns the derivatives of a function of a dict of arrays, whose value is a 0-d
        array, as a dict of arrays. None: the library does not differentiate.
    dtypes : tuple of str, optional
        The real floating dtypes of the standard that it has.
    steps : int, optional
        The longest sequence that a test may ask for.
    tier : str, optional
        How many cases it runs, at most: a key of `TIERS`. ``"core"`` where a case takes more than some milliseconds.
    examples : int, optional
        How many examples a property is tried on.
    networks : int, optional
        How many networks the accuracy is measured on.
    in_turn : tuple of str, optional
        The tiers in which each of several alike tests runs in one dtype, the next one in the next, instead of all in
        every dtype: where each has to be compiled, or is a graph of its own.
    requires : str, optional
        What has to be installed, where that is not the module.
    device : str, optional
        The device, as `str` or the library spells it; its default if absent.
    engine : str, optional
        What ``engine`` is given.
    few_derivatives : bool, optional
        Whether it takes few of the cases in which `lstm_vjp` is tested: a derivative takes a second or more, or another
        row gives the same numbers.
    only : tuple of str, optional
        The capabilities that the row is about, where these are not all.
    slow : bool, optional
        Whether it runs only when it is asked for by name.
    not_run : str, optional
        Why it is not run at all.
    gaps : tuple of Gap, optional
        What it does not pass.
    missing : dict of str, optional
        Functions of the standard that it does not have, each with the link: tests that need one are expected to fail.
    """

    name: str
    module: str
    title: str
    asarray: Callable[..., Any] | None = None
    to_numpy: Callable[[Arrays], tuple[np.ndarray, ...]] = _to_numpy
    compile: Callable[[Callable[..., Any]], Callable[..., Any]] = lambda function: function
    context: Callable[[], AbstractContextManager[Any]] = nullcontext
    calling: Callable[[], AbstractContextManager[Any]] = nullcontext
    gradients: Callable[[Callable[[dict[str, Any]], Any], dict[str, Any]], dict[str, Any]] | None = None
    dtypes: tuple[str, ...] = ("float64", "float32")
    steps: int = 1000
    tier: str = "full"
    examples: int = 30
    networks: int = 50
    in_turn: tuple[str, ...] = ()
    requires: str | None = None
    device: str | None = None
    engine: str = "auto"
    few_derivatives: bool = False
    only: tuple[str, ...] | None = None
    slow: bool = False
    not_run: str | None = None
    gaps: tuple[Gap, ...] = ()
    missing: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name

    @property
    def is_installed(self) -> bool:
        return find_spec((self.requires or self.module).partition(".")[0]) is not None

    @property
    def library(self) -> Any:
        """The library, as a user imports it."""
        return import_module(self.module)

    @property
    def namespace(self) -> Any:
        """The namespace through which it follows the standard."""
        return np if self.module == "numpy" else array_namespace(self.array(np.zeros(1, self.dtypes[-1])))

    @property
    def device_keyword(self) -> dict[str, Any]:
        """What the library takes to put an array on the row's device."""
        return {} if self.device is None else {"device": find_device(self.library, self.device)}

    def array(self, array: np.ndarray) -> Any:
        """Return a NumPy array as the library's, on the row's device."""
        asarray = self.library.asarray if self.asarray is None else self.asarray
        return asarray(array, **self.device_keyword)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function as the row does: compiled, computing nothing before it is asked."""
        with self.calling():
            return self.compile(function)(*arguments)

    def on(self, device: str) -> "Backend":
        """Return the library on another device."""
        return replace(self, name=f"{self.name}@{device}", title=f"{self.title}, {device}", device=device)


def find_device(library: Any, name: str) -> Any:
    """Return a library's device of a name, as it spells it or as `str` has it; the name where that is what it takes."""
    try:
        devices = [d for d in library.__array_namespace_info__().devices() if d is not None]
    except (AttributeError, TypeError):
        return name
    fitting = [d for d in devices if name == str(d)] or [d for d in devices if name in str(d)]
    return fitting[0] if fitting else name


def _numpy_asarray(array: np.ndarray, **device: Any) -> np.ndarray:
    return np.asarray(np.array(array), **device)


def _numpy_readonly(array: np.ndarray, **device: Any) -> np.ndarray:
    array = _numpy_asarray(array, **device)
    array.flags.writeable = False
    return array


# A copy: torch shares a NumPy array's memory, and warns where that is read-only.
def _torch_asarray(array: np.ndarray, **device: Any) -> Any:
    return import_module("torch").asarray(np.array(array), **device)


def _torch_to_numpy(arrays: Arrays) -> tuple[np.ndarray, ...]:
    return tuple(array.detach().cpu().numpy() for array in arrays)


def _torch_gradients(function: Callable[[dict[str, Any]], Any], arrays: dict[str, Any]) -> dict[str, Any]:
    arrays = {name: array.clone().requires_grad_() for name, array in arrays.items()}
    function(arrays).backward()
    return {name: array.grad for name, array in arrays.items()}


@contextmanager
def _torch_precision() -> Iterator[None]:
    """No TF32, CUDA's default for cuDNN (https://github.com/pytorch/pytorch/issues/179445): float32 is float32."""
    torch = import_module("torch")
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@contextmanager
def _jax_precision() -> Iterator[None]:
    """With float64, and products in float32 proper, which is not the default on TPU and GPU."""
    jax = import_module("jax")
    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        yield


_TORCH = {"asarray": _torch_asarray, "to_numpy": _torch_to_numpy, "context": _torch_precision}
_JAX = {
    "to_numpy": lambda arrays: tuple(np.array(array) for array in arrays),
    "context": _jax_precision,
    "requires": "jax",
    "examples": 2,  # each is compiled
    "in_turn": ("core",),
    "tier": "core",  # a second for each case
    "few_derivatives": True,
}


@contextmanager
def _torch_compiling() -> Iterator[None]:
    with warnings.catch_warnings():
        # That it looks through the cache of array_api_compat's `array_namespace`, it says, is right here.
        warnings.filterwarnings("ignore", "Dynamo detected a call to a `functools.lru_cache`", UserWarning)
        warnings.filterwarnings("ignore", "`torch.jit.script", DeprecationWarning)  # torch, of itself
        yield


@contextmanager
def _torch_compiled_anew() -> Iterator[None]:
    """Forget what other tests compiled: of one function, eight versions and no more are kept."""
    try:
        with _torch_precision():
            yield
    finally:
        import_module("torch").compiler.reset()


def _torch_compile(function: Callable[..., Any]) -> Callable[..., Any]:
    return import_module("torch").compile(function, fullgraph=True)


def _jax_compile(function: Callable[..., Any]) -> Callable[..., Any]:
    return import_module("jax").jit(function)


def _jax_gradients(function: Callable[[dict[str, Any]], Any], arrays: dict[str, Any]) -> dict[str, Any]:
    return import_module("jax").grad(function)(arrays)


def _jax_jit_gradients(function: Callable[[dict[str, Any]], Any], arrays: dict[str, Any]) -> dict[str, Any]:
    jax = import_module("jax")
    return jax.jit(jax.grad(function))(arrays)


def _dask_asarray(array: np.ndarray) -> Any:
    # Several blocks along time and batch, so that they meet in every operation; no more than a few, of any length.
    along = {axis: max(2, -(-size // 4)) for axis, size in enumerate(array.shape[:2])}
    is_weight = array.ndim == 2 and array.dtype != bool
    return import_module("dask.array").from_array(array, chunks=-1 if is_weight else along | {2: -1})


def _dask_to_numpy(arrays: Arrays) -> tuple[np.ndarray, ...]:
    # One task after the other: they are too small to be worth a thread.
    return tuple(map(np.asarray, import_module("dask").compute(*arrays, scheduler="synchronous")))


@contextmanager
def _dask_refuses_to_compute() -> Iterator[None]:
    def refuse(*_: Any, **__: Any) -> None:
        msg = "computed behind the user's back"
        raise AssertionError(msg)

    dask = import_module("dask")
    with dask.config.set(scheduler=refuse), warnings.catch_warnings():
        # That a graph of a loop over small blocks is slow is known.
        warnings.simplefilter("ignore", import_module("dask.array").PerformanceWarning)
        yield


def _ndonnx_to_numpy(arrays: Arrays) -> tuple[np.ndarray, ...]:
    return tuple(array.unwrap_numpy() for array in arrays)


def _ndonnx_compile(function: Callable[..., Any]) -> Callable[..., Any]:
    """
    Return a function as ndonnx is used: traced to an ONNX model, which ONNX Runtime then runs.

    Of arrays with values ndonnx computes each node as it is made, in an inference session of its own. The constants
    of the graph it computes even of arrays without; there ONNX's reference implementation does, which is quicker.
    """
    ndonnx, future, runtime = map(import_module, ("ndonnx", "spox._future", "onnxruntime"))

    def call(*arguments: Any) -> Any:
        inputs: dict[str, Any] = {}
        values: dict[str, np.ndarray] = {}

        def argument(array: Any) -> Any:
            name = f"argument {len(inputs)}"
            values[name] = array.unwrap_numpy()
            inputs[name] = ndonnx.argument(shape=values[name].shape, dtype=array.dtype)
            return inputs[name]

        with future.value_prop_backend(future.ValuePropBackend.REFERENCE):
            result = function(*map_arrays(argument, arguments))
            model = ndonnx.build(inputs, {f"result {k}": array for k, array in enumerate(result)})
        session = runtime.InferenceSession(model.SerializeToString())
        return tuple(map(ndonnx.asarray, session.run(None, {i.name: values[i.name] for i in session.get_inputs()})))

    return call


def _mlx_asarray(array: np.ndarray) -> Any:
    # The dtype by name: of a float64 array MLX makes float32 silently.
    core = import_module("mlx.core")
    dtype = core.bool_ if array.dtype == bool else getattr(core, array.dtype.name)
    return core.array(array, dtype=dtype)


@contextmanager
def _mlx_on_the_cpu() -> Iterator[None]:
    """Compute where there is float64: Apple's GPU, the default there, has none."""
    core = import_module("mlx.core")
    before = core.default_device()
    core.set_default_device(core.cpu)
    try:
        yield
    finally:
        core.set_default_device(before)


def _mlx_gradients(function: Callable[[dict[str, Any]], Any], arrays: dict[str, Any]) -> dict[str, Any]:
    return import_module("mlx.core").grad(function)(arrays)


def _sparse_to_numpy(arrays: Arrays) -> tuple[np.ndarray, ...]:
    return tuple(array.todense() for array in arrays)


def _cubed_to_numpy(arrays: Arrays) -> tuple[np.ndarray, ...]:
    # Without fusing operations, for which the graph is copied at each of its nodes.
    return tuple(map(np.asarray, import_module("cubed").compute(*arrays, optimize_graph=False)))


def _cubed_refuses_to_compute() -> AbstractContextManager[Any]:
    return import_module("cubed").config.set(executor_name="raise-if-computes")


def _strict(device: str, version: str | None = None) -> Backend:
    """Return array-api-strict on a device; with a version of the standard, with nothing that is optional in it."""
    flags: dict[str, Any] = {}
    if version is not None:
        flags = {
            "api_version": version,
            "boolean_indexing": False,
            "data_dependent_shapes": False,
            "enabled_extensions": (),
        }

    def context() -> AbstractContextManager[Any]:
        return import_module("array_api_strict").ArrayAPIStrictFlags(**flags) if flags else nullcontext()

    return Backend(
        name=f"strict-{device}" if version is None else f"strict-{version}",
        module="array_api_strict",
        title=f"array-api-strict, {device if version is None else f'{version}, strictest'}",
        context=context,
        device=device,
        # The devices and versions differ in what they refuse, not in numbers; and a step costs a millisecond for each
        # layer and direction. So one of them takes every case, another one a thousand steps.
        tier="full" if version == "2023.12" else "core",
        few_derivatives=version != "2023.12",
        steps=1000 if device == "CPU_DEVICE" else 7,
        examples=10,
        networks=20,
        dtypes=("float32",) if device in ("no_float64", "no_x64") else ("float64", "float32"),
    )


_NO_CLIP = (
    "xfail",
    "`clip` does not take `min` and `max` by name, without which elu, leaky_relu and relu are not to be written",
    "https://github.com/data-apis/array-api-compat/issues/465",
)
_EXP = (
    "xfail",
    "`exp` of float64, and with it `logaddexp`, is as accurate as float32",
    "https://github.com/ml-explore/mlx/issues/3047",
)
_MLX_GAPS = (
    Gap("test_functions.py::test_function[*-clip*]", *_NO_CLIP),
    Gap("test_cell.py::test_step_by_step[*variant=activations*]", *_NO_CLIP),
    Gap("test_options.py::test_equals_onnx_runtime[*variant=activations*]", *_NO_CLIP),
    Gap("test_options.py::test_equals_the_textbook[*-elu*]", *_NO_CLIP),
    Gap("test_options.py::test_equals_the_textbook[*-affine*]", *_NO_CLIP),
    Gap("test_options.py::test_elu_overflows_nowhere", *_NO_CLIP),
    Gap("test_long.py::test_a_thousand_steps_of_any_case[*variant=activations*]", *_NO_CLIP),
    Gap("test_streaming.py::test_frames[*variant=activations*]", *_NO_CLIP),
    Gap("test_autodiff.py::test_through_every_option[*other activations of peepholes*", *_EXP),
    Gap("test_functions.py::test_function[*float64-exp]", *_EXP),
    Gap("test_functions.py::test_function[*float64-logaddexp]", *_EXP),
    Gap("test_options.py::test_equals_the_textbook[*float64-softplus]", *_EXP),
)
_LAZY = Gap(
    "test_streaming.py::test_frames",
    "skip",
    "it is lazy: a stream would be a graph that grows with every frame, and is refused",
    "https://data-apis.org/array-api-compat/helper-functions.html#array_api_compat.is_lazy_array",
)
_SPARSE_GAPS = (
    Gap(
        "test_transfer.py",
        "skip",
        "it makes no dense array unless its own method is called",
        "https://github.com/pydata/sparse/issues/218",
    ),
    Gap(
        "test_numbers.py::test_nan_*",
        "xfail",
        "its products do not propagate NaN, and warn of it",
        "https://github.com/pydata/sparse/issues/340",
    ),
    Gap(
        "test_options.py::test_equals_the_textbook[*softplus]",
        "xfail",
        "its products refuse an array that is softplus(0) wherever nothing else is stored",
        "https://github.com/pydata/sparse/issues/265",
    ),
)

_CLIP_FROM_BELOW = (
    "xfail",
    "`clip` with `min` alone fails when it is computed; no report is known, the link is where `clip` came from",
    "https://github.com/cubed-dev/cubed/pull/583",
)
_CUBED_GAPS = (
    _LAZY,
    Gap("test_functions.py::test_function[*-clip from below]", *_CLIP_FROM_BELOW),
    Gap("test_options.py::test_equals_the_textbook[*-affine*]", *_CLIP_FROM_BELOW),
    Gap(
        "test_sizes.py::test_an_empty_batch",
        "xfail",
        "an array without elements cannot be sliced",
        "https://github.com/cubed-dev/cubed/issues/760",
    ),
)

BACKENDS = (
    Backend("numpy", "numpy", "NumPy", _numpy_asarray),
    Backend(
        "numpy-standard", "numpy", "NumPy, standard engine", _numpy_asarray, engine="standard", tier="core", examples=10
    ),
    Backend("numba", "numpy", "Numba, on NumPy", _numpy_asarray, engine="numba", requires="numba"),
    Backend("numpy-readonly", "numpy", "NumPy, read-only", _numpy_readonly, tier="core", few_derivatives=True),
    *(_strict(device) for device in ("CPU_DEVICE", "device1", "device2", "no_float64", "no_x64")),
    *(_strict("device1", version) for version in ("2023.12", "2024.12", "2025.12")),
    Backend("torch", "torch", "PyTorch", gradients=_torch_gradients, **_TORCH),
    Backend(
        "torch-standard",
        "torch",
        "PyTorch, standard engine",
        gradients=_torch_gradients,
        engine="standard",
        tier="core",  # of every case the row above has half by this engine
        few_derivatives=True,
        **_TORCH,
    ),
    Backend(
        "torch-compile",
        "torch",
        "PyTorch, torch.compile",
        compile=_torch_compile,
        calling=_torch_compiling,
        only=("cell",),
        tier="core",
        slow=True,
        **(_TORCH | {"context": _torch_compiled_anew}),
    ),
    Backend("jax", "jax.numpy", "JAX", gradients=_jax_gradients, **_JAX),
    Backend(
        "jax-jit",
        "jax.numpy",
        "JAX, jit",
        compile=_jax_compile,
        gradients=_jax_jit_gradients,
        slow=True,
        **_JAX,
    ),
    Backend(
        "dask",
        "dask.array",
        "Dask, lazy",
        _dask_asarray,
        _dask_to_numpy,
        calling=_dask_refuses_to_compute,
        gaps=(_LAZY,),
        examples=10,
        few_derivatives=True,
    ),
    Backend(
        "ndonnx",
        "ndonnx",
        "ndonnx",
        to_numpy=_ndonnx_to_numpy,
        compile=_ndonnx_compile,
        steps=2,
        tier="core",
        examples=1,
        networks=10,
        in_turn=("core", "full"),
        few_derivatives=True,
        slow=True,
        gaps=(_LAZY,),
    ),
    Backend(
        "mlx",
        "mlx.core",
        "MLX (CPU)",
        _mlx_asarray,
        context=_mlx_on_the_cpu,
        gradients=_mlx_gradients,
        gaps=_MLX_GAPS,
        few_derivatives=True,
    ),
    Backend(
        "sparse",
        "sparse",
        "pydata/sparse, dense values",
        to_numpy=_sparse_to_numpy,
        steps=7,
        tier="core",
        examples=3,
        few_derivatives=True,
        slow=True,
        gaps=_SPARSE_GAPS,
        missing={
            "arange": "https://github.com/pydata/sparse/issues/950",
            # Where dense algorithms are the best ones, an error is the policy.
            "cumulative_sum": "https://github.com/pydata/xarray/issues/3213",
        },
    ),
    Backend(
        "cubed",
        "cubed.array_api",
        "cubed, lazy",
        to_numpy=_cubed_to_numpy,
        calling=_cubed_refuses_to_compute,
        requires="cubed",
        gaps=_CUBED_GAPS,
        steps=2,
        tier="core",
        examples=1,
        networks=10,
        in_turn=("core", "full"),
        few_derivatives=True,
        slow=True,
    ),
    Backend("cupy", "cupy", "CuPy", not_run="there was no GPU to run it on"),
)


def by_name(name: str) -> Sequence[Backend]:
    """Return the rows of a name or of a module; for a module that has none, the row of a library like any other."""
    rows = [row for row in BACKENDS if row.name == name] or [row for row in BACKENDS if row.module == name]
    return rows or [any_library(name)]


def any_library(module: str) -> Backend:
    """Return the row of a library that is not in the table: what it has is asked of itself."""
    return with_its_dtypes(Backend(module, module, module))


def with_its_dtypes(row: Backend) -> Backend:
    """
    Return a row with those of its dtypes that the library has, on the row's device.

    Raises
    ------
    ImportError
        It cannot be imported.
    ValueError
        It has none: it is not an array library, or has no such device.
    """
    kept, said = [], ""
    import_module(row.module)
    with row.context():
        for name in row.dtypes:
            try:
                array = row.array(np.zeros(1, name))
                made, own = array.dtype, getattr(row.namespace, name, None)
            except Exception as error:  # each library has its own
                said = str(error)
            else:
                said = f"of {name} it makes {made}"
                kept += [name] if made == own or str(made).endswith(name) else []
    if not kept:
        where = "" if row.device is None else f" on {row.device}"
        msg = f"{row.module} makes no array of {' or '.join(row.dtypes)}{where}: {said}"
        raise ValueError(msg)
    return replace(row, dtypes=tuple(kept))
