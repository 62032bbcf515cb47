"""Leaving for the BioImage Model Zoo: packages that its library accepts, and what it computes."""

from __future__ import annotations

import io
import re
import zipfile

import numpy as np
import pytest
import yaml

from unet_np import UNet, pretrained
from unet_np.cli import main
from unet_np.data.synthetic import synthetic_em
from unet_np.export import About, save_bioimageio
from unet_np.export.bioimageio import tile_rule
from unet_np.export.bioimageio_text import FORMAT
from unet_np.images import read_image, write_png
from unet_np.network.architecture import Architecture
from unet_np.tasks.segmentation import segment

pytest.importorskip("onnxruntime")
pytest.importorskip("torch")
# What the zoo's library and those that it uses warn of is theirs.
pytestmark = pytest.mark.filterwarnings("ignore")

FORMATS = ("onnx", "pytorch_state_dict", "torchscript")
ABOUT = About("A test", "It is tried.", ["A. Name"], "CC-BY-4.0")
NETWORKS = [
    {},
    {"norm": "instance"},
    {"norm": "batch", "padding": 1, "up": "bilinear"},
    {"in_channels": 3, "num_classes": 4, "up": "nearest"},
]


@pytest.fixture
def core(tmp_path, monkeypatch):
    """The zoo's own library, offline, and with a cache of its own."""
    monkeypatch.setenv("BIOIMAGEIO_CACHE_PATH", str(tmp_path / "cache"))
    return pytest.importorskip("bioimageio.core", reason="bioimageio.core tests the packages")


def network(depth=2, **options):
    net = UNet(base_channels=3, depth=depth, backend="numpy", seed=3, **options)
    rng = np.random.default_rng(1)
    net.set_params(
        {name: a + 0.05 * rng.standard_normal(a.shape) for name, a in net.params.items()}
    )
    return net


def image_for(net, side=150):
    channels = net.architecture.in_channels
    image = np.stack([synthetic_em(side, index=i)[0] for i in range(channels)], -1)
    return image[..., 0] if channels == 1 else image


def planes(image):
    return image[None] if image.ndim == 2 else np.moveaxis(image, -1, 0)


def predicted(core, path, image, weights, blocks=None):
    """Probabilities (K, H, W) by the zoo's library."""
    from bioimageio.core.digest_spec import create_sample_for_model

    model = core.load_model_description(path)
    pipeline = core.create_prediction_pipeline(model, weight_format=weights)
    ready = planes(image)[None].astype(np.float32)
    with pipeline:
        sample = create_sample_for_model(model, inputs={"image": ready})
        if blocks is None:
            found = pipeline.predict_sample_without_blocking(
                sample, skip_input_padding=True, skip_output_cropping=True
            )
        else:
            found = pipeline.predict_sample_with_blocking(sample, ns=blocks)
    return np.asarray(found.members["probabilities"].data)[0]


@pytest.mark.slow
@pytest.mark.parametrize("options", NETWORKS, ids=str)
def test_the_zoos_own_test_passes_for_all_weights(core, tmp_path, options):
    net, path = network(**options), tmp_path / "a.zip"
    assert save_bioimageio(net, path, ABOUT, planes(image_for(net))) < 1e-4
    summary = core.test_model(path)
    assert summary.status == "passed", summary.format()
    named = {detail.loc[1] for detail in summary.details if detail.loc[:1] == ("weights",)}
    assert named == set(FORMATS)


@pytest.mark.parametrize("options", [{}, {"norm": "instance"}], ids=str)
def test_a_whole_image_gives_what_segment_gives(core, tmp_path, options):
    net, path = network(**options), tmp_path / "a.zip"
    save_bioimageio(net, path, ABOUT, planes(image_for(net)))
    image = synthetic_em((144, 200), index=7)[0]
    expected = segment(net, image).probabilities
    for weights in FORMATS:
        np.testing.assert_allclose(predicted(core, path, image, weights), expected, atol=1e-4)


def test_tiles_without_their_halo_are_the_whole_image(core, tmp_path):
    net, path = network(), tmp_path / "a.zip"
    save_bioimageio(net, path, ABOUT, planes(image_for(net)))
    image = synthetic_em((200, 260), index=7)[0]
    found = predicted(core, path, image, "onnx", blocks=10)
    # What stands beyond the image is the reader's choice; the zoo's repeats the outermost row.
    halo = tile_rule(net.architecture)["halo"]
    inside = (slice(None), slice(halo, -halo), slice(halo, -halo))
    expected = segment(net, image).probabilities
    np.testing.assert_allclose(found[inside], expected[inside], atol=1e-4)


def test_with_instance_normalisation_the_answer_depends_on_the_whole_image(core, tmp_path):
    net, path = network(norm="instance"), tmp_path / "a.zip"
    save_bioimageio(net, path, ABOUT, planes(image_for(net)))
    image = synthetic_em((160, 320), index=7)[0]
    image[:, 200:] //= 3
    whole = segment(net, image).probabilities
    half = predicted(core, path, image[:, :160], "onnx")
    # Far from where it was cut, and not by rounding.
    assert np.abs(half - whole[:, :, :160])[:, :, :60].max() > 0.01
    with zipfile.ZipFile(path) as archive:
        described = yaml.safe_load(archive.read("rdf.yaml"))
        text = archive.read("README.md").decode()
    assert "depends on the **whole\n  image**" in text
    sides = described["inputs"][0]["axes"][2:] + described["outputs"][0]["axes"][2:]
    assert not any(axis.get("concatenable") or "halo" in axis for axis in sides)


@pytest.mark.parametrize("name", pretrained.available())
def test_networks_that_come_along(core, tmp_path, name):
    path = tmp_path / f"{name}.zip"
    assert main(["export", "--model", name, "--bioimageio", str(path), "-q"]) == 0
    model = core.load_model_description(path)
    assert model.validation_summary.status == "valid-format"
    assert str(model.license) == "MIT"
    assert len(model.cite) == 3
    with zipfile.ZipFile(path) as archive:
        image, expected = (
            np.load(io.BytesIO(archive.read(f"test-{which}.npy"))) for which in ("input", "output")
        )
        assert f"Model card: {name}" in archive.read("README.md").decode()
    np.testing.assert_allclose(
        segment(pretrained.load(name, backend="numpy"), image[0, 0]).probabilities,
        expected[0],
        atol=1e-5,
    )
    for weights in FORMATS:
        found = predicted(core, path, image[0, 0], weights)
        np.testing.assert_allclose(found, expected[0], atol=1e-4)


@pytest.mark.slow
def test_a_run_of_ones_own(core, tmp_path, capsys, monkeypatch):
    """Train, segment, leave: ONNX Runtime alone finds what segment wrote."""
    import onnxruntime

    monkeypatch.chdir(tmp_path)
    for index in range(3):
        image, labels, _ = synthetic_em(160, index=index)
        for folder, array in (("images", image), ("masks", labels * 255)):
            (tmp_path / folder).mkdir(exist_ok=True)
            write_png(tmp_path / folder / f"{index}.png", array)
    train = ["train", "--images", "images", "--masks", "masks", "--out", "runs/mine"]
    small = ["--base-channels", "2", "--depth", "2", "--steps", "3", "--input-size", "92"]
    assert main([*train, *small, "--quiet"]) == 0
    command = ["export", "--weights", "runs/mine", "--bioimageio", "mine.zip"]
    words = ["--license", "cc-by-4.0", "--author", "A. Name", "--sample", "images/0.png"]
    assert main([*command, *words]) == 0
    assert "largest difference to ONNX Runtime and TorchScript: " in capsys.readouterr().out
    model = core.load_model_description("mine.zip")
    assert (model.name, str(model.license)) == ("U-Net mine", "CC-BY-4.0")
    assert core.test_model(model, weight_format="onnx").status == "passed"

    assert main(["segment", "images/1.png", "--weights", "runs/mine", "-o", "out.tif"]) == 0
    image = read_image("images/1.png").astype(np.float64)
    ready = ((image - image.mean()) / image.std()).astype(np.float32)
    with zipfile.ZipFile("mine.zip") as archive:
        session = onnxruntime.InferenceSession(
            archive.read("weights.onnx"), providers=["CPUExecutionProvider"]
        )
    (found,) = session.run(None, {"image": ready[None, None]})
    np.testing.assert_allclose(found[0, 1], read_image("out.tif"), atol=1e-4)


def test_the_description_is_one_that_older_readers_know(core, tmp_path):
    """As ilastik 1.4.2 (bioimageio.spec 0.5.7), deepImageJ and QuPath read it."""
    save_bioimageio(network(), tmp_path / "a.zip", ABOUT, planes(image_for(network())))
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        described = yaml.safe_load(archive.read("rdf.yaml"))
    assert described["format_version"] == FORMAT == "0.5.4"
    assert (described["covers"], described["documentation"]) == (["cover.png"], "README.md")
    assert described["config"]["bioimageio"]["nickname"] == ABOUT.name
    assert not {"pad"} & set(described["inputs"][0])
    summary = core.load_model_description(tmp_path / "a.zip").validation_summary
    assert summary.status == "valid-format"


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({}, {"min": 208, "step": 16, "halo": 96}),
        ({"depth": 1}, {"min": 18, "step": 2, "halo": 8}),
        ({"padding": 1}, {"min": 240, "step": 16, "halo": 112}),
        ({"norm": "instance"}, {"min": 108, "step": 1, "halo": 0}),
        ({"norm": "instance", "padding": 1}, {"min": 32, "step": 1, "halo": 0}),
    ],
    ids=str,
)
def test_tile_rule(options, rule):
    assert tile_rule(Architecture(**options)) == rule


# Bad input


@pytest.fixture
def run_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    network().save(tmp_path / "run" / "weights.safetensors")
    network(task="detect", output="map", num_classes=3).save(tmp_path / "d" / "weights.safetensors")
    write_png(tmp_path / "small.png", np.zeros((40, 90), np.uint8))
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as archive:
        archive.writestr("diary.txt", "dear diary")
    return tmp_path


GOOD = ["--license", "MIT", "--author", "A"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["a.zip", "--author", "A"], "--license: got none with --bioimageio, expected an ident"),
        (["a.zip", "--license", "MIT"], "--author: got none with --bioimageio, expected a name"),
        (["a.zip", "--license", "CC BY 4", "--author", "A"], "--license: got 'CC BY 4', expected"),
        (["a.zip", "--license", "MIT OR ISC", "--author", "A"], "--license: got 'MIT OR ISC', ex"),
        (["a.zip", "--license", "MIT", "--author", "a/b"], "--author: got 'a/b', expected a name"),
        (["a.rdf", *GOOD], "--bioimageio: got a.rdf, expected a name that ends in .zip"),
        (["mine.zip", *GOOD], "--bioimageio: got mine.zip, not written by unet-np, expected"),
        (["no/a.zip", *GOOD, "--sample", "small.png"], "--sample: got 40 x 90 pixels, expected "),
        (["a.zip", *GOOD, "--sample", "none.png"], "image: none.png does not exist, expected "),
        (["a.zip", *GOOD, "--weights", "d"], "weights: got a network that was made to detect, "),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(run_folder, capsys, flags, message):
    before = {path: path.read_bytes() for path in run_folder.rglob("*") if path.is_file()}
    assert main(["export", "--weights", "run", "--bioimageio", *flags]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"unet-np export: error: {message}")
    assert error.count("\n") == 1
    assert {path: path.read_bytes() for path in run_folder.rglob("*") if path.is_file()} == before
    assert not (run_folder / "no").exists()


@pytest.mark.parametrize("flag", ["--license", "--author", "--sample"])
def test_words_without_a_package(run_folder, capsys, flag):
    assert main(["export", "--weights", "run", "--onnx", "a.onnx", flag, "x"]) == 2
    assert f"{flag}: got x without --bioimageio, expected both" in capsys.readouterr().err


def test_ours_is_replaced_and_that_of_others_only_if_asked(run_folder, capsys):
    command = ["export", "--weights", "run", "-q", *GOOD, "--bioimageio"]
    assert main([*command, "a.zip"]) == 0
    assert main([*command, "a.zip"]) == 0
    assert main([*command, "mine.zip", "--overwrite"]) == 0
    assert capsys.readouterr().err == ""


def test_what_differs_is_not_written(tmp_path, monkeypatch):
    from unet_np.network.kinds import batch_norm

    monkeypatch.setattr(batch_norm, "EPSILON", 0.5)
    net = network(norm="batch")
    with pytest.raises(RuntimeError, match=r"the exported weights differ from the network by \d"):
        save_bioimageio(net, tmp_path / "a.zip", ABOUT, planes(image_for(net)))
    assert not list(tmp_path.iterdir())


def test_no_image_of_the_user_goes_along_unasked(run_folder):
    assert main(["export", "--weights", "run", "-q", *GOOD, "--bioimageio", "a.zip"]) == 0
    with zipfile.ZipFile("a.zip") as archive:
        image = np.load(io.BytesIO(archive.read("test-input.npy")))[0, 0]
        text = archive.read("rdf.yaml").decode() + archive.read("README.md").decode()
    made = synthetic_em(256)[0]
    assert (image == made[tuple(slice((256 - n) // 2, (256 + n) // 2) for n in image.shape)]).all()
    assert not re.search(re.escape(str(run_folder)), text)
