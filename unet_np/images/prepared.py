"""An image on disk as a network reads it: windows of it, normalised when they are asked for."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from unet_np.files.on_disk import Key, Windows
from unet_np.images.grey import Normalisation, to_grey


class Prepared(Windows):
    """What `unet_np.tasks.task.prepare` makes of an array, of an image that is not in memory.

    Parameters
    ----------
    image : Windows
        (H, W) or (H, W, channels), finite.
    channels : int
        What the network reads. With 1, colour becomes grey.
    values : list of Normalisation, optional
        Those of the channels, where they are known.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from unet_np.files.on_disk import new_array
    >>> with new_array(Path(tempfile.mkdtemp(), "a"), (2, 2), np.uint8) as image:
    ...     image[:, 1] = 10
    ...     Prepared(image, 1)[:, :, 1:]
    array([[[1.],
            [1.]]], dtype=float32)
    """

    def __init__(
        self, image: Windows, channels: int, values: list[Normalisation] | None = None
    ) -> None:
        self.image, self.grey = image, channels == 1
        self.shape = (channels, *image.shape[:2])
        self.values = values or [
            Normalisation.of(partial(self._plane, channel), self.shape[1:])
            for channel in range(channels)
        ]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of what is read."""
        return np.dtype(np.float32)

    def __getitem__(self, key: Key) -> np.ndarray:
        """(channels, h, w); the key is a slice for each axis, the first one without bounds."""
        _, rows, columns = key
        planes = [values(self._plane(c, rows, columns)) for c, values in enumerate(self.values)]
        return np.stack(planes)

    def _plane(self, channel: int, rows: Any, columns: Any = slice(None)) -> np.ndarray:
        window = self.image[rows, columns]
        # A part that is grey has the values that its luma has.
        return to_grey(window) if self.grey else window[..., channel]
