"""What a network is for: segmentation as in the paper; classification and detection beside it."""

from unet_np.errors import one_of
from unet_np.tasks.classification import Classify
from unet_np.tasks.detection import Detect
from unet_np.tasks.segmentation import Segment
from unet_np.tasks.task import Task

TASKS: dict[str, type[Task]] = {
    "segment": Segment,
    "classify": Classify,
    "detect": Detect,
}
"""The tasks, by the name that settings, weights and the command line have for them."""

__all__ = ["TASKS", "Classify", "Detect", "Segment", "Task", "find_task"]


def find_task(name: str) -> type[Task]:
    """The task of a name.

    Raises
    ------
    InputError
        If there is none.

    Examples
    --------
    >>> find_task("detect").options["num_classes"]
    3
    """
    one_of("task", name, TASKS)
    return TASKS[name]
