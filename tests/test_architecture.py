"""The table: sizes and receptive fields against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_np import Architecture, InputError, UNet
from unet_np.network.architecture import NORMS, UPS, with_norm
from unet_np.network.tables import summary

ARCHITECTURES = st.builds(
    Architecture,
    in_channels=st.integers(1, 4),
    num_classes=st.integers(2, 5),
    base_channels=st.integers(1, 64),
    depth=st.integers(1, 5),
    padding=st.integers(0, 1),
    up=st.sampled_from(UPS),
    norm=st.sampled_from(sorted(NORMS)),
)


def walk(architecture: Architecture, size: int) -> int | None:
    """Output size by walking through the layers; None where it breaks."""
    for layer in architecture.layers:
        if layer.kind == "pool" and size % 2:
            return None
        if layer.kind == "instance_norm" and size < 2:  # one pixel has no variance
            return None
        size = layer.output_size(size)
        if size < 1:
            return None
    return size


@given(ARCHITECTURES)
def test_valid_sizes_are_those_that_pass_through(architecture: Architecture) -> None:
    for size in range(1, architecture.min_input_size + 3 * architecture.size_step):
        output = walk(architecture, size)
        assert architecture.is_valid_input(size) == (output is not None)
        if output is not None:
            assert architecture.output_size(size) == output == size - architecture.margin


@given(ARCHITECTURES, st.integers(1, 3000))
def test_nearest_sizes_are_the_nearest(architecture: Architecture, size: int) -> None:
    near = architecture.nearest_input_sizes(size)
    assert all(architecture.is_valid_input(n) for n in near)
    if architecture.is_valid_input(size):
        assert near == (size,)
    elif size < architecture.min_input_size:
        assert near == (architecture.min_input_size,)
    else:
        below, above = near
        assert below < size < above == below + architecture.size_step


@given(ARCHITECTURES, st.integers(1, 1000))
def test_input_size_for_output_is_the_smallest(architecture: Architecture, wanted: int) -> None:
    size = architecture.input_size_for_output(wanted)
    assert architecture.output_size(size) >= wanted
    smaller = size - architecture.size_step
    assert smaller < architecture.min_input_size or architecture.output_size(smaller) < wanted


def test_the_paper_s_sizes() -> None:
    paper = Architecture()
    sizes = [n for n in range(1, 700) if paper.is_valid_input(n)]
    assert sizes == [16 * k + 60 for k in range(8, 40)]
    assert [paper.output_size(n) for n in sizes] == [16 * k - 124 for k in range(8, 40)]


@settings(max_examples=8)
@given(st.integers(1, 3), st.integers(0, 1), st.sampled_from(UPS), st.data())
def test_receptive_field_is_where_the_gradient_goes(
    depth: int, padding: int, up: str, data: st.DataObject
) -> None:
    """With all weights 1 nothing cancels: the gradient of one output pixel shows its field."""
    with pytest.MonkeyPatch.context() as patch:
        # Winograd's sums leave a rounding where a product is 0.
        patch.setattr("unet_np.ops.conv.choose", lambda *_, **__: "im2col")
        reached, field = _reached(depth, padding, up, data)
    rows = np.flatnonzero(reached)
    assert rows[0] == max(field[0], 0)
    assert rows[-1] == min(field[1], len(reached) - 1)


def _reached(
    depth: int, padding: int, up: str, data: st.DataObject
) -> tuple[np.ndarray, tuple[int, int]]:
    """Rows of the input that one drawn row of the output asks about, and those it should."""
    net = UNet(1, 2, 1, depth, padding, dropout=0, dtype="float64", backend="numpy", up=up)
    net.set_params({name: np.ones_like(array) for name, array in net.params.items()})
    size = net.architecture.min_input_size + 4 * net.architecture.size_step
    # Increasing to the bottom right, so that no window of a max pool chooses its first pixel;
    # the field is then what can be chosen: rows differ, so the union of four orders is taken.
    ramp = np.arange(size * size, dtype=float).reshape(size, size) / size**2
    pixel = data.draw(st.integers(0, net.architecture.output_size(size) - 1))
    reached = np.zeros(size, bool)
    for image in (ramp, ramp[::-1], ramp[:, ::-1], ramp[::-1, ::-1]):
        logits = net.forward(np.ascontiguousarray(image)[None, None], keep=True)
        grad = np.zeros_like(logits)
        grad[0, 0, pixel, logits.shape[3] // 2] = 1
        reached |= net.backward(grad)[0, 0].any(axis=1)
    return reached, net.architecture.receptive_field(pixel)


def test_the_table_in_the_paper_s_words() -> None:
    rows = [layer.words for layer in Architecture().layers]
    assert rows.count("conv 3x3") == 18
    assert rows.count("max pool 2x2") == rows.count("up-conv 2x2") == 4
    assert rows.count("conv 1x1") == 1
    assert rows.count("ReLU") == 18
    assert rows.count("dropout") == 2
    assert rows[-1] == "conv 1x1"
    assert "crop and concat contract4" in rows


def test_channels_of_the_levels() -> None:
    assert [Architecture().channels(level) for level in range(1, 6)] == [64, 128, 256, 512, 1024]


def test_summary_refuses_what_the_network_refuses() -> None:
    with pytest.raises(InputError, match=r"^input height: got 512"):
        summary(Architecture(), (1, 1, 512, 512))


@pytest.mark.parametrize("value", [0, -3, 1.5, True, "4", None])
def test_bad_values(value: object) -> None:
    with pytest.raises(InputError, match=r"^base_channels: got .*, expected an integer >= 1$"):
        Architecture(base_channels=value)


@given(st.integers(1, 5), st.integers(0, 1))
def test_a_classifier_takes_what_leaves_a_pixel(depth: int, padding: int) -> None:
    net = Architecture(depth=depth, padding=padding, output="vector")
    for size in range(1, net.min_input_size + 40):
        current = size
        for layer in net.layers:
            if layer.kind == "global_pool":
                break
            current = layer.output_size(current)
            if current < 1:
                break
        assert net.is_valid_input(size) == (current >= 1)
    assert net.shapes((2, 1, 300, 301))[-1][1] == (2, 2)
    assert net.output_size(301) == 1
    with pytest.raises(InputError, match=r"^output: got vector, expected a network whose output"):
        net.receptive_field()


@pytest.mark.parametrize(
    ("arguments", "rows"),
    [
        ({"up": "nearest"}, ["up-sample 2x2 nearest", "conv 3x3", "crop and concat contract1"]),
        ({"up": "bilinear"}, ["up-sample 2x2 bilinear", "conv 3x3", "crop and concat contract1"]),
        ({"norm": "batch"}, ["conv 3x3", "batch norm", "ReLU", "conv 3x3"]),
        ({"norm": "instance"}, ["conv 3x3", "instance norm", "ReLU", "conv 3x3"]),
        ({"output": "vector"}, ["dropout", "global average pool", "linear"]),
    ],
)
def test_options_in_the_table(arguments: dict[str, object], rows: list[str]) -> None:
    table = [layer.words for layer in Architecture(depth=1, **arguments).layers]
    assert any(table[i : i + len(rows)] == rows for i in range(len(table)))


@pytest.mark.parametrize("norm", ["batch", "instance"])
def test_summary_counts_what_a_normalisation_brings(norm: str) -> None:
    """The table's numbers are those of the arrays; a classifier ends in (B, classes)."""
    net = UNet(base_channels=2, depth=1, norm=norm, backend="numpy")
    text = net.summary((1, 1, 28, 28))
    assert f"{sum(array.size for array in net.params.values()):,} parameters" in text
    row = next(line for line in text.splitlines() if f"contract1.{norm[0]}n1 " in line)
    words = f"contract1.{norm[0]}n1 {norm} norm 1 x 2 x 26 x 26 4"
    assert row.split() == words.split()
    last = summary(Architecture(output="vector")).splitlines()[-2]
    assert last.split() == ["output", "linear", "1", "x", "2", "2,050"]


def test_an_old_flag_becomes_the_norm() -> None:
    old = {"depth": 2, "batch_norm": True}
    assert Architecture(**with_norm(old)) == Architecture(depth=2, norm="batch")
    assert Architecture(**with_norm({"batch_norm": False})) == Architecture()
    assert old == {"depth": 2, "batch_norm": True}


def test_the_paper_s_table_has_no_trace_of_the_options() -> None:
    kinds = {layer.kind for layer in Architecture().layers}
    assert kinds == {"conv", "relu", "pool", "upconv", "crop_concat", "dropout"}
