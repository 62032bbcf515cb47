"""What `unet-np plan` proposes for the usual cases, for the table of the chapter on own data.

    UNET_NP_DATA=... python tools/plans.py

writes `results/plans.json`. Minutes are those of one core, by a step that is measured: they do not
depend on what else the machine has to do.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from unet_np import data
from unet_np.experiments.provenance import machine
from unet_np.files import atomic_write
from unet_np.training.config import TrainConfig
from unet_np.training.plan import propose, seconds

RESULTS = Path(__file__).resolve().parent.parent / "results"
CASES = {
    "membranes in EM": ("isbi2012", slice(None)),
    "cells in phase contrast": ("u373", slice(None)),
    "cells in DIC": ("hela", slice(None)),
    "nuclei, ten images": ("dsb2018", slice(0, 90, 9)),
    "nuclei, ninety images": ("dsb2018", slice(None)),
    "synthetic cells": ("synthetic-cells", slice(None)),
}
SHOWN = ("base_channels", "depth", "input_size", "sigma", "weight_term", "steps")


def main() -> int:
    """Plan all cases."""
    own = TrainConfig(images="images", masks="masks", threads=1, backend="numpy")
    cases = {}
    for name, (chosen, which) in CASES.items():
        whole = data.load(chosen)
        dataset = whole.subset(range(len(whole))[which])
        plan = propose(dataset, own, ("images", "masks"))
        cases[name] = {
            "data": chosen,
            "images": len(dataset),
            "size": list(dataset.shape),
            "diameter": plan.findings.diameter,
            "settings": {key: getattr(plan.config, key) for key in SHOWN}
            | {"bend": plan.config.augmentation["sigma"]},
            "minutes": seconds(plan, dataset, time.process_time) / 60,
        }
        print(name, cases[name], flush=True)
    written = {
        "command": "UNET_NP_DATA=... python tools/plans.py",
        "machine": machine(),
        "cases": cases,
    }
    with atomic_write(RESULTS / "plans.json") as temporary:
        temporary.write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
