"""``python -m unet_np``: the same as the command ``unet-np``."""

import sys

from unet_np.cli import main

if __name__ == "__main__":
    sys.exit(main())
