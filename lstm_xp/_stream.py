"""`Stream`: one time step at a time, as fast as that goes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar

import numpy as np

from lstm_xp import engines
from lstm_xp._checks import Shape, check_like, check_shape, integer
from lstm_xp._namespace import device_keyword, device_of, is_lazy, is_tracer, library_name
from lstm_xp._sequence import Call, make_request
from lstm_xp._typing import Array
from lstm_xp.engines._request import Request

if TYPE_CHECKING:
    from lstm_xp._lstm import LSTM

StreamT = TypeVar("StreamT", bound="Stream")


class Stream:
    """
    An LSTM that takes one frame and returns one output, and keeps the state.

    Pushing the time steps of a sequence one after the other gives what the LSTM gives for the whole. `LSTM.stream`
    makes one. Streaming is inference: torch records nothing for a backward pass.

    Several streams of one LSTM share its weights and may run in several threads; one stream is for one at a time, and
    says so. It can be copied and pickled.

    Parameters
    ----------
    net : LSTM
        The LSTM. It must run forward in time only.
    state : tuple of two arrays, optional
        ``(h_0, c_0)``, shapes (num_layers, batch, proj_size or hidden_size) and (num_layers, batch, hidden_size). Zeros
        if absent. A batch of 1 is broadcast.
    batch_size : int or None, optional
        Rows of each frame; None for frames and states without a batch axis.
    engine : str, optional
        Who computes; the LSTM's own setting if absent.

    Raises
    ------
    TypeError, ValueError
        An argument does not fit, the LSTM does not run forward in time alone, or its arrays are lazy.

    Examples
    --------
    >>> import numpy as np
    >>> import lstm_xp as lx
    >>> net = lx.LSTM(5, 4, seed=0)
    >>> x = np.ones((7, 5), np.float32)
    >>> stream = net.stream(batch_size=None)
    >>> outputs = [stream(frame) for frame in x]
    >>> bool(np.allclose(outputs, net(x)[0], atol=1e-6))
    True
    >>> h, c = stream.state
    >>> h.shape, c.shape
    ((1, 4), (1, 4))
    """

    __slots__ = (
        "__weakref__",
        "_batch_size",
        "_class",
        "_device",
        "_dtype",
        "_engine",
        "_is_transformed",
        "_lock",
        "_net",
        "_push",
        "_shape",
        "_stepper",
        "_zeros",
    )

    _push: Callable[[Any], Any]
    _is_transformed: Callable[[], bool]

    def __init__(
        self,
        net: LSTM,
        state: tuple[Any, Any] | None = None,
        batch_size: int | None = 1,
        *,
        engine: str | None = None,
    ) -> None:
        if net.bidirectional or net.reverse:
            msg = f"{net} was given, expected an LSTM that runs forward in time only, as its input comes in"
            raise ValueError(msg)
        if batch_size is not None:
            batch_size = integer(batch_size, "batch_size", 1)
        if is_lazy(net._network.first_array):
            msg = f"the LSTM's arrays are of {library_name(net._network.xp)}, expected a library that is not lazy"
            raise ValueError(msg)
        self._net = net
        self._batch_size = batch_size
        self._lock = Lock()
        shape = (1, net.input_size) if batch_size is None else (1, batch_size, net.input_size)
        self._zeros = net._network.xp.zeros(shape, dtype=net.dtype, **device_keyword(net.device))
        self._class, self._dtype, self._shape = type(self._zeros), self._zeros.dtype, shape[1:]
        # NumPy has one device only. None also where the library does not tell.
        is_numpy, is_torch = self._class is np.ndarray, library_name(net._network.xp) == "torch"
        self._device = None if is_numpy else device_of(self._zeros)
        # torch's transforms do not show in a tensor's type. Not documented; tests/test_stream.py tells if it changes.
        self._is_transformed = sys.modules["torch"]._C._are_functorch_transforms_active if is_torch else bool
        request = self._request(state)
        self._engine = engines.choose(request, net.engine if engine is None else engine).name
        self._stepper = engines.make_stepper(request, self._engine, batch_size is not None)
        self._set_state(request)

    def __call__(self, x: Array) -> Array:
        """
        Take a frame and return the output of that time step.

        Parameters
        ----------
        x : array, shape (batch, input_size)
            The frame, of the LSTM's library, dtype and device; (input_size,) without a batch.

        Returns
        -------
        array, shape (batch, proj_size or hidden_size)
            The last layer's hidden state, in an array of its own; (proj_size or hidden_size,) without a batch.

        Raises
        ------
        TypeError, ValueError
            The frame does not fit.
        RuntimeError
            Another thread is at it, or an earlier call was interrupted.
        """
        if not self._lock.acquire(False):
            raise RuntimeError(_BUSY)
        try:
            if (
                type(x) is not self._class
                or x.dtype != self._dtype
                or x.shape != self._shape
                or (self._device is not None and (x.device != self._device or self._is_transformed()))
            ):
                self._check(x)
            try:
                return self._push(x)
            except BaseException:  # KeyboardInterrupt, too
                self._push = _refuse
                raise
        finally:
            self._lock.release()

    @property
    def state(self) -> tuple[Any, Any]:
        """
        The state ``(h_n, c_n)``, in copies.

        It can be set to such a tuple, or to None for zeros.
        """
        with self._alone():
            if self._push is _refuse:
                _refuse(None)
            state = self._stepper.get_state()
        return state if self._batch_size is not None else (state[0][:, 0, :], state[1][:, 0, :])

    @state.setter
    def state(self, state: tuple[Any, Any] | None) -> None:
        request = self._request(state)
        with self._alone():
            self._set_state(request)

    @property
    def engine(self) -> str:
        """Who computes."""
        return self._engine

    def copy(self) -> Self:
        """
        Return a stream of its own in the same state.

        Returns
        -------
        Stream
            The copy. The LSTM, which is immutable, is shared.

        Raises
        ------
        RuntimeError
            Another thread is at it, or an earlier call was interrupted.
        """
        return _rebuild(type(self), self._net, self.state, self._batch_size, self._engine)

    __copy__ = copy

    def __deepcopy__(self, _memo: object) -> Self:
        return self.copy()

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self._net, self.state, self._batch_size, self._engine)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._net}, batch_size={self._batch_size}, engine={self._engine!r})"

    def _request(self, state: tuple[Any, Any] | None) -> Request:
        """Check a state; return the request of one frame after it."""
        self._refuse_transform("state")
        settings = replace(self._net._settings, batch_first=False)
        return make_request(self._net._network, settings, Call(self._zeros, state))[0]

    def _set_state(self, request: Request) -> None:
        """Set the state to that of a request."""
        xp, sizes = request.xp, self._net._network.sizes
        keywords = {"dtype": self._dtype, **device_keyword(device_of(self._zeros))}
        shapes = [(sizes.num_layers, request.x.shape[1], size) for size, _ in sizes.state_sizes]
        if request.state is None:
            h, c = (xp.zeros(shape, **keywords) for shape in shapes)
        else:
            h, c = (xp.broadcast_to(array, shape) for array, shape in zip(request.state, shapes, strict=True))
        self._stepper.set_state(h, c)
        self._push = self._stepper.push

    def _check(self, x: Array) -> None:
        """Refuse a frame that does not fit; one of a subclass does."""
        check_like(x, "x", self._zeros, "weights", (self._net._network.xp,))
        check_shape(x, "x", Shape(self._shape, "(batch_size, input_size)" if self._batch_size else "(input_size,)"))
        if is_tracer(x) and not is_tracer(self._zeros):
            msg = "`x` is a JAX tracer, expected an array of numbers: within a transformation use `lstm_xp.lstm`"
            raise TypeError(msg)
        self._refuse_transform("x")

    def _refuse_transform(self, name: str) -> None:
        """Refuse what torch is transforming: the state would outlive it, and a gradient would silently be zero."""
        if self._is_transformed():
            msg = f"`{name}` is given within a torch.func transform, expected outside: there use `lstm_xp.lstm`"
            raise TypeError(msg)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Refuse to look at a state while it is changing."""
        if not self._lock.acquire(False):
            raise RuntimeError(_BUSY)
        try:
            yield
        finally:
            self._lock.release()


_BUSY = "the stream is in use by another thread, expected one at a time: give each thread a `copy()`"


def _refuse(_x: Any) -> NoReturn:
    msg = "the stream was interrupted in the middle of a step, expected its `state` to be set before it goes on"
    raise RuntimeError(msg)


def _rebuild(cls: type[StreamT], net: LSTM, state: tuple[Any, Any], batch_size: int | None, engine: str) -> StreamT:
    return cls(net, state, batch_size, engine=engine)
