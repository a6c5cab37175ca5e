"""Weights from elsewhere and back: other layouts, and files."""

from lstm_xp.convert._files import load, save
from lstm_xp.convert._layouts import from_concatenated, to_concatenated

__all__ = ["from_concatenated", "load", "save", "to_concatenated"]
