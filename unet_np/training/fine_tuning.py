"""Begin a training from given weights: fine-tuning instead of training from scratch.

The paper starts from random weights. Where only few images are annotated, the weights of a network
that was trained on others are often the better start: ``unet-np train --start u373``.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from unet_np import backend, pretrained
from unet_np.errors import InputError
from unet_np.files.weights import read_metadata
from unet_np.network.architecture import Architecture, with_norm
from unet_np.network.unet import UNet

SUFFIX = ".safetensors"


def start_from(net: UNet, start: str) -> None:
    """Copy the weights of another network of the same architecture into one, in place.

    Parameters
    ----------
    net : UNet
        The network to be trained. Its dtype, dropout and array library stay.
    start : str
        A network that comes with the package, such as ``u373``, or the path of a file of
        `UNet.save`, such as a run's ``weights.safetensors``.

    Raises
    ------
    InputError
        If there is no such network or file, or it is of another architecture; one line that
        names the first setting that differs.

    Examples
    --------
    >>> import tempfile
    >>> old = UNet(base_channels=2, depth=1, seed=7, backend="numpy")
    >>> old.save(tempfile.gettempdir() + "/old.safetensors")
    >>> net = UNet(base_channels=2, depth=1, backend="numpy")
    >>> start_from(net, tempfile.gettempdir() + "/old.safetensors")
    >>> bool((net.params["output.weight"] == old.params["output.weight"]).all())
    True
    """
    given = UNet.load(weights_file(start), backend="numpy", dtype=net.dtype)
    check_same_network(start, given.architecture, net.architecture)
    net.set_params({name: backend.asarray(a, net.xp) for name, a in given.params.items()})
    net.set_buffers({name: backend.asarray(a, net.xp) for name, a in given.buffers.items()})


def weights_file(start: str) -> Path:
    """The file that a setting ``start`` means.

    Raises
    ------
    InputError
        If it is neither a file nor a network that comes with the package.

    Examples
    --------
    >>> weights_file("u373").name
    'u373.safetensors'
    >>> weights_file("u374")
    Traceback (most recent call last):
    ...
    unet_np.errors.InputError: start: got 'u374', expected a .safetensors file or one of em, u373, \
hela; nearest valid is 'u373'
    """
    if start in pretrained.NAMES:
        if start not in pretrained.available():
            known = ", ".join(pretrained.available())
            raise InputError(
                f"start: got {start!r}, which is not in this installation, expected one of {known}"
            )
        return pretrained.path(start)
    path = Path(start)
    if path.suffix == SUFFIX or path.exists():
        return path
    try:
        return pretrained.path(start)
    except InputError as error:
        text = str(error).replace("model:", "start:", 1)
        raise InputError(
            text.replace("expected one of", f"expected a {SUFFIX} file or one of", 1)
        ) from None


def architecture_of(start: str) -> dict[str, Any]:
    """Settings of a network to start from; empty if its file tells of none.

    What is wrong with the file is for `start_from` to say.

    Raises
    ------
    InputError
        As `weights_file`.

    Examples
    --------
    >>> architecture_of("em")["norm"], architecture_of("not/there.safetensors")
    ('none', {})
    """
    try:
        described = json.loads(read_metadata(weights_file(start))["unet_np"])
        return {"norm": "none"} | with_norm(described["architecture"])
    except (LookupError, TypeError, AttributeError, RecursionError, json.JSONDecodeError):
        return {}


def check_same_network(start: str, given: Architecture, wanted: Architecture) -> None:
    """Refuse weights of another architecture.

    Raises
    ------
    InputError
        Naming the first setting that differs, and for the settings of a training the flag that
        mends it.

    Examples
    --------
    >>> check_same_network("mine", Architecture(base_channels=16), Architecture())
    Traceback (most recent call last):
    ...
    unet_np.errors.InputError: start: got mine with base_channels 16, expected 64; \
--base-channels 16 goes with it
    >>> check_same_network("mine", Architecture(num_classes=3), Architecture())
    Traceback (most recent call last):
    ...
    unet_np.errors.InputError: start: got mine with num_classes 3, expected 2, which the data have
    """
    ours, theirs = asdict(wanted), asdict(given)
    # The task decides the classes, so it is the one to name.
    for key in sorted(theirs, key=lambda name: name != "task"):
        got = theirs[key]
        if got == ours[key]:
            continue
        flag = "--" + key.replace("_", "-")
        if isinstance(got, bool):
            reason = f"; {flag if got else flag.replace('--', '--no-')} goes with it"
        elif key in ("in_channels", "num_classes"):
            reason = ", which the data have"
            if (key, got) == ("in_channels", 1):
                reason += "; --colour grey makes grey of them"
        else:
            reason = f"; {flag} {got} goes with it"
        raise InputError(f"start: got {start} with {key} {got}, expected {ours[key]}{reason}")
