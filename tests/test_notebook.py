"""The helpers of the book's notebooks."""

from __future__ import annotations

import pytest

from unet_np.errors import InputError
from unet_np.network.architecture import Architecture
from unet_np.network.layer import Layer
from unet_np.notebook import Table, check, is_right, source


def test_table_escapes_and_aligns() -> None:
    table = Table(["a<b", "n"], [["x & y", 1234567], ["z", 5]])
    page = table._repr_html_()
    assert "a&lt;b" in page
    assert "x &amp; y" in page
    assert '<td style="text-align:right;white-space:nowrap">1,234,567</td>' in page
    assert 'tabindex="0"' in page
    assert repr(table).splitlines()[2] == "x & y  1,234,567"


def test_numbers_as_text_stand_on_the_right() -> None:
    table = Table(["a", "b", "c"], [["1.5 %", True, "0.10"], ["30 %", False, None]])
    assert table.numeric == [True, False, True]
    assert repr(table).splitlines()[2] == "1.5 %  True   0.10"


@pytest.mark.parametrize(
    "text",
    ["3e-16", "0e+00", "7e+190", "-1.5e-3", "+0.1984", "inf", "-inf", "1,024", "30 %", "72%", ""],
)
def test_numbers_are_known_by_their_form(text: str) -> None:
    assert Table(["a"], [[text]]).numeric == [True]


@pytest.mark.parametrize(
    "text", ["e-16", "3e", "3e-", "below 1e-12", "1e1e1", "-", "+", ".", "%", "info", "4 of 5"]
)
def test_what_only_resembles_a_number_stands_on_the_left(text: str) -> None:
    assert Table(["a"], [[text]]).numeric == [False]


def test_errors_stand_on_the_right_under_each_other() -> None:
    table = Table(["against", "error"], [["loops", "5e-16"], ["PyTorch", "1.2e-16"]])
    assert [line[-7:] for line in repr(table).splitlines()[2:]] == ["  5e-16", "1.2e-16"]
    assert table._repr_html_().count("text-align:right") == 3


def test_empty_table_shows_its_header() -> None:
    assert repr(Table(["name"], [])) == "name\n----"


def test_table_refuses_a_ragged_row() -> None:
    with pytest.raises(InputError, match="rows: got 1 values in row 1, expected 2"):
        Table(["a", "b"], [[1, 2], [3]])


def test_source_leaves_out_docstrings_only() -> None:
    full, short = (source(Architecture.is_valid_input, docstring=d).text for d in (True, False))
    assert "Examples" in full
    assert "Examples" not in short
    assert short.splitlines()[-1] == full.splitlines()[-1]
    assert source(Architecture.size_step).text.startswith("@property\ndef size_step(self)")
    assert "Fig. 1" not in source(Layer).text


def test_source_is_a_markdown_listing() -> None:
    assert "```python\n" in source(Architecture.channels)._repr_markdown_()
    assert source(Architecture.layers).place == "unet_np/network/architecture.py"


@pytest.mark.parametrize(
    ("answer", "said"), [(..., "No answer yet"), (4, "Right."), (5, "Not yet. Count again.")]
)
def test_check_tells_without_showing(answer: object, said: str, capsys) -> None:
    check(answer, 4, "Count again.")
    assert capsys.readouterr().out.startswith(said)
    assert is_right(answer, lambda a: a == 4) == (answer == 4)
