"""Images in and out: PNG, JPEG and TIFF, grey values, and the one normalisation.

The paper's networks read single-channel images (Fig. 1, "input image tile"). Microscopes
write 8-bit, 16-bit and float files, colour files and stacks; here each becomes an array, or
one line that says why it cannot.
"""

from unet_np.images.bands import BandedImage, open_bands
from unet_np.images.calibration import Calibration
from unet_np.images.grey import check_finite, normalise, to_grey
from unet_np.images.read import ImageFile, PathLike, open_image, read_image
from unet_np.images.write import write_png, write_tiff

__all__ = [
    "BandedImage",
    "Calibration",
    "ImageFile",
    "PathLike",
    "check_finite",
    "normalise",
    "open_bands",
    "open_image",
    "read_image",
    "to_grey",
    "write_png",
    "write_tiff",
]
