"""What NumPy trained, run by torch, Keras and ONNX Runtime.

    pip install 'lstm_xp[onnx]' onnxruntime torch keras
    python elsewhere.py

Only the files of this folder are read: the weights, and the 500 recordings that were not trained on.
"""

import os
import tempfile
from pathlib import Path

import numpy as np
from train import HERE, Array, Recordings, load_held_out

import lstm_xp as lx


def by_numpy(net: lx.LSTM, data: Recordings) -> Array:
    """Return the LSTM's outputs, (time, count, 2 * hidden), zeros behind the end of each recording."""
    output: Array = net(data.x, lengths=data.lengths)[0]
    return output


def by_torch(net: lx.LSTM, data: Recordings) -> Array:
    """Return them from a torch.nn.LSTM."""
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    module = lx.convert.to_torch(net)
    packed = pack_padded_sequence(torch.as_tensor(data.x), torch.as_tensor(data.lengths), enforce_sorted=False)
    with torch.no_grad():
        output: Array = pad_packed_sequence(module(packed)[0])[0].numpy()
    return output


def by_keras(net: lx.LSTM, data: Recordings) -> Array:
    """Return them from a layer of Keras, which goes by a mask and by (batch, time)."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras

    layer = keras.layers.Bidirectional(keras.layers.LSTM(net.hidden_size, return_sequences=True))
    layer.build((None, *data.x.shape[::2]))
    layer.set_weights(lx.convert.to_keras(net))
    valid = np.arange(len(data.x)) < data.lengths[:, None]
    output = layer(data.x.swapaxes(0, 1), mask=keras.ops.convert_to_tensor(valid))
    shown: Array = keras.ops.convert_to_numpy(output) * valid[:, :, None]
    return shown.swapaxes(0, 1)


def by_onnxruntime(net: lx.LSTM, data: Recordings) -> Array:
    """Return them from a .onnx file."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)  # it warns of inputs with a default, which the states are
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "digits.onnx")
        lx.save(path, net)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    output: Array = session.run(["output"], {"x": data.x, "lengths": data.lengths.astype(np.int32)})[0]
    return output


def right(output: Array, head: Array, bias: Array, data: Recordings) -> int:
    """Return how many recordings are named right."""
    scores = output.sum(axis=0) / data.lengths[:, None] @ head.T + bias
    return int((scores.argmax(axis=1) == data.digits).sum())


def main() -> None:
    """Print how many recordings each of them names right."""
    path = HERE / "weights.npz"
    net, data = lx.load(path, prefix="lstm."), load_held_out()
    with np.load(path) as file:
        head, bias = file["head.weight"], file["head.bias"]
    outputs = {
        "NumPy": by_numpy(net, data),
        "torch": by_torch(net, data),
        "Keras": by_keras(net, data),
        "ONNX Runtime": by_onnxruntime(net, data),
    }
    for who, output in outputs.items():
        gap = np.abs(output - outputs["NumPy"]).max()
        print(f"{who:<13}{right(output, head, bias, data)} of {len(data.digits)} right, outputs within {gap:.1e}")


if __name__ == "__main__":
    main()
