"""The command line: ``unet-np COMMAND``, also ``python -m unet_np COMMAND``.

Each command is a module of this package with ``add_parser(subparsers)`` and ``run(args) -> int``.
Only the module of the command that is run is imported.

Exit codes: 0 all is well; 1 it failed while running; 2 something in the input is wrong; 130
stopped with Ctrl-C; 129 or 143 ended by SIGHUP or SIGTERM.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn

from unet_np.cli._process import Ended, ended_by_signals, usable_streams
from unet_np.cli._remarks import printed_remarks

PROGRAM = "unet-np"
FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130

COMMANDS = {
    "summary": "print the network's tables: layers, shapes, sizes, parameters",
    "data": "list, fetch, check and preview the data sets",
    "plan": "propose training settings for the data",
    "train": "train a network",
    "report": "write a page about a run",
    "segment": "segment images with trained weights",
    "detect": "find objects: centres, boxes and scores",
    "classify": "classify images or their patches",
    "evaluate": "compare a segmentation with the truth",
    "view": "look at an image with its labels, in napari or as a picture",
    "export": "write a trained network for ONNX or PyTorch",
    "experiment": "run an experiment of the paper",
}
"""Name and help line of each command; one whose module is not there is left out."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Print one line and end with exit code 2."""
        # The same line was given to all ranks.
        line = "" if _on_rank() else f"{self.prog}: error: {_one_line(message)} (try --help)\n"
        self.exit(BAD_INPUT, line)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; those of the process if None.

    Returns
    -------
    int
        The exit code.

    Examples
    --------
    >>> main(["summary", "--depth", "0"])
    2
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    # Taken out first, so that it may stand anywhere on the line.
    debug = "--debug" in arguments or os.environ.get("UNET_NP_DEBUG", "") not in ("", "0")
    arguments = [argument for argument in arguments if argument != "--debug"]
    with usable_streams():
        return _main(arguments, debug)


def _main(arguments: list[str], debug: bool) -> int:
    name = PROGRAM
    try:
        with ended_by_signals():
            parser, module = _parser(next((a for a in arguments if a in COMMANDS), None))
            args = parser.parse_args(arguments)
            if module is None or args.command is None:
                parser.error("no command given; expected one of " + ", ".join(_available()))
            name = f"{PROGRAM} {args.command}"
            with printed_remarks(getattr(args, "quiet", False)), warnings.catch_warnings():
                # What overflows is told in the one line of the error that follows.
                warnings.simplefilter("ignore", RuntimeWarning)
                code = int(module.run(args))
        # A closed pipe or a full disk shows here, where it can be caught, not when Python ends.
        sys.stdout.flush()
        return code
    except SystemExit as stop:
        return int(stop.code or 0)
    except Ended as stop:
        print(f"{name}: {stop}", file=sys.stderr)
        return stop.code
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough.
        return 0
    except KeyboardInterrupt:
        print(f"\n{name}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if debug:
            raise
        code, message = _explain(error)
        if message:
            print(f"{name}{_on_rank()}: error: {_one_line(message)}", file=sys.stderr)
        return code


def _on_rank() -> str:
    """Which of several processes this is; nothing for the first or only one."""
    from unet_np.training.ranks import launch

    rank, _ = launch()
    return f" on rank {rank}" if rank else ""


def _explain(error: BaseException) -> tuple[int, str]:
    """Exit code and message of an error."""
    from unet_np.errors import FailedElsewhereError, InputError, MissingExtraError, TrainingError

    if isinstance(error, FailedElsewhereError):
        stopped = isinstance(error.error, KeyboardInterrupt)
        return INTERRUPTED if stopped else _explain(error.error)[0], ""
    if isinstance(error, InputError):
        return BAD_INPUT, str(error)
    if isinstance(error, MissingExtraError | TrainingError):
        return FAILED, str(error)
    if isinstance(error, MemoryError):
        return FAILED, f"out of memory ({error}); a smaller --memory or --tile may help"
    if isinstance(error, OSError):
        named = error.filename is not None and error.strerror
        return FAILED, f"{os.fsdecode(error.filename)}: {error.strerror}" if named else str(error)
    return FAILED, f"{type(error).__name__}: {error} (--debug shows where)"


def _parser(command: str | None) -> tuple[Parser, Any]:
    """The parser, in which only `command` has its arguments, and that command's module."""
    parser = Parser(
        prog=PROGRAM,
        description="U-Net from scratch: train, segment and look inside.",
        epilog="example: unet-np summary --size 572",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    parser.add_argument(
        "--debug", action="store_true", help="show the traceback of an error (or UNET_NP_DEBUG=1)"
    )
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    module = None
    for name in _available():
        if name == command:
            module = importlib.import_module(f"{__name__}.{name}")
            module.add_parser(subparsers)
        else:
            subparsers.add_parser(name, help=COMMANDS[name], add_help=False)
    return parser, module


def _available() -> list[str]:
    return [name for name in COMMANDS if importlib.util.find_spec(f"{__name__}.{name}")]


class _Version(argparse.Action):
    """Reads the version of the installed package only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib.metadata import PackageNotFoundError, version

        try:
            text = version("unet-np")
        except PackageNotFoundError:
            text = "(not installed)"
        print(f"{PROGRAM} {text}")
        parser.exit(0)


def _one_line(text: object) -> str:
    return " ".join(str(text).split())
