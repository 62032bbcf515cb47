"""What data sets there are: where they come from, how to cite them, what is in them."""

from __future__ import annotations

from dataclasses import dataclass

from unet_np.errors import InputError


@dataclass(frozen=True)
class Archive:
    """An official archive that holds a whole data set.

    Attributes
    ----------
    url : str
        Its public address.
    sha256 : str
        Its SHA-256, in hexadecimal.
    """

    url: str
    sha256: str


@dataclass(frozen=True)
class Info:
    """Facts on a data set, known without any file of it.

    Attributes
    ----------
    name : str
        What `load` calls it.
    title, description : str
        One line, and what is in it.
    shape : str
        Number and size of the images.
    splits : tuple of str
        The parts that `load` gives; the first one is the default.
    citation, terms : str
        How to cite it and what its use is bound to.
    folder : str or None
        Its folder in the cache; None where it is made and not loaded.
    mirror : str
        The public address of the folder that has the files one by one, or "".
    archive : Archive or None
        The official archive, where there is one.
    source : str
        Where it can be had, for people.
    cell_size : int or None
        Median diameter of an annotated cell in pixels, rounded (cell tracking sets only).
    """

    name: str
    title: str
    description: str
    shape: str
    splits: tuple[str, ...]
    citation: str
    terms: str
    folder: str | None = None
    mirror: str = ""
    archive: Archive | None = None
    source: str = ""
    cell_size: int | None = None


def _github(repository: str, commit: str, folder: str) -> str:
    # A commit, not a branch: what is there never changes.
    return f"https://raw.githubusercontent.com/{repository}/{commit}/{folder}"


_CTC = "https://data.celltrackingchallenge.net/training-datasets/"
_CTC_CITATION = (
    "Ulman et al. 2017, Nature Methods 14:1141 (doi:10.1038/nmeth.4473); "
    "Maska et al. 2023, Nature Methods 20:1010 (doi:10.1038/s41592-023-01879-y)"
)
_CTC_TERMS = "Terms of the Cell Tracking Challenge; data provided by "
_MADE = "Made by this package; nothing to cite."
_MADE_TERMS = "None."

_INFOS = (
    Info(
        name="isbi2012",
        title="ISBI 2012 EM segmentation challenge (the paper's Table 1)",
        description=(
            "Serial section transmission electron microscopy of the ventral nerve cord of a "
            "Drosophila first-instar larva, 4 x 4 x 50 nm. 30 labelled slices (train) and 30 "
            "without labels (test). 0 = membrane, 1 = cell. Neighbouring slices resemble each "
            "other: hold out contiguous blocks."
        ),
        shape="30 + 30 slices of 512 x 512, uint8",
        splits=("train", "test"),
        citation=(
            "Cardona et al. 2010, PLoS Biology 8:e1000502 (doi:10.1371/journal.pbio.1000502); "
            "Arganda-Carreras et al. 2015, Frontiers in Neuroanatomy 9:142 "
            "(doi:10.3389/fnana.2015.00142)"
        ),
        terms="Free for generating or testing non-commercial image segmentation software.",
        folder="isbi2012",
        mirror=_github(
            "zhixuhao/unet", "b45af4d458437d8281cc218a07fd4380818ece4a", "data/membrane/"
        ),
        source="https://imagej.net/events/isbi-2012-segmentation-challenge",
    ),
    Info(
        name="u373",
        title="PhC-C2DH-U373, Cell Tracking Challenge (the paper's Table 2)",
        description=(
            "Phase contrast of glioblastoma-astrocytoma U373 cells. Two sequences of 115 frames; "
            "gold-standard masks for 15 and 19 of them, markers for all. Four annotated frames "
            "of sequence 02 lack a cell or two."
        ),
        shape="115 + 115 frames of 520 x 696, uint8; 15 + 19 annotated",
        splits=("all", "01", "02"),
        citation=_CTC_CITATION,
        terms=_CTC_TERMS + "S. Kumar, University of California, Berkeley.",
        folder="PhC-C2DH-U373",
        mirror=_github(
            "txus/unet", "0a8f525698f420b014f7055f4d90110ff02dcf29", "data/phc-c2dh-u373/"
        ),
        archive=Archive(
            _CTC + "PhC-C2DH-U373.zip",
            "b18185c18fce54e8eeb93e4bbb9b201d757add9409bbf2283b8114185a11bc9e",
        ),
        source="https://celltrackingchallenge.net/2d-datasets/",
        cell_size=65,
    ),
    Info(
        name="hela",
        title="DIC-C2DH-HeLa, Cell Tracking Challenge (the paper's Table 2)",
        description=(
            "Differential interference contrast of HeLa cells on glass. Two sequences of 84 "
            "frames; gold-standard masks for 9 and 9 of them, markers for all. Eight annotated "
            "frames lack cells, frame 067 of sequence 01 most of them."
        ),
        shape="84 + 84 frames of 512 x 512, uint8; 9 + 9 annotated",
        splits=("all", "01", "02"),
        citation=_CTC_CITATION,
        terms=_CTC_TERMS + "G. van Cappellen, Erasmus Medical Center, Rotterdam.",
        folder="DIC-C2DH-HeLa",
        mirror=_github(
            "oyishyi/Cell-Tracking-Challenge-CTC-",
            "fbe15c9cb15585fcf6341ededbfa24b1923f504e",
            "DIC-C2DH-HeLa/",
        ),
        archive=Archive(
            _CTC + "DIC-C2DH-HeLa.zip",
            "832fed2d05bb7488cf9c51a2994b75f8f3f53b3c3098856211f2d39023c34e1a",
        ),
        source="https://celltrackingchallenge.net/2d-datasets/",
        cell_size=117,
    ),
    Info(
        name="dsb2018",
        title="2018 Data Science Bowl, 90 images of fluorescent nuclei",
        description=(
            "Grey fluorescence images of nuclei from the training set of the 2018 Data Science "
            "Bowl with corrected masks: those of 520 x 696 pixels, 9,177 nuclei in all. Many "
            "touch."
        ),
        shape="90 images of 520 x 696, uint8",
        splits=("all",),
        citation="Caicedo et al. 2019, Nature Methods 16:1247 (doi:10.1038/s41592-019-0612-7)",
        terms="CC0 1.0.",
        folder="dsb2018",
        source="https://bbbc.broadinstitute.org/BBBC038",
    ),
    Info(
        name="synthetic-em",
        title="Synthetic electron micrographs",
        description=(
            "Membranes as a noisy tessellation, textured cytoplasm, mitochondria, vesicles and "
            "noise. Needs no files and no network. 0 = membrane, 1 = cell."
        ),
        shape="any number of slices of any size, uint8; 8 of 512 x 512 by default",
        splits=("train", "test"),
        citation=_MADE,
        terms=_MADE_TERMS,
    ),
    Info(
        name="synthetic-cells",
        title="Synthetic light micrographs of touching cells",
        description=(
            "Textured cells that touch, with a few background pixels between them, in "
            "differential interference or phase contrast. Needs no files and no network."
        ),
        shape="any number of images of any size, uint8; 8 of 512 x 512 by default",
        splits=("train", "test"),
        citation=_MADE,
        terms=_MADE_TERMS,
    ),
)

_BY_NAME = {entry.name: entry for entry in _INFOS}

NAMES = tuple(_BY_NAME)
"""The data sets that `load` knows."""


def info(name: str) -> Info:
    """Facts on a data set: description, shape, citation, terms, folder.

    Parameters
    ----------
    name : str
        One of `NAMES`.

    Raises
    ------
    InputError
        If there is no data set of that name.

    Examples
    --------
    >>> info("u373").folder
    'PhC-C2DH-U373'
    >>> info("isbi")
    Traceback (most recent call last):
    ...
    unet_np.errors.InputError: data: got 'isbi', expected one of isbi2012, u373, hela, dsb2018, \
synthetic-em, synthetic-cells; nearest 'isbi2012'
    """
    entry = _BY_NAME.get(name) if isinstance(name, str) else None
    if entry is None:
        import difflib

        near = difflib.get_close_matches(str(name).lower(), NAMES, 1, 0.5)
        hint = f"; nearest {near[0]!r}" if near else ""
        raise InputError(f"data: got {name!r}, expected one of {', '.join(NAMES)}{hint}")
    return entry
