"""The object: torch's constructor and names, ownership, initial weights, immutability, pickle."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import lstm_xp as lx
from conformance.cases import Case, map_arrays
from conformance.compare import assert_equal, flat

TORCH_ARGUMENTS = [
    {},
    {"num_layers": 2},
    {"bias": False},
    {"batch_first": True},
    {"num_layers": 2, "dropout": 0.3},
    {"bidirectional": True},
    {"proj_size": 2},
    {"num_layers": 3, "bias": False, "batch_first": True, "dropout": 0.5, "bidirectional": True, "proj_size": 3},
]


TORCH_PROPERTIES = (
    "input_size",
    "hidden_size",
    "num_layers",
    "bias",
    "batch_first",
    "dropout",
    "bidirectional",
    "proj_size",
)


@pytest.mark.needs("torch")
@pytest.mark.parametrize("arguments", TORCH_ARGUMENTS, ids=str)
def test_constructor_properties_names_and_repr_are_torchs(arguments: dict[str, Any]) -> None:
    import torch

    ours, theirs = lx.LSTM(5, 4, **arguments, seed=0), torch.nn.LSTM(5, 4, **arguments)
    assert repr(ours) == repr(theirs)
    for name in TORCH_PROPERTIES:
        assert getattr(ours, name) == getattr(theirs, name)
    shapes = {name: tuple(value.shape) for name, value in theirs.state_dict().items()}
    assert {name: value.shape for name, value in ours.state_dict().items()} == shapes
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert {value.dtype for value in ours.state_dict().values()} == {np.dtype("float32")}


def test_repr_shows_what_differs_from_our_defaults() -> None:
    net = lx.LSTM(5, 4, options=lx.CellOptions(coupled=True), reverse=True, masked_output="hold", engine="standard")
    assert repr(net).startswith("LSTM(5, 4, options=CellOptions(")
    assert repr(net).endswith("reverse=True, masked_output='hold', engine='standard')")


class TestInitialWeights:
    @pytest.mark.parametrize("hidden", [16, 400])
    def test_uniform_is_torchs_rule(self, hidden: int) -> None:
        """Everything uniform within 1/sqrt(hidden_size): the extremes, mean and variance of many draws say so."""
        for name, array in lx.LSTM(50, hidden, num_layers=2, proj_size=10, seed=1).state_dict().items():
            scaled = array.astype("float64") * np.sqrt(hidden)
            assert np.abs(scaled).max() <= 1 + 1e-6, name
            assert np.abs(scaled).max() > 0.9, name
            five_sigma = 5 / np.sqrt(scaled.size)
            assert abs(scaled.mean()) < five_sigma * np.sqrt(1 / 3), name
            assert abs(scaled.var() - 1 / 3) < five_sigma * np.sqrt(4 / 45), name

    @pytest.mark.parametrize("proj_size", [0, 7])
    def test_glorot(self, proj_size: int) -> None:
        net = lx.LSTM(
            50, 30, num_layers=2, bidirectional=True, proj_size=proj_size, init="glorot", seed=1, dtype="float64"
        )
        for layer in net.weights:
            for cell in layer:
                for gate in np.split(cell.weight_ih, 4):
                    bound = np.sqrt(6 / sum(gate.shape))
                    assert 0.97 * bound < np.abs(gate).max() <= bound
                    assert abs(gate.var() / (bound**2 / 3) - 1) < 0.2
                for gate in np.split(cell.weight_hh, 4):
                    np.testing.assert_allclose(gate.T @ gate, np.eye(proj_size or 30), atol=1e-13)
                np.testing.assert_array_equal(cell.bias_ih, np.zeros(120))
                np.testing.assert_array_equal(cell.bias_hh, np.repeat([0, 1, 0, 0], 30))
                if proj_size:
                    assert np.abs(cell.weight_hr).max() <= np.sqrt(6 / 37)
        assert lx.LSTM(5, 4, bias=False, init="glorot").bias is False

    def test_a_seed_means_the_same_numbers_and_none_means_others(self) -> None:
        draw = lambda seed: lx.LSTM(5, 4, seed=seed).weights[0][0].weight_ih
        np.testing.assert_array_equal(draw(3), draw(3))
        assert not np.array_equal(draw(3), draw(4))
        assert not np.array_equal(draw(None), draw(None))

    def test_a_seed_means_these_numbers(self) -> None:
        """In every later version too, or the changelog says so."""
        expected = {
            "uniform": (
                [0.007772236300349955, 0.37133937669288064, -0.1387359409858424, 0.09818406720721307],
                [-0.3489377219231845, 0.31052683031724515],
            ),
            "glorot": (
                [0.049615653710768814, -0.7635420592090328, 0.8315762628144072, 0.37777755812443137],
                [-0.6150730100633353, 0.7681137883929399],
            ),
        }
        for init, (weight_hh, weight_hr) in expected.items():
            ((cell,),) = lx.LSTM(3, 4, proj_size=2, init=init, seed=7, dtype="float64").weights
            np.testing.assert_allclose(cell.weight_hh[:2].ravel(), weight_hh, rtol=1e-12)
            np.testing.assert_allclose(cell.weight_hr[:, 0], weight_hr, rtol=1e-12)

    def test_no_two_arrays_are_alike(self) -> None:
        arrays = [
            a.ravel()[:3].tobytes()
            for a in lx.LSTM(4, 4, num_layers=2, bidirectional=True, seed=0).state_dict().values()
        ]
        assert len(set(arrays)) == len(arrays)

    def test_float64_is_rounded_once(self) -> None:
        one, two = (lx.LSTM(5, 4, seed=3, dtype=dtype).weights[0][0].weight_ih for dtype in ("float32", np.float64))
        np.testing.assert_array_equal(one, two.astype("float32"))


class TestOwnership:
    @pytest.mark.needs("torch", "jax")
    def test_between_any_two_libraries(self) -> None:
        import torch
        from jax import numpy as jnp

        net = lx.LSTM(5, 4, seed=0)
        for path in ((jnp, torch, np), (torch, jnp, np)):
            moved = net
            for xp in path:
                moved = moved.to(xp)
            np.testing.assert_array_equal(moved.weights[0][0].weight_hh, net.weights[0][0].weight_hh)
        assert net.to(torch, dtype=torch.bfloat16).dtype == torch.bfloat16
        assert net.to(jnp, dtype="bfloat16").to(torch).dtype == torch.bfloat16
        net.to(jnp).to(torch).weights[0][0].weight_hh.zero_()  # memory of its own, which can be written to

    def test_numpy_weights_are_copied_and_read_only(self) -> None:
        ((given,),) = Case().weights()
        net = lx.LSTM.from_weights(given)
        before = net.weights[0][0].weight_ih.copy()
        given.weight_ih[:] = 0
        np.testing.assert_array_equal(net.weights[0][0].weight_ih, before)
        for array in net.state_dict().values():
            with pytest.raises(ValueError, match="read-only"):
                array[...] = 0

    def test_a_state_dict_round_trip_is_bit_for_bit(self) -> None:
        given = Case(num_layers=2, bidirectional=True, proj_size=2, peephole=True).lstm().state_dict()
        assert "peephole_l1_reverse" in given
        back = lx.LSTM.from_state_dict(given).state_dict()
        assert list(back) == list(given)
        for name, array in given.items():
            assert back[name].tobytes() == array.tobytes()

    @pytest.mark.parametrize("prefix", ["enc", "enc."])
    def test_names_outside_the_prefix_are_ignored(self, prefix: str) -> None:
        given = Case().lstm().state_dict()
        mapping = {f"enc.{name}": a for name, a in given.items()} | {"head.weight": 1, "encoder.bias": 2}
        assert list(lx.LSTM.from_state_dict(mapping, prefix=prefix).state_dict()) == list(given)

    def test_memory_mapped_and_fortran_ordered_weights(self, tmp_path: Any) -> None:
        case = Case()
        ((weights,),) = case.weights()
        np.save(tmp_path / "w.npy", weights.weight_ih)
        mapped = np.load(tmp_path / "w.npy", mmap_mode="r")
        net = lx.LSTM.from_weights(weights._replace(weight_ih=mapped, weight_hh=np.asfortranarray(weights.weight_hh)))
        assert type(net.weights[0][0].weight_ih) is np.ndarray
        assert_equal(flat(net(case.x())), flat(case.lstm()(case.x())), 0.0)

    @pytest.mark.needs("torch")
    def test_torch_weights_are_kept_and_grad_is_cut_only_on_request(self) -> None:
        import torch

        net = lx.LSTM.from_state_dict(dict(torch.nn.LSTM(5, 4).named_parameters()))
        with pytest.raises(TypeError, match="`weight_ih_l0` requires grad"):
            net.to(np)
        assert not net.to(detach=True).weights[0][0].weight_ih.requires_grad
        copied = net.to(np, detach=True)
        with torch.no_grad():
            net.weights[0][0].weight_ih.zero_()
        assert copied.weights[0][0].weight_ih.any()

    @pytest.mark.needs("torch")
    def test_to_shares_no_memory(self) -> None:
        import torch

        net = lx.LSTM(5, 4, seed=0)
        theirs = net.to(torch)
        theirs.weights[0][0].weight_ih.zero_()
        assert net.weights[0][0].weight_ih.any()
        again = theirs.to()
        again.weights[0][0].weight_hh.zero_()
        assert theirs.weights[0][0].weight_hh.any()


class TestImmutability:
    def test_nothing_can_be_set(self) -> None:
        net = lx.LSTM(5, 4)
        for name in ("weights", "hidden_size", "_network", "new"):
            with pytest.raises(AttributeError, match="immutable"):
                setattr(net, name, 1)
        with pytest.raises(AttributeError, match="immutable"):
            del net._network

    def test_it_cannot_be_initialised_again(self) -> None:
        net = lx.LSTM(5, 4)
        with pytest.raises(AttributeError, match="cannot be initialised again"):
            net.__init__(3, 2)
        assert net.hidden_size == 4

    def test_a_list_of_options_is_copied(self) -> None:
        case = Case(bidirectional=True)
        options = [lx.CellOptions(), lx.CellOptions()]
        net = case.lstm(options=options)
        before = flat(net(case.x()))
        options[0] = lx.CellOptions(coupled=True)
        assert_equal(flat(net(case.x())), before, 0.0)

    def test_hash_and_equality_are_by_identity(self) -> None:
        one, two = (lx.LSTM(5, 4, seed=0) for _ in range(2))
        assert one != two
        assert len({one, two, one}) == 2

    @pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
    def test_copies(self, copied: Any) -> None:
        case = Case(num_layers=2, peephole=True, batch_first=True)
        net = case.lstm(options=lx.CellOptions(clip_cell=0.3), dropout=0.1, masked_output="hold", engine="standard")
        other = copied(net)
        assert repr(other) == repr(net)
        assert other is not net
        assert not other.weights[0][0].weight_ih.flags.writeable
        assert other.weights[0][0].weight_ih is not net.weights[0][0].weight_ih
        assert_equal(flat(other(case.x(), case.state())), flat(net(case.x(), case.state())), 0.0)

    def test_threads_share_it(self) -> None:
        case = Case(time=50)
        net = case.lstm()
        expected = flat(net(case.x(), case.state()))
        with ThreadPoolExecutor(4) as pool:
            for result in pool.map(lambda _: flat(net(case.x(), case.state())), range(32)):
                assert_equal(result, expected, 0.0)


def test_engines_are_told_and_asked() -> None:
    assert lx.available_engines()[0] == "standard"
    case = Case()
    choice = lx.select_engine(case.x(), case.weights())
    assert choice[:2] == ("numpy", "the engine for numpy")
    assert choice.rejected["jax"] == "it is for arrays of jax.numpy, not of numpy"
    assert choice.rejected["standard"] == "numpy was taken: the engine for numpy"


@pytest.mark.needs("jax")
def test_jax_arrays_get_the_jax_engine() -> None:
    from jax import numpy as jnp

    case = Case(dtype="float32")
    arrays = map_arrays(jnp.asarray, (case.x(), case.weights()))
    assert {"standard", "numpy", "jax"} <= set(lx.available_engines())
    assert lx.select_engine(*arrays)[:2] == ("jax", "the engine for jax.numpy")
    assert lx.select_engine(*arrays, engine="standard").rejected["jax"].startswith("standard was taken")
    results = [map_arrays(np.asarray, lx.lstm(*arrays, engine=engine)) for engine in ("jax", "standard")]
    assert_equal(flat(results[0]), flat(results[1]), 1e-6)
