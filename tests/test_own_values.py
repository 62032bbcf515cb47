"""Values of a user's masks: what is not known, what nobody drew, and what each class weighs."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage

from unet_np.cli import main
from unet_np.data import Dataset
from unet_np.data.own.masks import read_meaning
from unet_np.data.own.pairs import read_pairs
from unet_np.data.own.smeared import is_smeared
from unet_np.errors import InputError
from unet_np.images import write_png, write_tiff
from unet_np.ops import weighted_cross_entropy
from unet_np.tasks import Classify, Segment
from unet_np.training.config import TrainConfig
from unet_np.training.samples import class_weights, prepare
from unet_np.weighting.eq2 import balancing_weights, weight_map

SIZE = (48, 56)
ROWS, COLUMNS = np.indices(SIZE)


def cells(number):
    """A numbered disc in each of three places."""
    numbered = np.zeros(SIZE, np.uint8)
    for i, (row, column) in enumerate([(12, 12), (14, 40), (36, 14 + 3 * number)], 1):
        numbered[(ROWS - row) ** 2 + (COLUMNS - column) ** 2 < 50] = i
    return numbered


def tissue(number):
    """Classes 0 to 3 in oblique bands, and the pixels of their rims."""
    classes = ((COLUMNS + ROWS // 3 + 5 * number) // 9 % 4).astype(np.uint8)
    rim = ndimage.maximum_filter(classes, 3) != ndimage.minimum_filter(classes, 3)
    return classes, rim


def image(number):
    return np.random.default_rng(number).integers(0, 255, SIZE).astype(np.uint8)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Three images in the current folder."""
    monkeypatch.chdir(tmp_path)
    for number in range(3):
        write_png(tmp_path / "images" / f"c{number}.png", image(number))
    return tmp_path


def masks_of(folder, masks):
    for number, mask in enumerate(masks):
        if mask.dtype.kind == "f":
            write_tiff(folder / "masks" / f"c{number}.tif", mask)
        else:
            write_png(folder / "masks" / f"c{number}.png", mask)


def read(folder, **options):
    return read_pairs(folder / "images", folder / "masks", **options)


def refused(folder, **options):
    with pytest.raises(InputError) as caught:
        read(folder, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# What is not known


@pytest.mark.parametrize("values", [[255], [255, 254], [9]])
def test_ignored_values_are_no_class(folder, values):
    drawn = [tissue(n) for n in range(3)]
    masks_of(
        folder, [np.where(rim, values[n % len(values)], c) for n, (c, rim) in enumerate(drawn)]
    )
    data = read(folder, ignore=values)
    assert np.array_equal(data.unknown, [rim for _, rim in drawn])
    assert np.array_equal(data.labels, [np.where(rim, 0, c) for c, rim in drawn])
    share = 100 * np.mean([rim for _, rim in drawn])
    assert "masks: 4 classes, from the values 0, 1, 2, 3, " in data.note
    assert f"ignored ({share:.3g} % of the pixels)" in data.note


def test_a_rim_that_is_ignored_leaves_a_mask_of_two_values(folder):
    rims = [ndimage.maximum_filter(cells(n), 5) > 0 for n in range(3)]
    masks = [np.where(cells(n) > 0, 1, np.where(rims[n], 255, 0)).astype("u1") for n in range(3)]
    masks_of(folder, masks)
    hint = "3 classes, from the values 0, 1, 255; 255 is a class like the others: if it is none, "
    assert hint + "--ignore 255" in read(folder).note
    data = read(folder, ignore=[255])
    assert data.labels.max() == 1
    assert np.array_equal(data.labels == 1, [cells(n) > 0 for n in range(3)])
    assert np.array_equal(data.unknown, np.array(masks) == 255)


def test_a_number_that_is_ignored_is_no_cell(folder):
    masks_of(folder, [np.where(cells(n) == 2, 65535, cells(n).astype("u2")) for n in range(3)])
    data = read(folder, ignore=[65535], mask_values="cells")
    assert np.array_equal(data.instances > 0, [np.isin(cells(n), (1, 3)) for n in range(3)])
    assert np.array_equal(data.unknown, [cells(n) == 2 for n in range(3)])
    assert "6 numbered cells" in data.note


def test_negative_and_coloured_values_are_ignored(folder):
    (folder / "masks").mkdir()
    for number in range(3):
        negative = np.where(cells(number) == 3, -1, cells(number).astype(np.int16))
        tifffile.imwrite(folder / "masks" / f"c{number}.tif", negative)
    assert "--ignore -1 leaves these pixels out" in refused(folder)
    assert np.array_equal(read(folder, ignore=[-1]).unknown, [cells(n) == 3 for n in range(3)])
    for file in (folder / "masks").iterdir():
        file.unlink()
    palette = np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255], [255, 255, 255]], np.uint8)
    masks_of(folder, [palette[cells(n)] for n in range(3)])
    config = TrainConfig(images="images", masks="masks", ignore="#ffffff", mask_values="classes")
    data = read(folder, ignore=config.ignored_values, mask_values="classes")
    assert np.array_equal(data.unknown, [cells(n) == 3 for n in range(3)])
    assert "the values #000000, #0000ff, #ff0000, #ffffff is ignored" in data.note


def config_of(**changes):
    small = {"base_channels": 2, "depth": 1, "input_size": 36, "steps": 1, "validation": "2"}
    return TrainConfig(**{"images": "images", "masks": "masks", **small, **changes})


def test_what_is_ignored_changes_nothing(folder):
    """Another guess in the ignored pixels gives the same frequencies, weights, energy and score."""
    drawn = [tissue(n) for n in range(3)]
    masks_of(folder, [np.where(rim, 255, c).astype("u1") for c, rim in drawn])
    config = config_of(ignore="255", seed=3)
    data = read(folder, ignore=[255])
    samples = prepare(config, data, np)
    unknown = data.unknown[:2]
    known = data.labels[:2][~unknown]
    expected = [known.size / (4 * (known == c).sum()) for c in range(4)]
    np.testing.assert_allclose(class_weights(config, data), expected)
    assert (samples.training.weights[unknown] == 0).all()
    assert (samples.training.labels[unknown] == -1).all()
    for step in range(6):
        tile = samples.tile(step)
        out = tile.labels == -1
        assert out.any()
        logits = np.random.default_rng(step).normal(size=(1, 4, *tile.labels.shape[1:]))
        guess = 50 * np.random.default_rng(9).normal(size=logits.shape)
        other = np.where(out[:, None], guess, logits)
        loss, grad = samples.task.energy(logits, tile.labels, tile.weights)
        again, grad_again = samples.task.energy(other, tile.labels, tile.weights)
        assert loss == pytest.approx(again)
        assert (grad.transpose(0, 2, 3, 1)[out] == 0).all()
        np.testing.assert_allclose(grad, grad_again)
        # The mean is over the pixels that are known.
        labels, weights = tile.labels[~out], tile.weights[~out]
        alone = logits.transpose(0, 2, 3, 1)[~out].T[None, :, None]
        mean, _ = weighted_cross_entropy(alone, labels[None, None], weights[None, None], "mean")
        assert loss == pytest.approx(mean)
        scores = [samples.task.validate(lambda _, one=one: one, [tile]) for one in (logits, other)]
        assert scores[0] == pytest.approx(scores[1])


def test_validation_leaves_out_what_is_ignored(folder):
    drawn = [tissue(n) for n in range(3)]
    masks_of(folder, [np.where(rim, 255, c).astype("u1") for c, rim in drawn])
    samples = prepare(config_of(ignore="255"), read(folder, ignore=[255]), np)
    tiles = samples.validation_tiles()
    wrong = np.zeros((1, 4, *tiles[0].labels.shape[1:]))
    wrong[:, 0] = 1
    labels = tiles[0].labels
    expected = (labels[labels >= 0] != 0).mean()
    found = samples.task.validate(lambda _: wrong, tiles)
    assert found["validation_pixel_error"] == pytest.approx(expected)


def test_the_middle_of_a_patch_is_known(folder):
    drawn = [tissue(n) for n in range(3)]
    masks_of(folder, [np.where(rim, 255, c).astype("u1") for c, rim in drawn])
    config = config_of(ignore="255", task="classify", input_size=33, batch_size=8)
    samples = prepare(config, read(folder, ignore=[255]), np)
    tile = samples.tile(0)
    weights = samples.task.class_weights
    assert set(np.round(tile.weights, 5)) <= {0, *np.round(np.float32(weights), 5)}
    assert (tile.weights == 0).any()
    logits = np.random.default_rng(1).normal(size=(8, 4))
    known = tile.weights > 0
    both = [
        samples.task.energy(logits[part], tile.labels[part], tile.weights[part])[0]
        for part in (slice(None), known)
    ]
    assert both[0] == pytest.approx(both[1])


def test_ignoring_on_the_command_line(folder, capsys):
    drawn = [tissue(n) for n in range(3)]
    masks_of(folder, [np.where(rim, 250 + n, c).astype("u1") for n, (c, rim) in enumerate(drawn)])
    line = (
        "train --images images --masks masks --base-channels 2 --depth 1 --input-size 36 --steps 1"
    )
    rest = ["--out", "run", "--class-weights", "1", "2", "3", "4"]
    assert main([*line.split(), "--ignore", "250", "251", "252", *rest]) == 0
    assert "4 classes, from the values 0, 1, 2, 3, 250, 251, 252 are ign" in capsys.readouterr().out
    assert main(["train", "--resume", "--out", "run", "--steps", "2", "-q"]) == 0
    assert main([*line.split(), "--ignore", "void", "--out", "other"]) == 2
    assert "ignore: got 'void', expected whole numbers or colours" in capsys.readouterr().err


# What each class weighs


def test_k_classes_are_balanced_as_k(folder):
    masks = [tissue(n)[0] for n in range(3)]
    masks[0][:20] = 3
    masks_of(folder, masks)
    data = read(folder, mask_values="classes")
    weights = Segment.of(data, config_of(w0=0)).truth(data, training=True)[1]
    sums = [float(weights[data.labels == c].sum()) for c in range(4)]
    np.testing.assert_allclose(sums, weights.size / 4, rtol=1e-5)
    given = config_of(w0=0, class_weights="1,2,3,4")
    weights = Segment.of(data, given).truth(data, training=True)[1]
    np.testing.assert_allclose(weights, data.labels + 1.0)
    assert class_weights(given, data) == (1, 2, 3, 4)
    classify = config_of(task="classify", class_weights=[1, 2, 3, 4])
    assert Classify.of(data, classify).class_weights == (1, 2, 3, 4)


def test_the_second_term_is_that_of_cells_with_any_classes():
    labels = np.array([[1, 1, 0, 0, 2, 2]])
    instances = np.array([[1, 1, 0, 0, 2, 2]])
    weights = weight_map(instances, class_weights=(0.5, 1, 2), labels=labels)
    gap = weight_map(instances, class_weights=(0.5, 1))[0, 2:4]
    np.testing.assert_allclose(weights, [[1, 1, *gap, 2, 2]], rtol=1e-6)
    by_default = weight_map(instances, w0=0, labels=labels)
    np.testing.assert_allclose(by_default, np.ones((1, 6)))
    everywhere = weight_map(instances, class_weights=(0.5, 1, 2), labels=labels, term="everywhere")
    second = weight_map(instances, class_weights=(1, 1), term="everywhere") - 1
    np.testing.assert_allclose(everywhere - second, [[1, 1, 0.5, 0.5, 2, 2]], rtol=1e-5)
    with pytest.raises(InputError, match="expected a positive number for each of 3 classes"):
        weight_map(instances, class_weights=(1, 2), labels=labels)


def test_a_class_that_does_not_occur_is_none_of_those_that_are_balanced():
    assert balancing_weights(np.array([0, 0, 0, 2]), cell_or_not=False) == (4 / 6, 1.0, 2.0)
    assert balancing_weights(np.array([1, 1]), cell_or_not=False) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_weights": "1,2"}, "class_weights: got 2, expected 4, one for each class"),
        ({"class_weights": "1,0,2,3"}, "class_weights: got '1,0,2,3', expected a positive number"),
        ({"class_weights": "a"}, "class_weights: got 'a', expected a positive number for each"),
        ({"class_weights": "1,2,3,4", "weight_map": False}, "without the weight map of the paper"),
        ({"class_weights": "1,2,3,4", "task": "detect"}, "got 1,2,3,4, expected none to detect"),
        ({"ignore": "1,1"}, "ignore: got '1 1', expected values, each once"),
        ({"ignore": "0", "background": "0"}, "ignore: got 0, the background, expected others"),
        ({"images": "", "masks": "", "ignore": "255"}, "ignore: got 255 without masks, expected"),
        ({"background": "0,1"}, "background: got 0,1, expected one value, or auto"),
    ],
)
def test_settings_that_do_not_fit(changes, message):
    labels = np.stack([tissue(n)[0] for n in range(3)])
    with pytest.raises(InputError) as caught:
        prepare(config_of(**changes), Dataset("own", np.zeros((3, *SIZE)), labels), np)
    assert message in str(caught.value)


# What nobody drew


def as_jpeg(mask, quality, tmp_path):
    Image.fromarray(mask).save(tmp_path / "one.jpg", quality=quality)
    return np.asarray(Image.open(tmp_path / "one.jpg"))


def resized(mask, size, way):
    return np.asarray(Image.fromarray(mask).resize(size, way))


BLURS = {
    "bilinear": lambda m: resized(resized(m, (28, 24), 0), SIZE[::-1], Image.Resampling.BILINEAR),
    "bicubic": lambda m: resized(resized(m, (28, 24), 0), SIZE[::-1], Image.Resampling.BICUBIC),
    "lanczos": lambda m: resized(resized(m, (84, 72), 0), SIZE[::-1], Image.Resampling.LANCZOS),
    "half a pixel": lambda m: ((m.astype(int) + np.roll(m, 1, 0)) // 2).astype("u1"),
}


@pytest.mark.parametrize("blur", BLURS.values(), ids=BLURS)
@pytest.mark.parametrize("table", [[0, 255, 255, 255], [0, 128, 255, 255], [0, 40, 80, 120]])
def test_interpolated_masks_are_no_classes(folder, blur, table):
    drawn = [np.array(table, np.uint8)[cells(n)] for n in range(3)]
    masks_of(folder, [blur(mask) for mask in drawn])
    assert "most in many small pieces" in refused(folder)
    if table[1] == 255:
        data = read(folder, mask_values="mask")
        assert "masks: cut at half of 0 to 255: what is above is cell" in data.note
        # What was resized to half has lost some of its border.
        assert np.mean(data.labels != np.array(drawn) // 255) < 0.03


@pytest.mark.parametrize("quality", [75, 95, 100])
def test_jpegs_are_no_classes(folder, tmp_path, quality):
    masks = [(cells(n) > 0) * np.uint8(255) for n in range(3)]
    (folder / "masks").mkdir()
    for number, mask in enumerate(masks):
        Image.fromarray(mask).save(folder / "masks" / f"c{number}.jpg", quality=quality)
    assert "and the JPEG c0.jpg, which does not keep values" in refused(folder)
    assert "and the JPEG c0.jpg" in refused(folder, mask_values="classes")
    assert np.array_equal(read(folder, mask_values="mask").labels, np.array(masks) // 255)
    # Nor are they once they are PNG files.
    for file in (folder / "masks").iterdir():
        file.unlink()
    masks_of(folder, [as_jpeg(mask, quality, tmp_path) for mask in masks])
    assert "most in many small pieces" in refused(folder)
    assert np.array_equal(read(folder, mask_values="mask").labels, np.array(masks) // 255)


def test_what_was_drawn_is_what_it_is():
    inside = [ndimage.minimum_filter(cells(n), 3) for n in range(3)]
    borders = [np.where(cells(n) > 0, 1 + (inside[n] > 0), 0) for n in range(3)]
    grid = np.kron(np.arange(1, 25 * 25 + 1).reshape(25, 25), np.ones((2, 2), int))
    drawn = {
        "cells": [cells(n) for n in range(3)],
        "tissue": [tissue(n)[0] for n in range(3)],
        "thin borders": borders,
        "thin grey borders": [np.array([0, 128, 255])[one] for one in borders],
        "small cells": [grid],
        "void": [np.where(tissue(n)[1], 255, tissue(n)[0]) for n in range(3)],
    }
    assert {name: is_smeared(masks) for name, masks in drawn.items()} == dict.fromkeys(drawn, False)


def test_numbers_that_are_nearly_whole(folder):
    masks_of(folder, [(cells(n) * np.float32(0.99999994)).astype("f4") for n in range(3)])
    data = read(folder, mask_values="cells")
    assert np.array_equal(data.instances, [cells(n) for n in range(3)])
    masks_of(folder, [(cells(n) > 0) * np.float32(0.99999994) for n in range(3)])
    assert np.array_equal(read(folder).labels, [cells(n) > 0 for n in range(3)])
    masks_of(folder, [(cells(n) > 0) * np.float32(0.98) for n in range(3)])
    assert "masks: got 0.98 in c0, expected whole numbers" in refused(folder)


# Background


@pytest.mark.parametrize("lines", [False, True])
def test_background_that_is_not_0_is_asked_about(folder, lines):
    masks = [cells(n) + np.uint8(1) for n in range(3)]
    if lines:
        # As a watershed leaves them: 0 is the line between background and cells.
        masks = [m * (ndimage.minimum_filter(m, 3) == ndimage.maximum_filter(m, 3)) for m in masks]
    masks_of(folder, masks)
    text = refused(folder)
    assert ("the value 1 in most pixels" if lines else "no 0 in any mask") in text
    assert "if 1 is background, --background 1, and if it is a cell like the others" in text
    data = read(folder, background=1, ignore=[0] if lines else [])
    assert np.array_equal(data.labels == 1, np.array(masks) > 1)
    assert data.instances.max() == 3
    assert "9 numbered cells, 3 on average" in data.note
    assert read(folder, mask_values="cells").instances.max() == 4


def test_any_value_may_be_the_background(folder):
    masks_of(folder, [(cells(n) == 0) * np.uint8(255) for n in range(3)])
    data = read(folder, background=255)
    assert np.array_equal(data.labels == 1, [cells(n) > 0 for n in range(3)])
    assert data.note.endswith("masks: 255 is background, 0 is cell")
    assert "background: got 3, expected a value of the masks: 0, 255" in refused(
        folder, background=3
    )
    masks = [np.array([2, 0, 1, 1])[cells(n)] for n in range(3)]
    found = read_meaning("abc", masks, "classes", background=2)
    assert np.array_equal(found.labels, np.array([0, 1, 2, 2])[[cells(n) for n in range(3)]])
    assert found.note == "masks: 3 classes, from the values 2, 0, 1"
    negative = read_meaning("abc", [cells(n).astype(int) - 1 for n in range(3)], background=-1)
    assert negative.instances is not None
    assert np.array_equal(negative.instances, [cells(n) for n in range(3)])


# Alpha, and classes of one region each


@pytest.mark.parametrize("grey", [0, 255])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_mask_in_alpha_is_hinted_at(folder, grey, channels):
    for number in range(3):
        alpha = (cells(number) > 0) * np.uint8(255)
        plain = np.full_like(alpha, grey)
        (folder / "masks").mkdir(exist_ok=True)
        picture = np.dstack([plain] * channels + [alpha])
        Image.fromarray(picture).save(folder / "masks" / f"c{number}.png")
    hint = "in c0.png something is drawn in alpha, which is left out: save it as grey"
    assert refused(folder).endswith(hint)


def test_alpha_beside_colours_is_remarked(folder, caplog):
    (folder / "masks").mkdir()
    for number in range(3):
        alpha = (cells(number) > 0) * np.uint8(255)
        picture = np.dstack([np.full_like(alpha, 255), 255 - alpha, 255 - alpha, alpha])
        Image.fromarray(picture).save(folder / "masks" / f"c{number}.png")
    with caplog.at_level(logging.WARNING, "unet_np"):
        data = read(folder)
    assert "masks: #ff0000 is background, #ffffff is cell" in data.note
    assert "is drawn in alpha, which is left out: is it the mask?" in caplog.text


def test_classes_of_one_region_each_are_hinted_at(folder):
    rings = [np.hypot(ROWS - 24 - n, COLUMNS - 28) for n in range(3)]
    hearts = [np.select([r < 8, r < 14, r < 20], [3, 2, 1], 0).astype("u1") for r in rings]
    masks_of(folder, hearts)
    data = read(folder)
    assert data.instances is not None
    hint = "; each mask holds the same numbers: if these are classes of one region each, "
    assert data.note.endswith(hint + "--mask-values classes")
    hearts[1][hearts[1] == 3] = 2
    masks_of(folder, hearts)
    assert "--mask-values classes" not in read(folder).note
