"""
Dask on a cluster of this machine: one worker and two, and data larger than they may keep.

Workers import this module: it imports nothing that takes memory.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import dask.array as da
import numpy as np
import threadpoolctl
from distributed import Client, LocalCluster

import lstm_xp as lx
from benchmarks.memory import status

LIMIT = 500 * 2**20  # what each worker may have
N, T, I, H = 256, 200, 64, 128  # N is a block's: 0.15 seconds of work, much beside scheduling it
NET = lx.LSTM(I, H, seed=0)


def random_block(block_info: Any = None) -> np.ndarray:
    """Return one block, made where it is needed."""
    place = block_info[None]
    rng = np.random.default_rng(place["chunk-location"])
    return rng.standard_normal(place["chunk-shape"], np.float32)


def total(blocks: int) -> Any:
    """Return, lazily, the sum of squares of the output over so many blocks of the batch."""
    chunks = ((T,), (N,) * blocks, (I,))
    x = da.map_blocks(random_block, chunks=chunks, dtype=np.float32, meta=np.empty((0, 0, 0), np.float32))
    return da.sum(NET(x)[0] ** 2)


def peak(client: Client) -> int:
    """Return the largest resident size that a worker ever had."""
    return max(client.run(status, "VmHWM").values())


def blas_threads() -> list[int]:
    """Return the numbers of threads of BLAS that occur among this process's libraries."""
    libraries = threadpoolctl.threadpool_info()
    return sorted({library["num_threads"] for library in libraries if library["user_api"] == "blas"})


def expected(blocks: int) -> float:
    """Return the same sum, by torch."""
    import torch

    module = torch.nn.LSTM(I, H)
    module.load_state_dict({name: torch.tensor(array) for name, array in NET.state_dict().items()})
    inputs = (np.random.default_rng((0, k, 0)).standard_normal((T, N, I), np.float32) for k in range(blocks))
    with torch.no_grad():
        return sum(float(module(torch.from_numpy(x))[0].square().sum()) for x in inputs)


@contextmanager
def clients(*counts: int) -> Iterator[list[Client]]:
    """Start a cluster of so many workers for each count: processes with one thread each, BLAS's included."""
    # Workers inherit this process's variables, which go before those of Dask's configuration.
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    with ExitStack() as stack:
        stack.enter_context(patch.dict(os.environ, one))
        found = []
        for count in counts:
            cluster = LocalCluster(n_workers=count, threads_per_worker=1, memory_limit=LIMIT, dashboard_address=":0")
            found.append(stack.enter_context(Client(stack.enter_context(cluster))))
        yield found
