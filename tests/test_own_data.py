"""A user's own images and masks: what is read, and what each mistake is answered with."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from unet_np.cli import main
from unet_np.data.own.masks import read_meaning
from unet_np.data.own.names import pair_labels, pair_names
from unet_np.data.own.pairs import read_pairs
from unet_np.errors import InputError
from unet_np.images import normalise, write_png, write_tiff
from unet_np.training.config import TrainConfig
from unet_np.training.loop import train
from unet_np.training.samples import prepare

SIZE = (40, 48)


def cells(number, size=SIZE):
    """A numbered disc in each of two quarters, and a third that moves."""
    rows, columns = np.indices(size)
    numbered = np.zeros(size, np.uint16)
    centres = [(10, 10), (10, 30), (26, 12 + 3 * number)]
    for i, (row, column) in enumerate(centres, 1):
        numbered[(rows - row) ** 2 + (columns - column) ** 2 < 30] = i
    return numbered


def image(number, size=SIZE):
    noise = np.random.default_rng(number).integers(0, 60, size)
    return (120 * (cells(number, size) > 0) + noise).astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Three images and masks of numbered cells."""
    for number in range(3):
        write_png(tmp_path / "images" / f"c{number}.png", image(number))
        write_png(tmp_path / "masks" / f"c{number}.png", cells(number))
    return tmp_path


def read(folder, **options):
    return read_pairs(folder / "images", folder / "masks", **options)


def refused(folder, **options):
    with pytest.raises(InputError) as caught:
        read(folder, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text.replace(str(folder) + "/", "")


def write_masks(folder, masks):
    for number, mask in enumerate(masks):
        write_png(folder / "masks" / f"c{number}.png", mask)


# Names


def rename(folder, pattern, ending=".png"):
    for number in range(3):
        old = folder / "masks" / f"c{number}.png"
        new = old.with_name(pattern.format(number) + ending)
        if ending == ".png":
            old.rename(new)
        else:
            write_tiff(new, cells(number))
            old.unlink()


@pytest.mark.parametrize(
    ("pattern", "ending"),
    [
        ("c{}_mask", ".png"),
        ("C{}-Labels", ".tif"),
        ("mask_c{}", ".tiff"),
        ("c{}_cp_masks", ".tif"),
        ("c{}_seg_gt", ".png"),
        ("man_seg00{}", ".tif"),
    ],
)
def test_names_may_differ_by_a_word_and_an_ending(folder, pattern, ending):
    rename(folder, pattern, ending)
    data = read(folder)
    assert data.ids == ("c0", "c1", "c2")
    for number in range(3):
        assert np.array_equal(data.images[number], image(number))
        assert np.array_equal(data.instances[number], cells(number))


def test_pairs_do_not_depend_on_the_order_of_names(folder):
    # Sorted, a2 stands before a10 in one list and after it in the other.
    images = [Path(f"a{n}.png") for n in (1, 2, 10)]
    masks = [Path(f"a{n:02}_mask.png") for n in (1, 2, 10)]
    assert {(i.stem, m.stem) for i, m in pair_names(images, masks)} == {
        ("a1", "a01_mask"),
        ("a2", "a02_mask"),
        ("a10", "a10_mask"),
    }


@given(st.permutations(range(6)), st.sampled_from(["{}_mask", "gt-{}", "{}"]))
def test_every_name_finds_its_own(order, pattern):
    names = ["a", "b2", "x_1", "x_2", "scan 7", "scan 70"]
    masks = [Path(pattern.format(names[i]) + ".tif") for i in order]
    pairs = pair_names([Path(f"{name}.png") for name in names], masks)
    assert {(i.stem, m.stem) for i, m in pairs} == {(n, pattern.format(n)) for n in names}


ALIKE = ["dose0.5", "dose0.05", "1", "image1", "img_1", "A", "a", "01", "x_mask", "x", "x_seg_mask"]


@given(st.permutations(ALIKE), st.sampled_from(["{}.png", "{}.tif", "{}_gt.png", "gt-{}.tif"]))
def test_names_that_are_alike_find_their_own(names, pattern):
    """Equal but for one thing, that decides, whatever else the names would mean."""
    # Of a word at each end the last is taken off.
    names = [name for name in names if not (pattern[0] == "g" and name.endswith("_mask"))]
    images, masks = ([Path(p.format(name)) for name in names] for p in ("{}.png", pattern))
    expected = sorted(zip(images, masks, strict=True))
    assert pair_names(images, masks[::-1]) == expected
    assert sorted((a, b) for b, a in pair_labels(masks[::-1], images).pairs) == expected
    assert sorted(pair_labels(images, masks[:3]).pairs) == [
        pair for pair in expected if pair[1] in masks[:3]
    ]


@given(st.sets(st.text("aA01._- ", min_size=1, max_size=5).map(lambda n: f"{n}x"), min_size=2))
def test_equal_names_always_go_together(names):
    paths = [Path(f"{name}.png") for name in names]
    assert pair_names(paths, paths[::-1]) == sorted(zip(paths, paths, strict=True))


def test_alike_files_of_folders_are_trained_on(folder):
    for old, new in (("c0", "dose0.5"), ("c1", "dose0.05"), ("c2", "image0.5")):
        for side in ("images", "masks"):
            next((folder / side).glob(f"{old}.*")).rename(folder / side / f"{new}.png")
    data = read(folder)
    assert data.ids == ("dose0.05", "dose0.5", "image0.5")
    for place, number in enumerate((1, 0, 2)):
        assert np.array_equal(data.images[place], image(number))
        assert np.array_equal(data.instances[place], cells(number))


def test_a_missing_mask_of_alike_names(folder):
    images = [Path("dose0.5.png"), Path("dose0.05.png")]
    with pytest.raises(InputError, match=r"masks: got none for dose0.05.png, expected a name such"):
        pair_names(images, [Path("dose0.5_mask.png")])
    with pytest.raises(InputError, match=r"images: got none for the mask dose0.05_mask.png"):
        pair_names([Path("dose0.5.png")], [Path(f"{path.stem}_mask.png") for path in images])


def test_a_missing_mask_names_the_nearest(folder):
    (folder / "masks" / "c1.png").rename(folder / "masks" / "d1x.png")
    assert refused(folder) == (
        "masks: got none for c1.png, expected a name such as c1_mask.png; nearest is d1x.png"
    )
    (folder / "masks" / "d1x.png").unlink()
    assert refused(folder).endswith(
        "expected a name such as c1_mask.png; nearest are c2.png, c0.png"
    )


def test_a_mask_without_an_image(folder):
    (folder / "images" / "c2.png").unlink()
    text = refused(folder)
    assert text.startswith("images: got none for the mask c2.png, expected as many images as masks")


def test_two_files_for_one_image(folder):
    write_tiff(folder / "masks" / "c1_mask.tif", cells(1))
    assert refused(folder) == (
        "masks: got c1.png and c1_mask.tif, which mean the same image, expected one of the two"
    )


def test_images_and_masks_in_one_folder(folder):
    for path in (folder / "masks").iterdir():
        path.rename(folder / "images" / f"{path.stem}_mask.png")
    data = read_pairs(folder / "images", folder / "images")
    assert data.ids == ("c0", "c1", "c2")
    assert np.array_equal(data.instances[2], cells(2))


def test_one_folder_without_masks(folder):
    with pytest.raises(InputError, match=r"masks: got .*, the folder of the images, expected anot"):
        read_pairs(folder / "images", folder / "images")


def test_hidden_and_other_files_are_left_out(folder):
    for side in ("images", "masks"):
        (folder / side / "._c0.png").write_bytes(b"\0\5\26\7")
        (folder / side / ".DS_Store").write_bytes(b"x")
        (folder / side / "notes.txt").write_text("the third is out of focus")
    assert len(read(folder)) == 3


def test_an_empty_folder_says_what_it_holds(folder):
    for path in (folder / "masks").iterdir():
        path.unlink()
    assert "expected images in it (.png, " in refused(folder)
    assert refused(folder).endswith("it holds nothing")
    np.save(folder / "masks" / "a.npy", cells(0))
    (folder / "masks" / "more").mkdir()
    assert refused(folder).endswith("it holds 1 .npy, 1 folders")


def test_a_folder_that_is_not_there(folder):
    with pytest.raises(InputError, match=r"masks: .*mask does not exist"):
        read_pairs(folder / "images", folder / "mask")


# Sizes


def test_a_mask_of_another_size(folder):
    write_png(folder / "masks" / "c1.png", cells(1, (40, 50)))
    assert refused(folder) == ("masks: got c1 of 40 x 50, expected 40 x 48, the size of image c1")
    write_png(folder / "masks" / "c1.png", np.ascontiguousarray(cells(1).T))
    assert refused(folder).endswith("the size of image c1 (is it turned by 90 degrees?)")


@pytest.fixture
def sizes(folder):
    for number, size in enumerate([(40, 48), (64, 40), (40, 70)]):
        write_png(folder / "images" / f"c{number}.png", image(number, size))
        write_png(folder / "masks" / f"c{number}.png", cells(number, size))
    return folder


def test_images_of_different_sizes(sizes):
    data = read(sizes)
    assert data.images.shape == (3, 64, 70)
    assert data.sizes == ((40, 48), (64, 40), (40, 70))
    assert data.note.startswith("images: 3 of 3 sizes, 40 x 48 to 64 x 40; ")
    assert np.array_equal(data.images[1, :64, :40], image(1, (64, 40)))
    assert data.unknown[1, :, 40:].all()
    assert not data.unknown[1, :64, :40].any()
    assert data.subset([2]).sizes == ((40, 70),)


def test_a_tile_is_that_of_the_image_alone(sizes, tmp_path):
    """What fills the plane beside a smaller image is never seen."""
    config = TrainConfig(base_channels=2, depth=1, input_size=36, validation="0", weight_map=False)
    together = prepare(config, read(sizes), np)
    for number in (1, 2):
        one = [sizes / side / f"c{number}.png" for side in ("images", "masks")]
        alone = prepare(config.replace(validation="none"), read_pairs(*one), np)
        image_, labels, weights = together.training.slice_of(number - 1)
        assert np.array_equal(image_, alone.training.images[0])
        assert np.array_equal(labels, alone.training.labels[0])
        assert np.array_equal(weights, alone.training.weights[0])
    tile = together.validation_tiles()[0]
    assert tile.weights.min() == 1


def test_weight_maps_of_different_sizes_are_those_of_each_alone(sizes):
    config = TrainConfig(base_channels=2, depth=1, input_size=36, validation="none")
    config = config.replace(weight_variant="falk2019")  # the paper's balances over all images
    together = prepare(config, read(sizes), np).training
    for number in range(3):
        one = [sizes / side / f"c{number}.png" for side in ("images", "masks")]
        alone = prepare(config, read_pairs(*one), np).training
        np.testing.assert_allclose(together.slice_of(number)[2], alone.weights[0], rtol=1e-6)


def test_training_on_different_sizes(sizes, tmp_path):
    files = {"images": sizes / "images", "masks": sizes / "masks", "out": tmp_path / "run"}
    config = TrainConfig(
        base_channels=2, depth=1, input_size=36, steps=4, tensorboard=False, **files
    )
    result = train(config, progress=False)
    assert np.isfinite(result.last["validation_loss"])


# Pixels of images


@pytest.mark.parametrize(
    ("write", "change"),
    [
        (write_png, lambda a: a.astype(np.uint16) * 200),
        (write_tiff, lambda a: a.astype(np.uint16) * 16),
        (write_tiff, lambda a: a / np.float32(255)),
    ],
)
def test_bit_depths(folder, write, change):
    ending = ".png" if write is write_png else ".tif"
    expected = normalise(np.stack([image(number) for number in range(3)]))
    for number in range(3):
        (folder / "images" / f"c{number}.png").unlink()
        write((folder / "images" / f"c{number}").with_suffix(ending), change(image(number)))
    data = read(folder)
    np.testing.assert_allclose(normalise(data.images), expected, atol=1e-4)


def test_a_float_image_with_nan_names_the_file(folder):
    (folder / "images" / "c1.png").unlink()
    spoilt = image(1).astype(np.float32)
    spoilt[3, 4] = np.nan
    tifffile.imwrite(folder / "images" / "c1.tif", spoilt)
    assert refused(folder) == (
        "images: images/c1.tif holds 1 NaN or infinite value, the first at (3, 4), expected "
        "finite numbers"
    )


def test_a_damaged_file_is_named(folder):
    whole = (folder / "images" / "c1.png").read_bytes()
    (folder / "images" / "c1.png").write_bytes(whole[: len(whole) // 2])
    assert refused(folder).startswith("images: images/c1.png is truncated or damaged")


def test_stacks_and_a_single_image(folder):
    write_tiff(folder / "stack.tif", np.stack([image(n) for n in range(3)]))
    write_tiff(folder / "labels.tif", np.stack([cells(n) for n in range(3)]))
    expected = read(folder)
    stacks = read_pairs(folder / "stack.tif", folder / "labels.tif")
    mixed = read_pairs(folder / "stack.tif", folder / "masks")
    for data in (stacks, mixed):
        assert np.array_equal(data.images, expected.images)
        assert np.array_equal(data.instances, expected.instances)
    assert stacks.ids == ("stack-0", "stack-1", "stack-2")
    one = read_pairs(folder / "images" / "c0.png", folder / "masks" / "c1.png")
    assert len(one) == 1
    with pytest.raises(InputError, match=r"masks: got 1 in c1.png, expected 3, one for each"):
        read_pairs(folder / "stack.tif", folder / "masks" / "c1.png")


def test_masks_of_a_stack_go_by_their_numbers(tmp_path):
    write_tiff(tmp_path / "stack.tif", np.stack([image(n) for n in range(3)]))
    for number in range(3):
        write_tiff(tmp_path / "masks" / f"t{number + 9}.tif", cells(number))
    found = read_pairs(tmp_path / "stack.tif", tmp_path / "masks")
    assert np.array_equal(found.instances, np.stack([cells(n) for n in range(3)]))


def test_folders_of_stacks(tmp_path):
    for name in "ab":
        pair = [image(n) for n in range(2)], [cells(n) for n in range(2)]
        write_tiff(tmp_path / "images" / f"{name}.tif", np.stack(pair[0]))
        write_tiff(tmp_path / "masks" / f"{name}.tif", np.stack(pair[1]))
    assert read(tmp_path).ids == ("a-0", "a-1", "b-0", "b-1")
    write_tiff(tmp_path / "masks" / "b.tif", np.stack([cells(0)] * 3))
    assert refused(tmp_path) == "masks: got 3 in b.tif, expected 2, one for each image of b.tif"


# Colour


def colour(number):
    stain = np.stack([image(number), image(number + 5) // 2, 255 - image(number)], axis=-1)
    return stain.astype(np.uint8)


def test_images_in_colour_keep_their_channels(folder):
    for number in range(3):
        write_png(folder / "images" / f"c{number}.png", colour(number))
    data = read(folder)
    assert data.images.shape == (3, 3, *SIZE)
    assert np.array_equal(data.images[1], colour(1).transpose(2, 0, 1))
    assert data.note.startswith("images: 3 of 40 x 48 in colour; ")
    assert read(folder, colour="grey").images.shape == (3, *SIZE)
    # One grey image among them: grey, for all that a network reads has the same channels.
    write_png(folder / "images" / "c0.png", image(0))
    assert read(folder).images.shape == (3, *SIZE)
    assert refused(folder, colour="rgb") == (
        "colour: got rgb and the grey image c0, expected images of three channels or --colour grey"
    )
    assert "colour: got 'blue', expected one of auto, grey, rgb" in refused(folder, colour="blue")


def test_grey_stored_in_colour_is_grey(folder):
    for number in range(3):
        write_png(folder / "images" / f"c{number}.png", np.dstack([image(number)] * 3))
    assert np.array_equal(read(folder).images, [image(number) for number in range(3)])


def test_training_and_segmenting_in_colour(folder, tmp_path, capsys):
    for number in range(3):
        write_png(folder / "images" / f"c{number}.png", colour(number))
    flags = "--base-channels 2 --depth 1 --input-size 36 --steps 2 --no-tensorboard -q"
    places = ["--images", str(folder / "images"), "--masks", str(folder / "masks")]
    run, out = str(tmp_path / "run"), str(tmp_path / "out.tif")
    assert main(["train", *places, *flags.split(), "--out", run]) == 0
    one = str(folder / "images" / "c0.png")
    assert main(["segment", one, "--weights", run, "-o", out, "-q"]) == 0
    grey = str(folder / "masks" / "c0.png")
    assert main(["segment", grey, "--weights", run, "-o", out, "-q"]) == 2
    assert "has 1 channel, expected 3" in capsys.readouterr().err


# Values of masks


@pytest.mark.parametrize("high", [1, 2, 200, 255])
def test_two_values_are_a_mask(folder, high):
    write_masks(folder, [(cells(n) > 0) * np.uint8(high) for n in range(3)])
    data = read(folder)
    assert data.instances is None
    assert np.array_equal(data.labels, [cells(n) > 0 for n in range(3)])
    assert data.note.endswith(f"masks: 0 is background, {high} is cell")


def test_masks_of_1_and_of_255_in_one_folder(folder):
    write_masks(folder, [(cells(n) > 0) * np.uint8(255 if n else 1) for n in range(3)])
    assert np.array_equal(read(folder).labels, [cells(n) > 0 for n in range(3)])
    assert read(folder).instances is None


@pytest.mark.parametrize("middle", [127, 128])
def test_0_128_255_are_three_classes(folder, middle):
    values = np.array([0, middle, 255, 255], np.uint8)
    write_masks(folder, [values[cells(n)] for n in range(3)])
    data = read(folder)
    assert data.instances is None
    assert np.array_equal(data.labels, [np.minimum(cells(n), 2) for n in range(3)])
    assert data.note.endswith(f"masks: 3 classes, from the values 0, {middle}, 255")
    cell_or_not = read(folder, mask_values="mask")
    assert np.array_equal(cell_or_not.labels, [cells(n) > 0 for n in range(3)])
    assert cell_or_not.note.endswith("masks: 0 is background, anything else is cell")


def test_a_class_of_many_regions_is_no_cell(folder):
    write_masks(
        folder, [(2 * (cells(n) > 0) - 1 * (cells(n) == 1)).astype(np.uint8) for n in range(2)]
    )
    (folder / "images" / "c2.png").unlink()
    (folder / "masks" / "c2.png").unlink()
    rows = np.indices(SIZE)[0]
    scattered = [
        np.where(rows % 4 == 1, 1 + (rows // 4 + n) % 2, 0).astype(np.uint8) for n in range(2)
    ]
    write_masks(folder, scattered)
    data = read(folder)
    assert data.instances is None
    assert data.labels.max() == 2


def test_classes_of_one_region_each_have_to_be_named():
    organs = [np.repeat([[0, 1, 2, 0]], 3, axis=0)] * 3
    assert read_meaning("abc", organs).instances is not None
    assert read_meaning("abc", organs, "classes").labels[0].max() == 2


def test_whole_images_of_one_class():
    assert [
        m.max() for m in read_meaning("abc", [np.full((2, 2), n) for n in range(3)]).labels
    ] == [
        0,
        1,
        2,
    ]


def test_numbers_of_cells(folder):
    write_png(folder / "masks" / "c0.png", cells(0) * (cells(0) < 3))
    data = read(folder)
    assert np.array_equal(data.instances[2], cells(2))
    assert data.note.endswith("masks: 8 numbered cells, 2.67 on average in a mask")


def test_numbers_above_255(folder):
    many = np.kron(
        np.arange(1, 1 + 300, dtype=np.uint16).reshape(15, 20), np.ones((2, 2), np.uint16)
    )
    mask = np.zeros(SIZE, np.uint16)
    mask[:30, :40] = many
    for number in range(3):
        write_tiff(folder / "masks" / f"c{number}.tif", mask)
        (folder / "masks" / f"c{number}.png").unlink()
    data = read(folder)
    assert data.instances.max() == 300
    assert data.labels.max() == 1


def test_masks_in_colour(folder):
    palette = np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255], [0, 255, 0]], np.uint8)
    write_masks(folder, [palette[np.minimum(cells(n), 2)] for n in range(3)])
    data = read(folder, mask_values="classes")
    # In order of their codes: black, blue, red.
    assert np.array_equal(data.labels, [np.array([0, 2, 1, 1])[cells(n)] for n in range(3)])
    assert data.note.endswith("masks: 3 classes, from the values #000000, #0000ff, #ff0000")
    cells_ = read(folder, mask_values="cells")
    assert np.array_equal(cells_.instances[0] > 0, cells(0) > 0)


def test_a_mask_stored_as_rgb_of_equal_channels_or_with_alpha(folder):
    expected = np.array([cells(n) > 0 for n in range(3)])
    grey = [(mask * 255).astype(np.uint8) for mask in expected]
    write_masks(folder, [np.dstack([mask] * 3) for mask in grey])
    assert np.array_equal(read(folder).labels, expected)
    write_masks(folder, [np.dstack([mask] * 3 + [np.full_like(mask, 255)]) for mask in grey])
    assert np.array_equal(read(folder).labels, expected)


@pytest.mark.parametrize("compression", [None, "group4", "tiff_lzw"])
def test_a_tiff_of_one_bit(folder, compression):
    for number in range(3):
        picture = Image.fromarray((cells(number) > 0).astype(np.uint8) * 255).convert("1")
        (folder / "masks" / f"c{number}.png").unlink()
        picture.save(folder / "masks" / f"c{number}.tif", compression=compression)
    assert np.array_equal(read(folder).labels, [cells(n) > 0 for n in range(3)])


def test_whole_numbers_stored_as_floats(folder):
    for number in range(3):
        (folder / "masks" / f"c{number}.png").unlink()
        write_tiff(folder / "masks" / f"c{number}.tif", cells(number).astype(np.float32))
    assert np.array_equal(read(folder, mask_values="cells").instances, [cells(n) for n in range(3)])
    write_tiff(folder / "masks" / "c1.tif", cells(1) / np.float32(4))
    assert refused(folder) == (
        "masks: got 0.25 in c1, expected whole numbers: 0 for background, and cells or classes; "
        "a map of probabilities is no mask"
    )


def test_negative_numbers(folder):
    (folder / "masks" / "c1.png").unlink()
    tifffile.imwrite(folder / "masks" / "c1.tif", cells(1).astype(np.int16) - 1)
    assert refused(folder) == (
        "masks: got -1 in c1, expected numbers from 0; --ignore -1 leaves these pixels out, "
        "--background -1 takes them for background"
    )


def test_an_empty_mask_among_others_is_an_image_without_cells(folder):
    write_png(folder / "masks" / "c1.png", np.zeros(SIZE, np.uint8))
    data = read(folder)
    assert not data.labels[1].any()
    assert data.labels[0].any()


def test_one_value_only(folder):
    write_masks(folder, [np.zeros(SIZE, np.uint8)] * 3)
    assert refused(folder) == (
        "masks: got only 0 in every mask, expected cells as 1, as 255 or numbered"
    )
    write_masks(folder, [np.full(SIZE, 255, np.uint8)] * 3)
    assert refused(folder) == (
        "masks: got only the value 255 in every mask, expected background as well, usually 0"
    )


@pytest.mark.parametrize("mistake", ["image", "jpeg", "resized"])
def test_grey_values_are_no_mask(folder, mistake):
    for number in range(3):
        mask = (cells(number) > 0).astype(np.uint8) * 255
        path = folder / "masks" / f"c{number}.png"
        if mistake == "image":
            write_png(path, image(number))
        elif mistake == "jpeg":
            path.unlink()
            Image.fromarray(mask).save(path.with_suffix(".jpg"))
        else:
            smooth = ndimage.gaussian_filter(mask.astype(float), 1.5)
            write_png(path, np.round(smooth).astype(np.uint8))
    text = refused(folder)
    pieces = r"masks: got \d+ values in c\d, most in many small pieces, expected 0 and"
    jpeg = r"masks: got \d+ values and the JPEG c0.jpg, which does not keep values as they were"
    assert re.match(jpeg if mistake == "jpeg" else pieces, text)
    assert read(folder, mask_values="mask").labels.max() == 1


def test_an_unknown_reading(folder):
    assert refused(folder, mask_values="ids") == (
        "mask_values: got 'ids', expected one of auto, mask, classes, cells; "
        "nearest valid is 'mask'"
    )
    with pytest.raises(InputError, match="mask_values: got 'ids', expected one of auto"):
        TrainConfig(mask_values="ids")
    with pytest.raises(InputError, match="colour: got 'red', expected one of auto, grey, rgb"):
        TrainConfig(colour="red")
