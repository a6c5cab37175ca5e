"""Configurations for hypothesis to draw."""

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from conformance.cases import Case


@st.composite
def cases(draw: st.DrawFn, dtypes: Sequence[str] = ("float32", "float64"), steps: int = 9, **fixed: Any) -> Case:
    """Draw a configuration."""
    hidden = draw(st.integers(1, 6))
    drawn = {
        "time": draw(st.integers(1, min(9, steps))),
        "batch": draw(st.integers(1, 4)),
        "input_size": draw(st.integers(1, 6)),
        "hidden_size": hidden,
        "num_layers": draw(st.integers(1, 3)),
        "bidirectional": draw(st.booleans()),
        "bias": draw(st.sampled_from([(), ("bias_ih",), ("bias_hh",), ("bias_ih", "bias_hh")])),
        "proj_size": draw(st.integers(0, hidden + 1)),  # wider than the cell, too: TensorFlow 1 had that
        "peephole": draw(st.booleans()),
        "dtype": draw(st.sampled_from(dtypes)),
        "seed": draw(st.integers(0, 99)),
    }
    return Case(**drawn | fixed)
