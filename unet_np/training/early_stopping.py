"""When to stop: the validation loss has not fallen for a while."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class EarlyStopping:
    """The lowest validation loss of a run, and how long ago it was.

    The paper trains for a fixed number of steps. With few images of one's own a network may
    learn them by heart: the loss goes on falling, and that of held-out images rises again.

    Attributes
    ----------
    patience : int
        Validations in a row without a lower loss after which to stop; 0 never stops.
    best_loss : float
        The lowest loss so far.
    best_step : int
        The step after which it was measured.
    waited : int
        Validations since.

    Examples
    --------
    >>> early = EarlyStopping(patience=2)
    >>> for step, loss in enumerate([0.5, 0.4, 0.6, 0.4]):
    ...     early.update(step, loss)
    >>> early.best_step, early.stops
    (1, True)
    """

    patience: int = 0
    best_loss: float = math.inf
    best_step: int = 0
    waited: int = 0

    def update(self, step: int, loss: float) -> None:
        """Take note of a validation; an equal loss is no lower one, and NaN neither."""
        if loss < self.best_loss:
            self.best_loss, self.best_step, self.waited = loss, step, 0
        else:
            self.waited += 1

    @property
    def counted(self) -> bool:
        """Whether there was a validation."""
        return bool(self.best_step or self.waited)

    @property
    def stops(self) -> bool:
        """Whether the training ends here."""
        return 0 < self.patience <= self.waited

    def keeps(self, step: int) -> bool:
        """Whether the weights after a step are those to be kept: the best, or else the last."""
        return not self.patience or step == self.best_step

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of it, as JSON can.

        Examples
        --------
        >>> EarlyStopping.of(1, EarlyStopping(3, 0.5, 20, 1).state())
        EarlyStopping(patience=1, best_loss=0.5, best_step=20, waited=1)
        """
        found = asdict(self)
        del found["patience"]
        return found | {"best_loss": self.best_loss if self.best_step else None}

    @classmethod
    def of(cls, patience: int, state: dict[str, Any]) -> EarlyStopping:
        """From what `state` gave; anew from an empty dict."""
        if state.get("best_loss") is None:
            state = {**state, "best_loss": math.inf}
        return cls(patience, **state)
