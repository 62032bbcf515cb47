"""The last three tables of `docs/files.md`: which tests hold each of their rows."""

import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TABLE = HERE.parent / "docs" / "files.md"

ROWS = {
    "Two values": ("own_data", "two_values_are_a_mask"),
    "Numbers that are mostly one connected region each": (
        "own_values",
        "classes_of_one_region_each_are_hinted_at",
    ),
    "Others, up to 16": ("own_values", "ignored_values_are_no_class"),
    "Values of which nothing is known": ("own_values", "what_is_ignored_changes_nothing"),
    "Background that is not 0": ("own_values", "background_that_is_not_0_is_asked_about"),
    "Floats": ("own_values", "numbers_that_are_nearly_whole"),
    "Colours": ("own_data", "masks_in_colour"),
    "Masks of two values that were blurred, by a JPEG or by resizing": (
        "evaluate",
        "labels_of_a_jpeg_are_cut_at_half",
    ),
    "Blurred classes and numbers, and JPEG files of more than two values": (
        "own_values",
        "interpolated_masks_are_no_classes",
    ),
    "Something drawn in alpha": ("own_values", "a_mask_in_alpha_is_hinted_at"),
    "`evaluate --classes`": ("evaluate", "class_2_is_class_2"),
    "`x.ome.tif`, `x.ome-labels.tif` and `x.png`": (
        "own_flow",
        "results_of_ome_files_go_with_their_labels",
    ),
    "Results beside their images": ("own_flow", "results_are_not_segmented_again"),
    "Other endings, files without one, links that lead nowhere": (
        "own_flow",
        "what_may_be_an_image_and_is_not_read_is_named",
    ),
    "`-o results_v1.2`": ("own_flow", "a_folder_of_results_may_have_a_dot_in_its_name"),
    "Names that are no UTF-8": ("own_flow", "every_image_is_segmented_whatever_its_name"),
    "A run, or its images, that moved": (
        "own_flow",
        "a_run_goes_on_wherever_it_and_its_images_are",
    ),
    "`-labels.tif`, `-instances.tif`": ("outlines", "results_are_in_colour_and_score_as_before"),
    "`-rois.zip` (`--rois`)": ("outlines", "segment_writes_outlines_of_its_instances"),
    "`-cells.geojson` (`--geojson`)": ("outlines", "features_are_what_qupath_asks_for"),
    "Outlines": ("outlines", "filled_again_outlines_are_the_same_label_image"),
    "OME-Zarr 0.4 (Zarr 2) and 0.5 (Zarr 3)": ("volumes", "axes_and_scales_are_kept"),
    "TIFF, with an output that ends in `.zarr`": ("volumes", "a_stack_of_tiff_is_read_in_parts"),
    "Scales, translations, units, the smaller levels": ("volumes", "axes_and_scales_are_kept"),
    "Zarr without multiscales, other versions, y or x missing, more than the channels that the "
    "network reads": ("volumes", "what_is_no_volume_is_told_in_one_line"),
}


def test_the_tables_have_these_rows_and_no_others():
    text = TABLE.read_text("utf-8").partition("## Values of masks")[2]
    rows = re.findall(r"^\| ([^|]+) \|", text, re.MULTILINE)
    told = [one.strip() for one in rows if set(one) - set("-: ") and one.strip() != "what"]
    assert told == list(ROWS)


@pytest.mark.parametrize(("file", "name"), ROWS.values(), ids=ROWS)
def test_each_row_has_a_test(file, name):
    assert f"\ndef test_{name}(" in (HERE / f"test_{file}.py").read_text("utf-8")
