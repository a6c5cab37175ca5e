"""``.onnx``, by the extra ``[onnx]``."""

from lstm_xp.convert._onnx_read import read
from lstm_xp.convert._onnx_write import write

__all__ = ["read", "write"]
