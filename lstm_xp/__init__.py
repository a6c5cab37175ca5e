"""
One LSTM, written once against the Python array API standard.

It runs on whatever arrays it is given and equals `torch.nn.LSTM` with the same weights. See `lstm` for sequences,
`lstm_cell` for one step, `LSTM` for an object that holds the weights, `load` for files, `trace` for what is inside,
`lstm_vjp` for training.
"""

from lstm_xp import convert, plot
from lstm_xp._cell import lstm_cell
from lstm_xp._lstm import LSTM
from lstm_xp._noise import Noise, draw_noise
from lstm_xp._options import CellOptions
from lstm_xp._sequence import lstm, select_engine
from lstm_xp._stream import Stream
from lstm_xp._trace import Trace, trace
from lstm_xp._vjp import lstm_cell_vjp, lstm_vjp
from lstm_xp._weights import CellWeights
from lstm_xp.convert import load, save
from lstm_xp.engines import Choice, available_engines, warm_up

__version__ = "0.1.0"

__all__ = [
    "LSTM",
    "CellOptions",
    "CellWeights",
    "Choice",
    "Noise",
    "Stream",
    "Trace",
    "__version__",
    "available_engines",
    "convert",
    "draw_noise",
    "load",
    "lstm",
    "lstm_cell",
    "lstm_cell_vjp",
    "lstm_vjp",
    "plot",
    "save",
    "select_engine",
    "trace",
    "warm_up",
]
