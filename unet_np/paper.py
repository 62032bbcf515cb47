"""What the paper claims: its Tables 1 and 2, typed once, for every place that compares with them.

Ronneberger, Fischer and Brox, U-Net: Convolutional Networks for Biomedical Image Segmentation,
MICCAI 2015, LNCS 9351, pp. 234-241; both tables stand in section 4, Experiments.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EMResult:
    """A row of Table 1: the EM segmentation challenge on 6 March 2015. Lower is better.

    Attributes
    ----------
    rank : int or None
        Place by warping error; None for the human observers.
    name : str
        The group.
    warping, rand, pixel : float
        The three errors.
    """

    rank: int | None
    name: str
    warping: float
    rand: float
    pixel: float


@dataclass(frozen=True)
class CellResult:
    """A row of Table 2: the ISBI cell tracking challenge 2015. Higher is better.

    Attributes
    ----------
    name : str
        The group and the year.
    u373, hela : float or None
        Mean intersection over union on PhC-U373 and DIC-HeLa; None where there is no result.
    """

    name: str
    u373: float | None
    hela: float | None


TABLE_1 = (
    EMResult(None, "human values", 0.000005, 0.0021, 0.0010),
    EMResult(1, "u-net", 0.000353, 0.0382, 0.0611),
    EMResult(2, "DIVE-SCI", 0.000355, 0.0305, 0.0584),
    EMResult(3, "IDSIA", 0.000420, 0.0504, 0.0613),
    EMResult(4, "DIVE", 0.000430, 0.0545, 0.0582),
    EMResult(10, "IDSIA-SCI", 0.000653, 0.0189, 0.1027),
)
"""Table 1; the paper leaves out the ranks 5 to 9."""

TABLE_2 = (
    CellResult("IMCB-SG (2014)", 0.2669, 0.2935),
    CellResult("KTH-SE (2014)", 0.7953, 0.4607),
    CellResult("HOUS-US (2014)", 0.5323, None),
    CellResult("second-best 2015", 0.83, 0.46),
    CellResult("u-net (2015)", 0.9203, 0.7756),
)
"""Table 2."""
