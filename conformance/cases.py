"""
The cases: configurations as data, from which weights and inputs are drawn.

All sizes of a case are different, and no state is zero unless that is what it is about: equal sizes hide what is
transposed, zeros hide what is swapped.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

import lstm_xp as lx

# What ONNX's LSTM has beside torch's: the second oracle knows it. A pair is (forward, backward); all share the rest.
GENTLE = ("hard_sigmoid", ("elu", 0.45), ("scaled_tanh", 0.8, 1.3))
OTHER = (("hard_sigmoid", 0.3, 0.35), "softsign", ("leaky_relu", 0.15))
VARIANTS = {
    "torch": (lx.CellOptions(),) * 2,
    "peephole": (lx.CellOptions(),) * 2,
    "coupled": (lx.CellOptions(coupled=True),) * 2,
    "clipped": (lx.CellOptions(clip_gates=0.4),) * 2,
    "activations": (lx.CellOptions(activations=GENTLE), lx.CellOptions(activations=OTHER)),
}


def _with_infinities(x: np.ndarray) -> np.ndarray:
    x[0, 1, 2], x[1, 0, 1] = np.inf, -np.inf
    return x


# What becomes of the numbers that are drawn for the input, shape (time, batch, input_size).
NUMBERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "plain": lambda x: x,
    "saturated": lambda x: x * np.asarray(1e4, x.dtype),
    "huge": lambda x: x * np.asarray(np.finfo(x.dtype).max / 16, x.dtype),
    "subnormal": lambda x: x * np.asarray(np.finfo(x.dtype).smallest_subnormal * 64, x.dtype),
    "infinite": _with_infinities,
}

# Fields of `lx.Noise`. Of what is drawn once, one mask is for all steps.
NOISE = ("inputs", "inputs once", "between", "between once", "hidden", "zoneout_h", "zoneout_c", "weight_hh")


@dataclass(frozen=True)
class Case:
    """One configuration. Arrays are drawn from its seed, the same on every machine."""

    time: int = 7
    batch: int | None = 3  # None: unbatched
    input_size: int = 5
    hidden_size: int = 4
    num_layers: int = 1
    bidirectional: bool = False
    reverse: bool = False
    bias: tuple[str, ...] = ("bias_ih", "bias_hh")
    proj_size: int = 0
    peephole: bool = False
    batch_first: bool = False
    start: str = "given"  # the initial state: "given", "one" (of batch size 1), "absent"
    valid: str = "all"  # which steps are: "all", those before "lengths", those of a "mask"
    masked_output: str = "zero"
    resets: bool = False  # whether episodes begin in mid-sequence
    noise: tuple[str, ...] = ()  # which masks of NOISE there are
    variant: str = "torch"  # of the cell: a key of VARIANTS
    norm: str | None = None  # layer normalisation, of "joint" or of "each" gates
    dtype: str = "float64"
    scale: float = 1.0  # of the weights, relative to torch's own
    numbers: str = "plain"  # in the input: a key of NUMBERS
    seed: int = 0

    def __str__(self) -> str:
        default = Case()
        shown = {k: v for k, v in vars(self).items() if v != getattr(default, k)}
        return ",".join(f"{k}={'+'.join(v) if isinstance(v, tuple) else v}" for k, v in shown.items()) or "default"

    @property
    def num_directions(self) -> int:
        return 1 + self.bidirectional

    @property
    def output_size(self) -> int:
        return self.proj_size or self.hidden_size

    @property
    def options(self) -> tuple[lx.CellOptions, ...]:
        """One for each direction."""
        options = VARIANTS[self.variant][: self.num_directions]
        return options if self.norm is None else tuple(replace(each, norm_gates=self.norm) for each in options)

    @property
    def settings(self) -> dict[str, Any]:
        """What `lstm_xp.lstm` takes beside arrays."""
        return {
            "batch_first": self.batch_first,
            "reverse": self.reverse,
            "masked_output": self.masked_output,
            "options": self.options if len(set(self.options)) == 2 else self.options[0],
        }

    def draw(self, what: str, shape: tuple[int, ...], low: float = -1.0, high: float = 1.0) -> np.ndarray:
        """
        Draw numbers between two bounds.

        From the bits of a generator, whose stream NumPy promises never to change; that of `uniform` it does not
        (https://numpy.org/neps/nep-0019-rng-policy.html).
        """
        bits = np.random.PCG64(np.random.SeedSequence([self.seed, *what.encode()])).random_raw(int(np.prod(shape)))
        unit = (np.asarray(bits) >> np.uint64(11)).astype("float64") * 2.0**-53
        return (low + (high - low) * unit).reshape(shape).astype(self.dtype)

    def weights(self) -> tuple[tuple[lx.CellWeights, ...], ...]:
        n = self.hidden_size
        bound = self.scale / float(np.sqrt(n))

        def cell(layer: int, direction: int) -> lx.CellWeights:
            inputs = self.input_size if layer == 0 else self.num_directions * self.output_size
            shapes: dict[str, tuple[int, ...]] = {
                "weight_ih": (4 * n, inputs),
                "weight_hh": (4 * n, self.output_size),
                **dict.fromkeys(self.bias, (4 * n,)),
                **({"weight_hr": (self.proj_size, n)} if self.proj_size else {}),
                **({"peephole": (3, n)} if self.peephole or self.variant in ("peephole", "coupled") else {}),
            }
            drawn = {k: self.draw(f"{k} {layer} {direction}", s, -bound, bound) for k, s in shapes.items()}
            if self.norm is not None:
                drawn["norm"] = self.draw(f"norm {layer} {direction}", (2, (9 if self.norm == "joint" else 5) * n))
                drawn["norm"][0] = 1 + drawn["norm"][0] / 2
            return lx.CellWeights(**drawn)

        return tuple(tuple(cell(k, d) for d in range(self.num_directions)) for k in range(self.num_layers))

    def x(self) -> np.ndarray:
        x = self.draw("x", (self.time, 1 if self.batch is None else self.batch, self.input_size), -2, 2)
        x = NUMBERS[self.numbers](x)
        if self.batch is None:
            return x[:, 0]
        return np.ascontiguousarray(x.swapaxes(0, 1)) if self.batch_first else x

    def state(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the initial state, whether or not the case gives it."""
        rows = self.num_layers * self.num_directions
        batch = () if self.batch is None else (1 if self.start == "one" else self.batch,)
        h = self.draw("h_0", (rows, *batch, self.output_size), -0.9, 0.9)
        return h, self.draw("c_0", (rows, *batch, self.hidden_size), -1.5, 1.5)

    def lengths(self) -> np.ndarray:
        """Return lengths, sorted neither way: some, all, 1 and, in a batch of four or more, 0; of one step 1 and 0."""
        some = [(self.time + 1) // 2, self.time, 1, 0] if self.time > 1 else [1, 0]
        lengths = np.resize(some, 1 if self.batch is None else self.batch).astype("int32")
        return lengths[0] if self.batch is None else lengths

    def mask(self) -> np.ndarray:
        """A mask with holes, a row with no valid step among its rows."""
        mask = self._drawn_steps("mask") < 0.2
        if self.batch is not None:
            mask[:, :1] = False
        return self._laid_out(mask)

    def reset(self) -> np.ndarray:
        """Return where an episode begins: at different steps in each row, at the last one of the last row."""
        reset = self._drawn_steps("reset") < -0.3
        reset[-1:, -1:] = True
        return self._laid_out(reset)

    def masks(self) -> lx.Noise:
        """Return the noise, of numbers between those that masks have, too: whatever they are, they are factors."""
        batch, rows = 1 if self.batch is None else self.batch, self.num_layers * self.num_directions
        shapes = {
            "inputs": (self.time, batch, self.input_size),
            "between": (self.num_layers - 1, self.time, batch, self.num_directions * self.output_size),
            "hidden": (rows, batch, self.output_size),
            "zoneout_h": (rows, self.time, batch, self.output_size),
            "zoneout_c": (rows, self.time, batch, self.hidden_size),
            "weight_hh": (rows, 4 * self.hidden_size, self.output_size),
        }
        drawn = {}
        for name in self.noise:
            field, _, once = name.partition(" ")
            shape = tuple(1 if once and k == len(shapes[field]) - 3 else n for k, n in enumerate(shapes[field]))
            # Some of them are 0 and, of shares, 1.
            mask = np.clip(self.draw(f"noise {name}", shape, -0.5, 1.5), 0, 1 if "zoneout" in name else None)
            drawn[field] = mask[..., 0, :] if self.batch is None and field != "weight_hh" else mask
        return lx.Noise(**drawn)

    def valid_steps(self) -> np.ndarray | None:
        """Return which steps are valid, shape (time, batch), or None if all are."""
        if self.valid == "all":
            return None
        if self.valid == "lengths":
            return np.arange(self.time)[:, None] < np.atleast_1d(self.lengths())
        return self._time_major(self.mask())

    def episodes(self) -> np.ndarray | None:
        """Return the number of the episode that each step belongs to, shape (time, batch), or None without resets."""
        return np.cumsum(self._time_major(self.reset()), axis=0) if self.resets else None

    def _drawn_steps(self, what: str) -> np.ndarray:
        """Draw a number for each step, shape (time, batch)."""
        return self.draw(what, (self.time, 1 if self.batch is None else self.batch))

    def _laid_out(self, steps: np.ndarray) -> np.ndarray:
        """Return what is of shape (time, batch) as the case's x has them."""
        if self.batch is None:
            return steps[:, 0]
        return np.ascontiguousarray(steps.T) if self.batch_first else steps

    def _time_major(self, steps: np.ndarray) -> np.ndarray:
        """Return what `_laid_out` returned as it was."""
        return steps[:, None] if self.batch is None else steps.T if self.batch_first else steps

    def arguments(self) -> dict[str, Any]:
        """Return the arrays that the case gives to an LSTM, by name."""
        return {
            "x": self.x(),
            **({} if self.start == "absent" else {"state": self.state()}),
            **({} if self.valid == "all" else {self.valid: getattr(self, self.valid)()}),
            **({"reset": self.reset()} if self.resets else {}),
            **({"noise": self.masks()} if self.noise else {}),
        }

    def lstm(self, asarray: Callable[[np.ndarray], Any] = np.asarray, **settings: Any) -> lx.LSTM:
        return lx.LSTM.from_weights(map_arrays(asarray, self.weights()), **(self.settings | settings))

    def replace(self, **changes: Any) -> "Case":
        return replace(self, **changes)


def map_arrays(function: Callable[[Any], Any], tree: Any) -> Any:
    """Apply a function to each array in nested tuples and dicts, which stay what they are."""
    if tree is None:
        return None
    if isinstance(tree, dict):
        return {name: map_arrays(function, each) for name, each in tree.items()}
    if isinstance(tree, lx.CellWeights | lx.Noise):
        return type(tree)(*(map_arrays(function, each) for each in tree))
    if isinstance(tree, tuple):
        return tuple(map_arrays(function, each) for each in tree)
    return function(tree)


# The first tier: any two settings meet in one of these (proven in tests/test_conformance.py). Columns:
#
# T, N, I, H    sizes; N - is an input without a batch
# P             projection; - is none
# layers
# way           forward, backward (`reverse`), both (bidirectional)
# bias          both, ih, hh, none
# x             where the batch is in x: second (time first), first (batch_first), - (none)
# start         the initial state: given, one (of batch size 1, broadcast), absent
# valid         all steps, those before the lengths, those of a mask with holes
# masked        what the output is at a step that is not valid: zero, hold
# variant       of the cell: a key of VARIANTS
# dtype
CORE_TABLE = """
T  N  I  H  P  layers  way       bias  x       start   valid    masked  variant      dtype
1  3  5  4  2  2       backward  hh    first   one     all      zero    torch        float32
2  5  8  3  -  2       backward  none  second  one     all      zero    torch        float64
7  5  8  3  1  1       both      ih    second  given   all      zero    torch        float32
7  4  3  6  5  3       both      hh    first   absent  all      zero    torch        float64
7  -  5  4  2  2       forward   both  -       given   all      zero    torch        float64
1  4  3  6  5  1       backward  none  first   given   lengths  hold    torch        float32
7  -  5  4  -  2       backward  hh    -       absent  lengths  hold    torch        float64
2  5  8  3  -  2       both      both  first   one     lengths  hold    torch        float32
2  3  5  4  1  3       forward   ih    second  absent  lengths  hold    torch        float32
1  3  5  4  -  2       backward  ih    second  given   lengths  zero    torch        float64
1  -  5  4  2  3       both      none  -       absent  lengths  zero    torch        float32
1  4  3  6  5  1       forward   hh    second  one     lengths  zero    torch        float32
7  4  3  6  5  2       forward   both  first   absent  lengths  zero    torch        float32
2  5  8  3  -  3       forward   hh    first   given   lengths  zero    torch        float32
1  5  8  3  2  3       backward  both  second  absent  mask     hold    torch        float32
1  -  5  4  -  3       backward  ih    -       absent  mask     hold    torch        float32
2  4  3  6  -  2       both      hh    first   given   mask     hold    torch        float64
7  3  5  4  -  1       forward   none  first   one     mask     hold    torch        float64
2  4  3  6  -  3       backward  ih    first   one     mask     zero    torch        float64
1  3  5  4  -  1       both      both  second  absent  mask     zero    torch        float32
2  -  5  4  3  1       forward   none  -       given   mask     zero    torch        float32
7  5  8  3  1  2       forward   hh    second  one     mask     zero    torch        float64
7  4  3  6  -  2       backward  ih    first   one     all      zero    activations  float32
2  3  5  4  -  2       both      both  first   given   lengths  hold    activations  float32
2  5  8  3  -  3       forward   hh    first   absent  lengths  zero    activations  float64
7  -  5  4  -  2       backward  none  -       absent  mask     hold    activations  float32
1  3  5  4  -  1       both      both  second  given   mask     zero    activations  float32
1  3  5  4  -  1       backward  none  first   given   all      zero    clipped      float64
2  -  5  4  -  1       backward  none  -       absent  lengths  hold    clipped      float64
7  -  5  4  -  1       forward   ih    -       absent  lengths  zero    clipped      float64
2  4  3  6  -  2       backward  hh    first   given   mask     hold    clipped      float64
1  5  8  3  -  3       both      both  second  one     mask     zero    clipped      float32
7  3  5  4  -  3       forward   hh    second  one     all      zero    coupled      float32
1  4  3  6  -  2       both      ih    second  absent  lengths  hold    coupled      float32
2  5  8  3  -  1       backward  none  first   given   lengths  zero    coupled      float64
1  -  5  4  -  1       backward  both  -       given   mask     hold    coupled      float64
7  4  3  6  -  2       backward  ih    first   one     mask     zero    coupled      float64
7  5  8  3  -  3       backward  both  first   one     all      zero    peephole     float64
1  3  5  4  -  1       forward   none  second  given   lengths  hold    peephole     float64
1  -  5  4  -  3       backward  hh    -       given   lengths  zero    peephole     float64
1  -  5  4  -  2       forward   ih    -       given   mask     hold    peephole     float64
2  4  3  6  -  1       both      hh    second  absent  mask     zero    peephole     float32
"""

_WAYS = {
    "forward": {},
    "backward": {"reverse": True},
    "both": {"bidirectional": True},
}
_BIASES = {"both": ("bias_ih", "bias_hh"), "ih": ("bias_ih",), "hh": ("bias_hh",), "none": ()}


def read_table(table: str) -> tuple[Case, ...]:
    """Return the cases of a table: a line of names, then one line for each case."""
    names, *rows = (line.split() for line in table.strip().splitlines())
    return tuple(_case(dict(zip(names, row, strict=True))) for row in rows)


def _case(row: dict[str, str]) -> Case:
    number = lambda text: None if text == "-" else int(text)
    return Case(
        time=int(row["T"]),
        batch=number(row["N"]),
        input_size=int(row["I"]),
        hidden_size=int(row["H"]),
        proj_size=number(row["P"]) or 0,
        num_layers=int(row["layers"]),
        **_WAYS[row["way"]],
        bias=_BIASES[row["bias"]],
        batch_first=row["x"] == "first",
        start=row["start"],
        valid=row["valid"],
        masked_output=row["masked"],
        variant=row["variant"],
        dtype=row["dtype"],
    )


CORE = read_table(CORE_TABLE)


def _full() -> Iterable[Case]:
    """
    Yield the second tier: every combination of what shapes a network and its arguments.

    Lengths of time and variants of the cell go round beside them, each at its own pace, so that any two settings meet.
    """
    combinations = product(
        (("3", "5", "6", "4"), ("4", "3", "6", "5"), ("-", "5", "6", "4")),
        (True, False),
        ("1", "2"),
        _WAYS,
        ("both", "none"),
        ("given", "absent"),
        ("all", "lengths", "mask"),
        ("float64", "float32"),
    )
    times = ("7", "1", "2", "7", "1000", "2", "7", "1", "2", "7", "1")
    for k, ((n, i, h, p), projected, layers, way, bias, start, valid, dtype) in enumerate(combinations):
        yield _case(
            {
                "T": times[k * 5 % 11],
                "N": n,
                "I": i,
                "H": h,
                "P": p if projected else "-",
                "layers": layers,
                "way": way,
                "bias": bias,
                "x": "-" if n == "-" else ("second", "first")[k // 13 % 2],
                "start": start,
                "valid": valid,
                "masked": "hold" if valid != "all" and k // 17 % 2 else "zero",
                "variant": "torch" if projected else (*VARIANTS,)[k * 3 // 7 % len(VARIANTS)],
                "dtype": dtype,
            }
        )


FULL = tuple(_full())
TIERS = {"core": CORE, "full": (*CORE, *FULL)}
# The longest sequence in each, in whatever test.
STEPS = {"core": 7, "full": 1000}
