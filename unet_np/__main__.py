"""The command ``unet-np``, also ``python -m unet_np``: Ctrl-C is one line from the first moment."""

import os
import signal
import sys
from typing import Any, NoReturn


def main() -> int:
    """Run the command line; until it is imported there is nothing to clean up.

    Returns
    -------
    int
        The exit code, as `unet_np.cli.main`.
    """

    def leave(number: int, frame: Any) -> NoReturn:
        # Not by an exception: an import that is interrupted may make another one of it.
        os.write(2, b"\nunet-np: interrupted\n")
        os._exit(130)

    usual = signal.getsignal(signal.SIGINT)
    # One that is ignored, as in the background of a script, stays so.
    chosen = leave if usual is signal.default_int_handler else usual
    signal.signal(signal.SIGINT, chosen)
    from unet_np.cli import main as command

    signal.signal(signal.SIGINT, usual)
    try:
        return command()
    except KeyboardInterrupt:
        leave(signal.SIGINT, None)
    finally:
        # All is done; what Python does to end needs no traceback.
        signal.signal(signal.SIGINT, chosen)


if __name__ == "__main__":
    sys.exit(main())
