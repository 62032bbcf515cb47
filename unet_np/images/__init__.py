"""Images in and out: PNG, JPEG and TIFF, grey values, and the one normalisation."""

from unet_np.images.image_files import (
    PathLike,
    check_finite,
    normalise,
    pages,
    read_image,
    to_grey,
    write_png,
    write_tiff,
)

__all__ = [
    "PathLike",
    "check_finite",
    "normalise",
    "pages",
    "read_image",
    "to_grey",
    "write_png",
    "write_tiff",
]
