"""The errors that this package raises on purpose."""

import difflib
import operator
from collections.abc import Iterable
from typing import Any


class InputError(ValueError):
    """A mistake in what the caller gave: a value, a shape, a file.

    The message is one line: which argument, what it got, what was expected and,
    where there is one, the nearest valid value. The command line prints it and
    ends with exit code 2.

    Examples
    --------
    >>> raise InputError("depth: got 0, expected an integer >= 1 (the paper's network has 4)")
    Traceback (most recent call last):
    ...
    unet_np.errors.InputError: depth: got 0, expected an integer >= 1 (the paper's network has 4)
    """


class MissingExtraError(ImportError):
    """An optional library is needed and missing; the message names the ``pip install`` line."""


class TrainingError(RuntimeError):
    """Training cannot go on: the loss or the gradient is not finite or has exploded."""


class FailedElsewhereError(RuntimeError):
    """Another process of the same work failed, and says so itself.

    Parameters
    ----------
    error : BaseException
        What it failed with.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


def integer(name: str, value: Any, minimum: int) -> int:
    """The value as an `int`, NumPy's integers included; no bool and no float.

    Parameters
    ----------
    name : str
        Of the argument, for the message.
    value
        What was given.
    minimum : int
        The least that is allowed.

    Raises
    ------
    InputError
        If it is no integer, or less.

    Examples
    --------
    >>> integer("depth", 4.0, 1)
    Traceback (most recent call last):
    ...
    unet_np.errors.InputError: depth: got 4.0, expected an integer >= 1
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < minimum:
        raise InputError(f"{name}: got {value!r}, expected an integer >= {minimum}")
    return number


def one_of(name: str, value: Any, choices: Iterable[str]) -> str:
    """The value, if it is one of the choices.

    Parameters
    ----------
    name : str
        Of the argument, for the message.
    value
        What was given.
    choices : iterable of str
        What is allowed.

    Raises
    ------
    InputError
        If it is none of them; names the nearest.

    Examples
    --------
    >>> one_of("up", "nearst", ["upconv", "nearest"])
    Traceback (most recent call last):
    ...
    unet_np.errors.InputError: up: got 'nearst', expected one of upconv, nearest; \
nearest valid is 'nearest'
    """
    allowed = list(choices)
    if value not in allowed:
        near = difflib.get_close_matches(str(value), allowed, 1, cutoff=0)[0]
        expected = f"expected one of {', '.join(allowed)}; nearest valid is {near!r}"
        raise InputError(f"{name}: got {value!r}, {expected}")
    return value


def require(module: str, extra: str) -> Any:
    """Import an optional library or say which extra brings it.

    Parameters
    ----------
    module : str
        Name as in ``import``.
    extra : str
        The extra of this package that installs it.

    Raises
    ------
    MissingExtraError
        If the library is not installed.

    Examples
    --------
    >>> require("math", "io").floor(2.5)
    2
    """
    import importlib

    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.split(".")[0]:
            raise
        raise MissingExtraError(
            f"{module}: not installed, expected for this command; pip install 'unet-np[{extra}]'"
        ) from None
