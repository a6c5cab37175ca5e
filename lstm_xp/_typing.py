"""The types of arrays and of what produces them."""

from types import ModuleType
from typing import Any, TypeAlias, TypeVar

# The array API standard has no static type that NumPy's, PyTorch's and JAX's arrays all satisfy;
# https://github.com/data-apis/array-api-typing works on one. Until then arrays are `Any` inside,
# and the public functions say that the output has the type of `x`.
Array: TypeAlias = Any
ArrayT = TypeVar("ArrayT")
Namespace: TypeAlias = ModuleType | Any
DType: TypeAlias = Any
Device: TypeAlias = Any
