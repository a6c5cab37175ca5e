"""Write a text letter by letter: textgenrnn's network on NumPy, without the framework that it was trained in.

    python write.py ["How the text begins"] [--temperature 0.5] [--seed 1] [--texts 3]

The network comes from the package textgenrnn, whose files are read and whose code is not run (it no longer imports with
today's TensorFlow): ``pip install --no-deps textgenrnn``.  Of what reads and runs it only NumPy and h5py are needed.
"""

import argparse
import importlib.metadata
import json
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

import lstm_xp as lx

WINDOW = 40  # letters that the network sees
END = "<s>"  # stands before and after a text
LONGEST = 300

Array = NDArray[np.floating[Any]]


def find_files() -> tuple[Path, Path]:
    """Return where the package textgenrnn has put its network and its letters."""
    try:
        package = importlib.metadata.distribution("textgenrnn")
    except importlib.metadata.PackageNotFoundError:
        sys.exit("the network is in the package textgenrnn: pip install --no-deps textgenrnn")
    return tuple(
        Path(str(package.locate_file(f"textgenrnn/textgenrnn_{name}"))) for name in ("weights.hdf5", "vocab.json")
    )


def softmax(scores: Array) -> Array:
    """Return shares of 1."""
    powers = np.exp(scores - scores.max())
    shares: Array = powers / powers.sum()
    return shares


class Writer:
    """
    Tells which letter comes next.

    Two LSTMs read the last 40 letters; an average over these, weighted by how much each matters, of the letters and of
    what both LSTMs made of them is what the next one is told from.
    """

    def __init__(self, weights: Path, letters: Path) -> None:
        self.lstms = [lx.load(weights, prefix=name) for name in ("rnn_1", "rnn_2")]
        with h5py.File(weights) as file:
            self.embeddings: Array = file["embedding/embedding/embeddings:0"][()]
            self.attention: Array = file["attention/attention/attention_W:0"][:, 0]
            self.weight: Array = file["output/output/kernel:0"][()]
            self.bias: Array = file["output/output/bias:0"][()]
        self.numbers: dict[str, int] = json.loads(letters.read_text())
        self.letters = {number: letter for letter, number in self.numbers.items()}

    def __call__(self, text: list[str]) -> Array:
        """Return the probability of each letter, by its number."""
        numbers = [self.numbers.get(letter, 0) for letter in text[-WINDOW:]]
        features = [self.embeddings[[0] * (WINDOW - len(numbers)) + numbers]]
        for lstm in self.lstms:
            features.append(lstm(features[-1])[0])
        x = np.concatenate(features, axis=1)
        return softmax(softmax(x @ self.attention) @ x @ self.weight + self.bias)

    def write(self, beginning: str, temperature: float, rng: np.random.Generator) -> str:
        """Return a text. At temperature 0 the likeliest letter comes next; the higher, the more others do."""
        text = [END, *beginning]
        while len(text) < LONGEST:
            chances = self(text)
            if temperature == 0:
                number = int(chances.argmax())
            else:
                number = int(rng.choice(len(chances) - 1, p=softmax(np.log(chances[1:] + 1e-7) / temperature))) + 1
            if self.letters[number] == END:
                break
            text.append(self.letters[number])
        return "".join(text[1:])


def main() -> None:
    """Print texts."""
    parser = argparse.ArgumentParser(description="Write a text letter by letter.")
    parser.add_argument("beginning", nargs="?", default="")
    parser.add_argument("--temperature", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--texts", type=int, default=1)
    arguments = parser.parse_args()
    writer, rng = Writer(*find_files()), np.random.default_rng(arguments.seed)
    for _ in range(arguments.texts):
        print(writer.write(arguments.beginning, arguments.temperature, rng))


if __name__ == "__main__":
    main()
