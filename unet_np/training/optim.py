"""Stochastic gradient descent with momentum 0.99, and learning-rate schedules (section 3).

The paper prefers one large tile per step to a batch of small ones, and makes up for it
with a momentum so high that "a large number of the previously seen training samples
determine the update": the velocity is a sum over about 1 / (1 - 0.99) = 100 steps, and
with a constant gradient the step becomes 100 times the learning rate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from unet_np.backend import Array, array_module, is_device, parallel_map, run_kernel, scratch
from unet_np.errors import InputError, TrainingError, one_of

# Elements in a block: of parameter, gradient, velocity and scratch together it fits the
# second-level cache in float32, so that each is read from memory once.
_BLOCK = 1 << 16

SOURCE = """
__global__ void update(REAL *param, const REAL *grad, REAL *velocity, int count, double momentum,
                       double weight_decay, double rate, const double *numbers, double limit,
                       double loss_limit) {
    const int n = blockIdx.x * blockDim.x + threadIdx.x;
    const double loss = numbers[0], square = numbers[1];
    // Not the other way round: a number that is none is within no limit.
    if (n >= count || !(loss <= loss_limit && square <= limit * limit)) return;
    velocity[n] = (REAL)momentum * velocity[n] + grad[n] + (REAL)weight_decay * param[n];
    param[n] -= (REAL)rate * velocity[n];
}
"""
"""The step on a GPU, one launch for each parameter; see `run_kernel`."""


class SGD:
    """Momentum as in PyTorch: ``v = momentum * v + g``, then ``p = p - learning_rate * v``.

    The authors' library (Caffe) has ``v = momentum * v + learning_rate * g``, then
    ``p = p - v``. The two are the same while the learning rate is constant. When it
    falls, this one shrinks at once what earlier gradients still contribute, the authors'
    lets them run on at the rate that they were made with.

    Parameters
    ----------
    params : mapping of str to array
        Updated in place.
    learning_rate : float
        Above 0. The step that a constant gradient leads to is
        ``learning_rate / (1 - momentum)`` times the gradient.
    momentum : float
        From 0 to below 1; 0.99 in the paper.
    weight_decay : float
        ``g + weight_decay * p`` takes the place of ``g``. 0 in the paper, which has none.

    Attributes
    ----------
    velocity : dict of str to array
        v, in the shape and memory order of the parameters; zero at first.

    Raises
    ------
    InputError
        If a number is out of its range, or a parameter is a strided view.

    Examples
    --------
    >>> params = {"weight": np.array([1.0, 2.0])}
    >>> optimiser = SGD(params, learning_rate=0.1, momentum=0.5)
    >>> for _ in range(2):
    ...     optimiser.step({"weight": np.array([1.0, 0.0])})
    >>> params["weight"]
    array([0.75, 2.  ])
    """

    def __init__(
        self,
        params: Mapping[str, Array],
        learning_rate: float,
        momentum: float = 0.99,
        weight_decay: float = 0.0,
    ) -> None:
        _check_number("learning_rate", learning_rate, learning_rate > 0, "a number > 0")
        _check_number("momentum", momentum, 0 <= momentum < 1, "0 <= momentum < 1")
        _check_number("weight_decay", weight_decay, weight_decay >= 0, "a number >= 0")
        self.params = params
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.velocity: dict[str, Array] = {}
        for name, param in params.items():
            if not param.transpose(_memory_order(param)).flags.c_contiguous:
                raise InputError(f"params: got a strided view for {name}, expected a whole array")
            # zeros_like keeps the parameter's memory order.
            self.velocity[name] = array_module(param).zeros_like(param)

    def step(
        self,
        grads: Mapping[str, Array],
        learning_rate: float | None = None,
        numbers: Array | None = None,
        limit: float = math.inf,
        loss_limit: float = math.inf,
    ) -> None:
        """Update every parameter in place from its gradient.

        Parameters
        ----------
        grads : mapping of str to array
            Of the names and shapes of the parameters.
        learning_rate : float, optional
            For this step, from a `Schedule`; else the constructor's.
        numbers : array (2,), optional
            On a GPU: loss and `squared_norm`, which the host may not know yet. The GPU leaves out
            the step where `check_step` would refuse it.
        limit, loss_limit : float
            As `check_step` has them.

        Raises
        ------
        InputError
            If a gradient is missing or has another shape.
        """
        rate = self.learning_rate if learning_rate is None else learning_rate
        blocks: list[tuple[Array, ...]] = []
        for name, param in self.params.items():
            if name not in grads or grads[name].shape != param.shape:
                got = grads[name].shape if name in grads else "none"
                raise InputError(f"grads: got {got} for {name}, expected shape {param.shape}")
            blocks += _blocks(param, grads[name], self.velocity[name])

        def update(block: tuple[Array, ...]) -> None:
            param, grad, velocity = block
            xp = array_module(param)
            spare = scratch(xp, "sgd", param.shape, param.dtype)
            velocity *= self.momentum
            velocity += grad
            if self.weight_decay:
                xp.multiply(param, self.weight_decay, out=spare)
                velocity += spare
            xp.multiply(velocity, rate, out=spare)
            param -= spare

        if blocks and is_device(array_module(blocks[0][0])):
            self._launch(blocks, rate, numbers, limit, loss_limit)
        else:
            parallel_map(update, blocks)

    def _launch(
        self,
        blocks: list[tuple[Array, ...]],
        rate: float,
        numbers: Array | None,
        limit: float,
        loss_limit: float,
    ) -> None:
        """The same on a GPU, by a kernel for each parameter."""
        numbers = array_module(blocks[0][0]).zeros(2) if numbers is None else numbers
        how = [float(number) for number in (self.momentum, self.weight_decay, rate)]
        for block in blocks:
            size = block[0].size
            tail = numbers, float(limit), float(loss_limit)
            run_kernel(SOURCE, "update", size, *block, size, *how, *tail)


def gradient_norm(grads: Mapping[str, Array]) -> float:
    """Euclidean norm of all gradients together; inf or NaN where one of them is.

    Examples
    --------
    >>> gradient_norm({"weight": np.array([[3.0]]), "bias": np.array([4.0])})
    5.0
    """
    return math.sqrt(float(squared_norm(grads)))


def squared_norm(grads: Mapping[str, Array]) -> Any:
    """The square of `gradient_norm`; on a GPU it stays there, and nobody waits for it.

    Examples
    --------
    >>> float(squared_norm({"weight": np.array([[3.0]]), "bias": np.array([4.0])}))
    25.0
    """
    blocks = [block for grad in grads.values() for (block,) in _blocks(grad)]
    if not blocks:
        return 0.0
    xp = array_module(blocks[0])

    def square(block: Array) -> Array:
        # In float64: the squares of float32 gradients overflow at 1e19 and vanish at 1e-23.
        spare = scratch(xp, "norm", block.shape, np.float64)
        xp.multiply(block, block, out=spare, dtype=np.float64)
        return spare.sum()

    # Added in the order of the blocks, so that the number of threads changes nothing.
    return sum(parallel_map(square, blocks, xp))


def check_step(
    step: int,
    loss: float,
    norm: float,
    limit: float = 1e4,
    loss_limit: float = 1e3,
    checkpoint: str | None = None,
) -> None:
    """Stop before a broken gradient reaches the weights, and say what to try.

    Parameters
    ----------
    step : int
        Counted from 1, for the message.
    loss, norm : float
        Of this step: the loss, and `gradient_norm`.
    limit : float
        The largest norm that is let through.
    loss_limit : float
        The largest loss that is let through. Once all its ReLUs are dead a network's gradient
        is small, however large its loss.
    checkpoint : str, optional
        The last good checkpoint, for the message.

    Raises
    ------
    TrainingError
        If the loss or the norm is not finite or above its limit.

    Examples
    --------
    >>> check_step(7, loss=0.6, norm=2.0)
    >>> check_step(7, loss=0.6, norm=float("nan"))
    Traceback (most recent call last):
    ...
    unet_np.errors.TrainingError: step 7: loss 0.6, gradient norm nan, which is not finite; try \
a learning rate 10 times lower, a longer warm-up, or float64
    """
    if loss <= loss_limit and norm <= limit:
        return
    finite = math.isfinite(loss) and math.isfinite(norm)
    exceeded = limit if norm > limit else loss_limit
    reason = f"which is above the limit {exceeded:g}" if finite else "which is not finite"
    kept = f"; the last good checkpoint is {checkpoint}" if checkpoint else ""
    raise TrainingError(
        f"step {step}: loss {loss:.6g}, gradient norm {norm:.6g}, {reason}; "
        f"try a learning rate 10 times lower, a longer warm-up, or float64{kept}"
    )


SCHEDULES = ("constant", "step", "poly", "cosine")


@dataclass(frozen=True)
class Schedule:
    """The learning rate of each step; the paper gives neither rate nor schedule.

    Parameters
    ----------
    learning_rate : float
        The highest rate.
    steps : int
        Length of the training; where ``poly`` and ``cosine`` reach 0.
    kind : {"constant", "step", "poly", "cosine"}
        ``step`` multiplies by `factor` after every `every` steps, ``poly`` is
        ``(1 - t / steps) ** power``, ``cosine`` is ``(1 + cos(pi t / steps)) / 2``.
    warmup : int
        During so many first steps the rate rises linearly to the schedule's. It keeps
        the momentum from running off while the first gradients are large.
    every, factor, power : number
        See `kind`.

    Raises
    ------
    InputError
        If a value is out of its range.

    Examples
    --------
    >>> schedule = Schedule(0.1, steps=100, kind="poly", warmup=10, power=1.0)
    >>> [round(schedule(step), 3) for step in (0, 9, 50, 99)]
    [0.01, 0.091, 0.05, 0.001]
    """

    learning_rate: float
    steps: int
    kind: str = "constant"
    warmup: int = 0
    every: int = 1000
    factor: float = 0.1
    power: float = 0.9

    def __post_init__(self) -> None:
        one_of("schedule", self.kind, SCHEDULES)
        rate = self.learning_rate
        _check_number("learning_rate", rate, rate > 0, "a number > 0")
        _check_number("steps", self.steps, self.steps >= 1, "an integer >= 1")
        _check_number("warmup", self.warmup, self.warmup >= 0, "an integer >= 0")
        _check_number("every", self.every, self.every >= 1, "an integer >= 1")
        _check_number("factor", self.factor, 0 < self.factor <= 1, "0 < factor <= 1")
        _check_number("power", self.power, self.power > 0, "a number > 0")

    def __call__(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        rising = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        done = min(1.0, step / self.steps)
        falling = 1.0
        if self.kind == "step":
            falling = self.factor ** (step // self.every)
        elif self.kind == "poly":
            falling = (1.0 - done) ** self.power
        elif self.kind == "cosine":
            falling = (1.0 + math.cos(math.pi * done)) / 2
        return self.learning_rate * rising * falling


def _check_number(name: str, value: float, good: bool, expected: str) -> None:
    if not (good and math.isfinite(value)):
        raise InputError(f"{name}: got {value}, expected {expected}")


def _memory_order(array: Array) -> list[int]:
    return sorted(range(array.ndim), key=lambda axis: -array.strides[axis])


def _blocks(*arrays: Array) -> list[tuple[Array, ...]]:
    """The arrays as flat views in the memory order of the first, cut into blocks alike."""
    xp, first = array_module(*arrays), arrays[0]
    order = _memory_order(first)
    flat = [array.transpose(order).reshape(-1) for array in arrays]
    size = max(first.size, 1) if is_device(xp) else _BLOCK
    starts = range(0, first.size, size)
    return [tuple(array[start : start + size] for array in flat) for start in starts]
