"""``python -m unet_np``: the same as the command ``unet-np``."""

import sys

from unet_np.cli import main

sys.exit(main())
