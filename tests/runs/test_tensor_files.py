"""Tensors and states come back bit for bit, and no other file comes in."""

from __future__ import annotations

import json
import math
import os
import struct

import pytest
import safetensors.torch
import torch
from crash_runs import raised
from hypothesis import given, settings
from hypothesis import strategies as st

from bertft.errors import DataError
from bertft.runs.tensor_files import flatten_state, read_tensors, unflatten_state, write_tensors
from bertft.utils.atomic_io import to_json_text

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32,
          torch.int16, torch.int8, torch.uint8, torch.bool]  # fmt: skip


def same(one, other) -> bool:
    """Equal in type, order and every bit."""
    if isinstance(one, torch.Tensor):
        return (
            type(other) is torch.Tensor
            and one.dtype == other.dtype
            and one.shape == other.shape
            and bits(one) == bits(other)
        )
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return [(type(k), k) for k in one] == [(type(k), k) for k in other] and all(
            same(value, other[key]) for key, value in one.items()
        )
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float):
        return struct.pack("d", one) == struct.pack("d", other) or (one != one and other != other)
    return one == other


def bits(tensor) -> bytes:
    return bytes(tensor.detach().contiguous().reshape(-1).view(torch.uint8).tolist())


def test_every_kind_of_tensor(tmp_path):
    given_ = {str(dtype): torch.arange(6).reshape(2, 3).to(dtype) for dtype in DTYPES}
    given_ |= {
        "nan": torch.tensor([0x7FC00001, 0x7F800000, 0x80000000], dtype=torch.int64)
        .to(torch.int32).view(torch.float32),
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 3),
        "transposed": torch.arange(6.0).reshape(2, 3).T,
        "slice": torch.arange(100.0)[10:13],
        "expanded": torch.ones(1).expand(4),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "": torch.ones(1),
        "酒/店": torch.ones(1),
    }  # fmt: skip
    write_tensors(tmp_path / "a.safetensors", given_)
    back = read_tensors(tmp_path / "a.safetensors")
    assert set(back) == set(given_)
    assert all(same(tensor, back[name]) for name, tensor in given_.items())
    assert os.listdir(tmp_path) == ["a.safetensors"]


def test_shared_storage(tmp_path):
    whole = torch.arange(10.0)
    write_tensors(tmp_path / "a", {"whole": whole, "again": whole, "part": whole[2:5]})
    back = read_tensors(tmp_path / "a")
    assert back["whole"].tolist() == back["again"].tolist() == whole.tolist()
    assert back["part"].tolist() == [2, 3, 4]
    back["whole"][0] = 7
    assert back["again"][0] == 0


def test_equal_content_gives_equal_bytes(tmp_path):
    tensors = {f"{number}": torch.full([3], float(number)) for number in range(20)}
    for name, order in (("a", list(tensors)), ("b", list(tensors)[::-1])):
        write_tensors(tmp_path / name, {key: tensors[key] for key in order})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_others_may_read_it_and_transformers_takes_it(tmp_path):
    (tmp_path / "plain").touch()
    write_tensors(tmp_path / "a", {"a": torch.ones(1)})
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "plain").stat().st_mode
    with safetensors.safe_open(tmp_path / "a", "pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_what_was_read_lives_on_without_the_file(tmp_path):
    path = tmp_path / "a"
    write_tensors(path, {"a": torch.arange(1000)})
    back = read_tensors(path)["a"]
    with path.open("r+b") as file:
        file.truncate(0)
    assert back.sum() == 499500


def test_a_reserved_name(tmp_path):
    with pytest.raises(ValueError, match=r"__metadata__"):
        write_tensors(tmp_path / "a", {"__metadata__": torch.ones(1)})


def header(content, data=b"") -> bytes:
    text = json.dumps(content).encode()
    return len(text).to_bytes(8, "little") + text + data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"abc",
        bytes(100),
        b"PK\x03\x04" * 100,
        (2**60).to_bytes(8, "little") + b"{}",
        (99_000_000).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, bytes(4)),
        header({"a": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 8]}}, bytes(8)),
        header({"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}}, bytes(8)),
        header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}}, bytes(8)),
        header({"a": {"dtype": "X99", "shape": [2], "data_offsets": [0, 8]}}, bytes(8)),
        header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, bytes(9)),
    ],
)
def test_what_is_no_safetensors_file(tmp_path, data):
    path = tmp_path / "state.safetensors"
    path.write_bytes(data)
    with pytest.raises(DataError) as content:
        read_tensors(path)
    assert content.value.where == str(path)
    assert content.value.what.startswith("is not an intact safetensors file (")


@pytest.mark.parametrize("dtype", ["F4", "F6_E2M3", "F8_E8M0", "F8_E4M3", "U64", "C64"])
def test_a_type_that_torch_may_lack(tmp_path, dtype):
    (tmp_path / "a").write_bytes(
        header({"a": {"dtype": dtype, "shape": [8], "data_offsets": [0, 8]}}, bytes(8))
    )
    result = raised(DataError, lambda: read_tensors(tmp_path / "a"))
    if isinstance(result, DataError):
        assert result.where == str(tmp_path / "a")
    else:
        assert set(result) == {"a"}


def test_what_is_no_file(tmp_path):
    with pytest.raises(DataError, match=r"absent: is missing"):
        read_tensors(tmp_path / "absent")
    with pytest.raises(DataError, match="not a regular file"):
        read_tensors(tmp_path)


COUNTS = [200, pytest.param(2_000, marks=pytest.mark.long)]


@pytest.mark.parametrize("count", COUNTS)
def test_any_change_is_answered(tmp_path, count):
    settings(max_examples=count, deadline=None)(given(data=st.data())(any_change))(tmp_path / "a")


def any_change(path, data):
    write_tensors(path, {"a": torch.arange(4.0), "b": torch.ones(2, 2, dtype=torch.bool)})
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    assert isinstance(raised(DataError, lambda: read_tensors(path)), (dict, DataError))


tensors = st.builds(
    lambda dtype, shape, seed: torch.randint(
        0, 2, shape, generator=torch.Generator().manual_seed(seed)
    ).to(dtype),
    st.sampled_from(DTYPES), st.lists(st.integers(0, 3), max_size=3), st.integers(0, 9),
)  # fmt: skip
keys = st.text(max_size=4) | st.sampled_from(["a/b", "a", "~1", "$tensor", "$dict", "0", "1", "/"])
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.sampled_from([2**53 + 1, -(2**63), 2**127 + 1, -0.0, 5e-324, math.inf, -math.inf])
)  # fmt: skip
states = st.dictionaries(
    keys,
    st.recursive(
        scalars | tensors,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.lists(inner, max_size=3).map(tuple)
            | st.dictionaries(keys | st.integers(-2, 2), inner, max_size=3)
        ),
        max_leaves=12,
    ),
    max_size=4,
)


@pytest.mark.parametrize("count", COUNTS)
def test_a_state_comes_back_bit_for_bit(tmp_path, count):
    settings(max_examples=count, deadline=None)(given(state=states)(there_and_back))(
        tmp_path / "state.safetensors"
    )


def there_and_back(path, state):
    flat, structure = flatten_state(state)
    text = to_json_text(structure)
    json.loads(text, parse_constant=pytest.fail)
    assert same(unflatten_state(flat, json.loads(text)), state)
    write_tensors(path, flat)
    assert same(unflatten_state(read_tensors(path), json.loads(text)), state)


def test_how_a_state_looks():
    state = {
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}, "lr": (1e-3, math.nan)},
        "rng/torch": torch.zeros(1),
        "$x": [None, 2**70],
    }
    flat, structure = flatten_state(state)
    assert list(flat) == ["optimizer/state/0/exp_avg", "rng~1torch"]
    assert structure == {
        "$dict": [
            ["optimizer", {
                "state": {"$dict": [[0, {"exp_avg": {"$tensor": "optimizer/state/0/exp_avg"}}]]},
                "lr": {"$tuple": [1e-3, {"$float": "nan"}]},
            }],
            ["rng/torch", {"$tensor": "rng~1torch"}],
            ["$x", [None, 2**70]],
        ]
    }  # fmt: skip


def test_similar_keys_get_names_of_their_own():
    state = {
        "a/b": torch.tensor(1), "a": {"b": torch.tensor(2)}, "a~1b": torch.tensor(3),
        "n": {0: torch.tensor(4), "0": torch.tensor(5)}, "n/0~": torch.tensor(6),
    }  # fmt: skip
    flat, structure = flatten_state(state)
    assert {name: int(tensor) for name, tensor in flat.items()} == {
        "a~1b": 1, "a/b": 2, "a~01b": 3, "n/0": 4, "n/0~": 5, "n~10~0": 6,
    }  # fmt: skip
    assert same(unflatten_state(flat, structure), state)


def test_an_optimizer_continues_where_it_stopped(tmp_path):
    def fresh():
        torch.manual_seed(0)
        layer = torch.nn.Linear(3, 2)
        return layer, torch.optim.AdamW(layer.parameters(), lr=0.1, betas=(0.8, 0.9))

    def steps(layer, optimizer, start, end):
        for step in range(start, end):
            optimizer.zero_grad()
            layer(torch.full([3], step / 3)).square().sum().backward()
            optimizer.step()

    layer, optimizer = fresh()
    steps(layer, optimizer, 0, 3)
    flat, structure = flatten_state(
        {"model": layer.state_dict(), "optimizer": optimizer.state_dict()}
    )
    write_tensors(tmp_path / "a", flat)
    text = to_json_text(structure)
    steps(layer, optimizer, 3, 6)

    other, other_optimizer = fresh()
    state = unflatten_state(read_tensors(tmp_path / "a"), json.loads(text))
    other.load_state_dict(state["model"])
    other_optimizer.load_state_dict(state["optimizer"])
    steps(other, other_optimizer, 3, 6)
    assert same(dict(layer.state_dict()), dict(other.state_dict()))
    assert same(optimizer.state_dict(), other_optimizer.state_dict())


@pytest.mark.parametrize(
    "value", [{"a": {1, 2}}, {"a": b""}, {"a": 1j}, {"a": [object()]}, {"a": {None: 1}}, {1.5: 2}]
)
def test_what_a_state_cannot_hold(value):
    with pytest.raises(TypeError, match=r"is not supported"):
        flatten_state(value)


@pytest.mark.parametrize(
    ("flat", "structure", "message"),
    [
        ({}, {"a": {"$tensor": "a"}}, "has no tensor a"),
        ({"b": torch.ones(1)}, {}, "does not use the tensors b"),
        ({"a": torch.ones(1)}, [{"$tensor": "a"}, {"$tensor": "a"}], "has no tensor a"),
        ({}, {"$float": "1.5"}, "unknown entry"),
        ({}, {"$float": 1}, "unknown entry"),
        ({}, {"$tuple": {}}, "unknown entry"),
        ({}, {"$dict": [["a"]]}, "unknown entry"),
        ({}, {"$dict": [[["a"], 1]]}, "unknown entry"),
        ({}, {"$dict": [], "b": 1}, "unknown entry"),
        ({}, {"b": 1, "$tensor": "a"}, "unknown entry"),
        ({}, {"$pickle": "gASVAA=="}, "unknown entry"),
    ],
)
def test_a_state_that_does_not_fit(flat, structure, message):
    with pytest.raises(DataError, match=message):
        unflatten_state(flat, structure)


def test_a_state_nested_without_end():
    structure: object = 1
    for _ in range(50_000):
        structure = [structure]
    with pytest.raises(DataError, match=r"nested too deeply"):
        unflatten_state({}, structure)
