"""Whether a run may go on: the same settings, data and array library, or a reason why not."""

from __future__ import annotations

from typing import Any

from unet_np.errors import InputError
from unet_np.training.config import TrainConfig, recorded_settings
from unet_np.weighting.eq2 import DEFAULTS

MAY_CHANGE = ("steps", "checkpoint_every", "out", "tensorboard", "images", "masks")
"""Settings that a resumed run may have of its own; the other ones would change its steps.

Images and masks may lie elsewhere: what they hold is compared.
"""


def check_same(
    state: dict[str, Any], config: TrainConfig, checksum: int, library: str, ranks: int = 1
) -> None:
    """Refuse to resume with settings, data or an array library that would change the steps.

    Parameters
    ----------
    state : dict
        Of the checkpoint.
    config : TrainConfig
        With which it is to go on.
    checksum : int
        Of the data.
    library : str
        "numpy" or "cupy".
    ranks : int
        Processes: each has its own tiles, so another number of them makes other steps.

    Raises
    ------
    InputError
        Naming the first setting that differs.
    """
    check_whole(state)
    free = set(MAY_CHANGE)
    if config.schedule in ("poly", "cosine"):
        free.remove("steps")  # they reach 0 at the last step
    if config.patience and state["config"].get("patience"):
        free.add("patience")  # more of it goes on with a run that stopped
    old = recorded_settings(state["config"])
    old |= dict(zip(("w0", "sigma"), _weighting(state), strict=True))
    for key, value in config.resolved().to_dict().items():
        # A run from before a setting was there had its default.
        before = old.get(key, getattr(TrainConfig, key, None))
        if key not in free and before != value:
            raise InputError(
                f"{key}: got {value!r}, expected {before!r}, with which the run was begun; "
                "a new --out begins another"
            )
    if state["backend"] != library:
        raise InputError(
            f"backend: got {library}, expected {state['backend']}, with which the run was begun"
        )
    if state.get("ranks", 1) != ranks:
        raise InputError(
            f"ranks: got {ranks}, expected {state.get('ranks', 1)}, with which the run was begun; "
            "a new --out with --start and its weights begins another"
        )
    if state["data"] != checksum:
        raise InputError("data: got other images or labels than those the run was begun with")
    if state["step"] > config.steps:
        raise InputError(
            f"steps: got {config.steps}, expected at least {state['step']}, which are done already"
        )


def check_whole(state: dict[str, Any]) -> None:
    """Refuse a state that lacks what a run goes on with.

    Raises
    ------
    InputError
        Naming the first that is missing or of another type.

    Examples
    --------
    >>> check_whole({"step": 3})
    Traceback (most recent call last):
    ...
    unet_np.errors.InputError: checkpoint: got one without metrics_bytes, expected one of \
unet-np train
    """
    needed = ("step", "metrics_bytes", "config", "threads", "backend", "data")
    missing = next((key for key in needed if key not in state), None)
    if missing is not None:
        raise InputError(f"checkpoint: got one without {missing}, expected one of unet-np train")
    early = state.get("early_stopping", {})
    kinds = {"best_loss": (int, float, type(None)), "best_step": (int,), "waited": (int,)}
    good = isinstance(early, dict) and all(
        key in kinds and type(value) in kinds[key] for key, value in early.items()
    )
    numbers = state.get("weighting", [0, 0])
    good &= isinstance(numbers, list) and len(numbers) == 2
    if not good:
        raise InputError("checkpoint: got one with a damaged state, expected one of unet-np train")


def _weighting(state: dict[str, Any]) -> tuple[float, float]:
    """w0 and sigma of a checkpoint; once the paper's own stood for those of the variant."""
    if "weighting" in state:
        w0, sigma = state["weighting"]
        return w0, sigma
    config = state["config"]
    unset = TrainConfig(
        task=config.get("task", "segment"), weight_variant=config.get("weight_variant", "paper")
    )
    w0, sigma = config.get("w0"), config.get("sigma")
    if (w0, sigma) == DEFAULTS["paper"]:
        return unset.weighting
    return unset.replace(w0=w0, sigma=sigma).weighting
