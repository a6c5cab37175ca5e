"""Dtypes and devices: objects of this library's own."""

import numpy as np

KINDS = {
    "bool": ("bool",),
    "signed integer": ("int8", "int16", "int32", "int64"),
    "unsigned integer": ("uint8", "uint16", "uint32", "uint64"),
    "real floating": ("float32", "float64"),
    "complex floating": ("complex64", "complex128"),
}
KINDS["integral"] = KINDS["signed integer"] + KINDS["unsigned integer"]
KINDS["floating"] = KINDS["real floating"] + KINDS["complex floating"]
KINDS["numeric"] = KINDS["integral"] + KINDS["floating"]


class DType:
    """A dtype. There is one object of each name, so that they compare by identity."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"tinyarrays.{self.name}"


class Device:
    """The device."""

    def __str__(self) -> str:
        return "cpu"


DTYPES = {name: DType(name) for kind in ("bool", "numeric") for name in KINDS[kind]}
CPU = Device()


def isdtype(dtype: DType, kind: DType | str | tuple[DType | str, ...]) -> bool:
    """Tell whether a dtype is of a kind, or of one of several."""
    if isinstance(kind, tuple):
        return any(isdtype(dtype, each) for each in kind)
    return check_dtype(dtype) is kind or (isinstance(kind, str) and dtype.name in KINDS[kind])


def check_dtype(dtype: DType) -> DType:
    """Refuse whatever is not one of our dtypes, NumPy's above all."""
    if not isinstance(dtype, DType):
        msg = f"{dtype!r} is no dtype of tinyarrays"
        raise TypeError(msg)
    return dtype


def check_device(device: Device | None) -> None:
    """Refuse whatever is not our device."""
    if device is not None and device is not CPU:
        msg = f"{device!r} is no device of tinyarrays"
        raise ValueError(msg)


def dtype_of(data: np.ndarray) -> DType:
    """Return our dtype of NumPy's array."""
    if data.dtype.name not in DTYPES:
        msg = f"tinyarrays has no dtype {data.dtype.name}"
        raise TypeError(msg)
    return DTYPES[data.dtype.name]


class Info:
    """What the library has, as `__array_namespace_info__` tells it."""

    def capabilities(self) -> dict[str, bool | int]:
        return {"boolean indexing": True, "data-dependent shapes": False, "max dimensions": 64}

    def default_device(self) -> Device:
        return CPU

    def default_dtypes(self, *, device: Device | None = None) -> dict[str, DType]:
        check_device(device)
        names = {"real floating": "float64", "complex floating": "complex128", "integral": "int64", "indexing": "int64"}
        return {kind: DTYPES[name] for kind, name in names.items()}

    def devices(self) -> list[Device]:
        return [CPU]

    def dtypes(
        self, *, device: Device | None = None, kind: str | tuple[DType | str, ...] | None = None
    ) -> dict[str, DType]:
        check_device(device)
        return {name: dtype for name, dtype in DTYPES.items() if kind is None or isdtype(dtype, kind)}
