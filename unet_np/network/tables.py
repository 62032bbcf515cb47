"""The architecture table as text: what each layer does, to which shape, with how many numbers."""

from __future__ import annotations

from unet_np.network.architecture import Architecture
from unet_np.network.kinds import Shape

PAPER_TILE = 572


def default_input_shape(architecture: Architecture) -> Shape:
    """One tile of the paper's 572x572 pixels, or of the valid size next below or above.

    Examples
    --------
    >>> default_input_shape(Architecture()), default_input_shape(Architecture(padding=1))
    ((1, 1, 572, 572), (1, 1, 560, 560))
    """
    size = architecture.nearest_input_sizes(PAPER_TILE)[0]
    return (1, architecture.in_channels, size, size)


def summary(architecture: Architecture, input_shape: Shape | None = None) -> str:
    """One line for each layer: name, operation, shape of its output, parameters.

    Parameters
    ----------
    architecture : Architecture
        The table.
    input_shape : (B, C, H, W), optional
        By default `default_input_shape`.

    Raises
    ------
    InputError
        If the shape does not work.

    Examples
    --------
    >>> print(summary(Architecture(base_channels=1, depth=1)).splitlines()[1])
    contract1.conv1      conv 3x3                   1 x 1 x 570 x 570            10
    """
    shape = input_shape or default_input_shape(architecture)
    rows = [("input", "", _shape(shape), "")]
    for layer, output in architecture.shapes(shape):
        parameters = f"{layer.parameters:,}" if layer.parameters else ""
        rows.append((layer.name, layer.words, _shape(output), parameters))
    lines = [f"{a:<20} {b:<25} {c:>18} {d:>13}".rstrip() for a, b, c, d in rows]
    total = (
        f"{architecture.conv_layers} convolutional layers, {architecture.parameters:,} parameters"
    )
    return "\n".join([*lines, total])


def _shape(shape: Shape) -> str:
    return " x ".join(map(str, shape))
