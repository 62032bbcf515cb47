"""`unet_np.metrics` against the values that the challenges' own programs gave.

The folder of UNET_NP_REFERENCE holds one ``NAME.npz`` per case and ``values.json``. Counts
are compared exactly, ISBI-2012 scores to 1e-9 and the Cell Tracking Challenge's to 1e-12.
"""

import json
import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from unet_np import metrics
from unet_np.metrics import Mismatch

pytestmark = pytest.mark.reference

ISBI_CASES = (
    "o01_identity",
    "o02_interior_eroded_1px",
    "o03_interior_dilated_1px",
    "o04_blur1_noise_nonsquare",
    "o05_blur2_noise_512",
    "o06_blur4_noise_256",
    "o07_gaps_and_spurious_512",
    "o08_gaps_and_spurious_binary_256",
    "o09_image_as_probability_256",
    "o10_neighbour_slice_label_512",
    "o11_stack3_256",
    "o12_saturated_sigmoid_256",
    "t01_hole_added",
    "t02_object_deleted",
    "t03_split",
    "t04_merge",
    "t05_thin_wall_moved_5px",
    "t06_border_touch",
    "t07_diagonal_contact",
    "t08_all_zero_proposal",
    "t09_ring_cut_radius20",
    "t10_multiples_of_0.1",
    "t11_random_24x40",
    "t12_thin_wall_moved_1px",
    "t13_near_zero_probabilities",
)
CTC_CASES = ("ctc_o1_single_frame", "ctc_o2_split_merge", "ctc_o3_partial_annotation")

COUNTS = ("tp", "tn", "fp", "fn")
SCORES = ("precision", "recall", "fscore")
TOLERANCE = 1e-9


def folder():
    """The reference folder, or skip."""
    path = os.environ.get("UNET_NP_REFERENCE", "")
    if not path or not (Path(path) / "values.json").is_file():
        pytest.skip("UNET_NP_REFERENCE: unset or without values.json")
    return Path(path)


@cache
def read_values(path):
    return json.loads((path / "values.json").read_text())


def values():
    return read_values(folder())


@cache
def read_case(path, name):
    with np.load(path / f"{name}.npz") as arrays:
        return {key: arrays[key] for key in arrays.files}


@cache
def pixel_curve(path, name):
    case = read_case(path, name)
    return metrics.pixel_curve(case["label"], case["proposal"])


@cache
def rand_curve(path, name):
    case = read_case(path, name)
    return metrics.rand_curve(case["label"], case["proposal"])


@cache
def standard_curve(path, name):
    case = read_case(path, name)
    return metrics.rand_curve_standard(case["label"], case["proposal"])


@cache
def thinned_curves(path, name):
    case = read_case(path, name)
    return metrics.thinned_curves(case["label"], case["proposal"])


@cache
def warping_curve(path, name):
    case = read_case(path, name)
    return metrics.warping_curve(case["label"], case["proposal"])


def close(got, expected):
    np.testing.assert_allclose(got, expected, rtol=0, atol=TOLERANCE)


def agree(curve, expected, counts=(), scores=()):
    for name in counts:
        got = getattr(curve, name)
        assert got.dtype == np.int64
        assert got.tolist() == expected[name], name
    for name in scores:
        close(getattr(curve, name), expected[name])


def test_every_case_of_the_reference_is_listed_here():
    assert tuple(values()["isbi2012"]) == ISBI_CASES
    assert tuple(values()["ctc_seg"]) == CTC_CASES
    stored = {path.stem for path in folder().glob("*.npz")}
    assert stored == set(ISBI_CASES) | set(CTC_CASES)


@pytest.mark.parametrize("name", ISBI_CASES)
class TestIsbi:
    def expected(self, name):
        return values()["isbi2012"][name]

    def per_threshold(self, name, metric, known):
        """Expected curves of one metric; a value that no test compares is an error."""
        curves = self.expected(name)["per_threshold"]
        assert set(curves) == {
            "pixel",
            "rand",
            "rand_standard",
            "rand_thinned",
            "info",
            "warping",
        }
        assert set(curves[metric]) == set(known)
        return curves[metric]

    def test_thresholds(self, name):
        thresholds = self.expected(name)["thresholds"]
        assert list(metrics.CHALLENGE_THRESHOLDS) == thresholds
        assert list(metrics.WARPING_THRESHOLDS) == thresholds[:10]

    def test_pixel(self, name):
        expected = self.per_threshold(name, "pixel", (*COUNTS, *SCORES, "error"))
        agree(pixel_curve(folder(), name), expected, COUNTS, (*SCORES, "error"))

    def test_rand(self, name):
        scores = (*SCORES, "error_nchoose2", "index_n2")
        expected = self.per_threshold(name, "rand", (*COUNTS, *scores))
        agree(rand_curve(folder(), name), expected, COUNTS, scores)

    def test_rand_standard(self, name):
        scores = (*SCORES, "index")
        expected = self.per_threshold(name, "rand_standard", (*COUNTS, *scores))
        agree(standard_curve(folder(), name), expected, COUNTS, scores)

    def test_rand_thinned(self, name):
        scores = (*SCORES, "fscore_macro", "index_n2")
        expected = self.per_threshold(name, "rand_thinned", (*COUNTS, *scores))
        agree(thinned_curves(folder(), name)[0], expected, COUNTS, scores)

    def test_info(self, name):
        expected = self.per_threshold(name, "info", ("score_thinned", "fscore"))
        close(thinned_curves(folder(), name)[1].fscore, expected["score_thinned"])
        case = read_case(folder(), name)
        close(metrics.info_curve(case["label"], case["proposal"]).fscore, expected["fscore"])

    def test_warping(self, name):
        kinds = [kind.name.lower() for kind in Mismatch]
        known = [f"{of}_{kind}" for of in ("pixels", "clusters") for kind in kinds]
        expected = dict(self.expected(name)["per_threshold"]["warping"])
        whole = {key for key in expected if key.startswith("pixels_wholeimage_")}
        assert set(expected) - whole == {*known, "error_all_types", "mismatches"}
        curve = warping_curve(folder(), name)
        assert curve.mismatches.tolist() == expected["mismatches"]
        close(curve.error_all_types, expected["error_all_types"])
        for kind in Mismatch:
            assert curve.pixels[kind].tolist() == expected[f"pixels_{kind.name.lower()}"]
            assert curve.clusters[kind].tolist() == expected[f"clusters_{kind.name.lower()}"]

    def test_warping_with_the_whole_image_as_window(self, name):
        expected = self.expected(name)["per_threshold"]["warping"]
        whole = {key for key in expected if key.startswith("pixels_wholeimage_")}
        if not whole:
            # Only the small cases have these values.
            assert read_case(folder(), name)["label"].size > 64 * 64
            return
        assert whole == {f"pixels_wholeimage_{kind.name.lower()}" for kind in Mismatch}
        case = read_case(folder(), name)
        curve = metrics.warping_curve(case["label"], case["proposal"], radius=-1)
        for kind in Mismatch:
            key = f"pixels_wholeimage_{kind.name.lower()}"
            assert curve.pixels[kind].tolist() == expected[key], kind

    def test_warped_label_and_classes(self, name):
        case = read_case(folder(), name)
        shape = (-1, *case["label"].shape[-2:])
        keys = ("label", "proposal", "warped_t05", "class_t05")
        for label, proposal, warped, classes in zip(
            *(case[key].reshape(shape) for key in keys), strict=True
        ):
            got = metrics.warping_map(label, proposal, threshold=0.5)
            np.testing.assert_array_equal(got.warped, warped)
            np.testing.assert_array_equal(got.classes, classes)
            np.testing.assert_array_equal(metrics.warp(label, proposal, 0.5), warped)

    def test_headline(self, name):
        path = folder()
        rand, info = thinned_curves(path, name)
        warping = warping_curve(path, name)
        got = {
            "pixel_error": 1 - pixel_curve(path, name).fscore.max(),
            "rand_error": 1 - rand_curve(path, name).fscore.max(),
            "warping_error": warping.error.min(),
            "warping_error_all_types": warping.error_all_types.min(),
            "warping_error_split_merge_clustered": warping.error_clusters.min(),
            "rand_error_standard": 1 - standard_curve(path, name).fscore.max(),
            "vrand_thinned": rand.fscore_macro.max(),
            "vrand_thinned_micro": rand.fscore.max(),
            "vinfo_thinned": info.fscore.max(),
        }
        expected = self.expected(name)["headline"]
        assert set(got) == set(expected)
        for key, value in expected.items():
            close(got[key], value)

    def test_functions_that_give_one_float(self, name):
        case = read_case(folder(), name)
        expected = self.expected(name)["headline"]
        functions = {
            metrics.pixel_error: "pixel_error",
            metrics.rand_error: "rand_error",
            metrics.rand_error_standard: "rand_error_standard",
            metrics.v_rand: "vrand_thinned",
            metrics.v_info: "vinfo_thinned",
        }
        if case["label"].size <= 256 * 256:
            functions[metrics.warping_error] = "warping_error"
        for function, key in functions.items():
            got = function(case["label"], case["proposal"])
            assert type(got) is float
            close(got, expected[key])


@pytest.mark.parametrize("name", CTC_CASES)
def test_ctc(name):
    expected = values()["ctc_seg"][name]
    case = read_case(folder(), name)
    annotated = case["annotated"]
    assert annotated.tolist() == expected["annotated"]
    got = metrics.seg_measure(case["gt"], case["pred"], annotated)
    assert abs(got - expected["SEG"]) <= 1e-12

    matches = metrics.match_objects(case["gt"], case["pred"], annotated)
    rows = expected["objects_frame_label_matched_jaccard"]
    assert [list(match[:3]) for match in matches] == [row[:3] for row in rows]
    np.testing.assert_allclose(
        [match.jaccard for match in matches], [row[3] for row in rows], rtol=0, atol=1e-12
    )
    assert len(matches) == expected["n_reference_objects"]
    assert sum(match.matched > 0 for match in matches) == expected["n_matched"]
