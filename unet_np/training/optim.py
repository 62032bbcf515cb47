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
from functools import lru_cache
from typing import Any

import numpy as np

from unet_np.backend import (
    PASS,
    Array,
    array_module,
    is_device,
    memory_order,
    parallel_map,
    run_kernel,
    scratch,
    sharing,
    single_threaded_blas,
)
from unet_np.errors import InputError, TrainingError, one_of

# Elements in a block: of parameter, gradient, velocity and scratch together it fits the
# second-level cache in float32, so that each is read from memory once.
_BLOCK = 1 << 16

_SLOTS = 64
"""Arrays that a kernel's table has room for; its bytes go with the launch, 4096 at most."""

_THREADS = 1 << 17
"""Of the sum of squares: enough to keep every multiprocessor's memory busy."""

_EACH = 4
"""Numbers of each array that a thread reads before it needs the first."""

SOURCE = (
    f"""
#define SLOTS {_SLOTS}
#define EACH {_EACH}
struct table {{
    const REAL *grad[SLOTS];
    REAL *param[SLOTS], *velocity[SLOTS];
    long long count[SLOTS], first[SLOTS];
}};
"""
    + """
__global__ void update(const struct table table, const double *numbers, double momentum,
                       double weight_decay, double rate, double limit, double loss_limit) {
    const double loss = numbers[0], square = numbers[1];
    // Not the other way round: a number that is none is within no limit.
    if (!(loss <= loss_limit && square <= limit * limit)) return;
    const long long thread = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    int slot = 0;
    for (int step = SLOTS / 2; step > 0; step /= 2)
        if (table.first[slot + step] <= thread) slot += step;
    const long long count = table.count[slot], threads = (count + EACH - 1) / EACH;
    const long long n = thread - table.first[slot];
    if (n >= threads) return;
    const REAL *grad = table.grad[slot];
    REAL *param = table.param[slot], *velocity = table.velocity[slot];
    REAL p[EACH], g[EACH], v[EACH];
    // All is read before anything is written, so that nobody waits for one number after the other.
    for (int i = 0; i < EACH; i++)
        if (n + i * threads < count) {
            p[i] = param[n + i * threads];
            g[i] = grad[n + i * threads];
            v[i] = velocity[n + i * threads];
        }
    for (int i = 0; i < EACH; i++)
        if (n + i * threads < count) {
            v[i] = (REAL)momentum * v[i] + g[i] + (REAL)weight_decay * p[i];
            velocity[n + i * threads] = v[i];
            param[n + i * threads] = p[i] - (REAL)rate * v[i];
        }
}

__global__ void squares(const struct table table, double *sums, int width, int batch) {
    const int thread = blockIdx.x * blockDim.x + threadIdx.x;
    if (thread >= width) return;
    double sum = 0;
    for (int slot = 0; slot < SLOTS; slot++) {
        const REAL *grad = table.grad[slot];
        const long long count = table.count[slot];
        for (long long n = thread; n < count; n += 2 * EACH * (long long)width) {
            REAL g[2 * EACH];
            for (int i = 0; i < 2 * EACH; i++)
                g[i] = n + i * (long long)width < count ? grad[n + i * (long long)width] : 0;
            for (int i = 0; i < 2 * EACH; i++) sum += (double)g[i] * g[i];
        }
    }
    sums[batch * width + thread] = sum;
}
"""
)
"""The step on a GPU, and the norm, by one launch for up to `_SLOTS` arrays; see `run_kernel`."""


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
            if not param.transpose(memory_order(param)).flags.c_contiguous:
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
        for name, param in self.params.items():
            if name not in grads or grads[name].shape != param.shape:
                got = grads[name].shape if name in grads else "none"
                raise InputError(f"grads: got {got} for {name}, expected shape {param.shape}")
        if next((is_device(array_module(param)) for param in self.params.values()), False):
            self._launch(grads, rate, numbers, limit, loss_limit)
            return

        def update(block: tuple[Array, ...]) -> None:
            param, grad, velocity = block
            spare = scratch(np, "sgd", param.shape, param.dtype)
            velocity *= self.momentum
            velocity += grad
            if self.weight_decay:
                np.multiply(param, self.weight_decay, out=spare)
                velocity += spare
            np.multiply(velocity, rate, out=spare)
            param -= spare

        params = self.params.items()
        parts = (_blocks(param, grads[name], self.velocity[name]) for name, param in params)
        blocks = [block for part in parts for block in part]
        with sharing(3 * PASS * sum(block[0].size for block in blocks)):
            parallel_map(update, blocks)

    def _launch(
        self,
        grads: Mapping[str, Array],
        rate: float,
        numbers: Array | None,
        limit: float,
        loss_limit: float,
    ) -> None:
        """The same on a GPU, by a kernel for each `_SLOTS` parameters."""
        for names in _batches(self.params):
            params = [self.params[name] for name in names]
            ordered = [
                _ordered_as(param, grads[name]) for name, param in zip(names, params, strict=True)
            ]
            table, threads = _table(ordered, params, [self.velocity[name] for name in names])
            numbers = array_module(params[0]).zeros(2) if numbers is None else numbers
            how = [float(number) for number in (self.momentum, self.weight_decay, rate)]
            how += [float(limit), float(loss_limit)]
            run_kernel(SOURCE, "update", threads, (table, numbers), *how, like=params[0])


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
    arrays = [grad for grad in grads.values() if grad.size]
    if not arrays:
        return 0.0
    if is_device(array_module(arrays[0])):
        return _sum_of_squares(dict(enumerate(map(_whole, arrays))))

    def square(block: Array) -> Array:
        # In float64: the squares of float32 gradients overflow at 1e19 and vanish at 1e-23.
        spare = scratch(np, "norm", block.shape, np.float64)
        spare[...] = block
        return spare @ spare

    # Added in the order of the blocks, and in them by one thread, so that the number of threads
    # changes nothing.
    with single_threaded_blas(), sharing(PASS * sum(grad.size for grad in arrays)):
        return sum(parallel_map(square, [block for grad in arrays for (block,) in _blocks(grad)]))


def _sum_of_squares(arrays: dict[Any, Array]) -> Array:
    """On a GPU. Each thread sums its share in one order, so that the same gives the same."""
    batches = _batches(arrays)
    width = min(_THREADS, max(array.size for array in arrays.values()))
    sums = array_module(arrays[0]).empty(len(batches) * width)
    for place, names in enumerate(batches):
        batch = [arrays[name] for name in names]
        table, _ = _table(batch)
        run_kernel(SOURCE, "squares", width, (table, sums), width, place, like=batch[0])
    return sums.sum()


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


def _blocks(*arrays: Array) -> list[tuple[Array, ...]]:
    """The arrays as flat views in the memory order of the first, cut into blocks alike."""
    first = arrays[0]
    order = memory_order(first)
    flat = [array.transpose(order).reshape(-1) for array in arrays]
    starts = range(0, first.size, _BLOCK)
    return [tuple(array[start : start + _BLOCK] for array in flat) for start in starts]


def _batches(arrays: Mapping[Any, Array]) -> list[list[Any]]:
    """The names of the arrays, those together for which one launch does."""
    kinds: dict[str, list[Any]] = {}
    for name, array in arrays.items():
        kinds.setdefault(array.dtype.char, []).append(name)
    starts = {kind: range(0, len(names), _SLOTS) for kind, names in kinds.items()}
    return [kinds[kind][at : at + _SLOTS] for kind, where in starts.items() for at in where]


def _table(grads: list[Array], *others: list[Array]) -> tuple[np.ndarray, int]:
    """What `SOURCE` calls a table, of arrays on a GPU, and how many threads they are for.

    CuPy passes an array of NumPy by value if it holds one item, of whatever size. Of a scalar of
    that type it would copy more bytes than it has room for.
    """
    array_module(*grads, *(arrays[0] for arrays in others))  # or their addresses mean nothing
    slots, threads = _slots(tuple(grad.size for grad in grads))
    table = slots.copy()
    for row, arrays in zip(table, (grads, *others), strict=False):
        row[: len(arrays)] = [array.data.ptr for array in arrays]
    return table.reshape(-1).view(f"V{table.nbytes}"), threads


@lru_cache
def _slots(sizes: tuple[int, ...]) -> tuple[np.ndarray, int]:
    """The part of a table that stays: how many numbers, and for which threads, in whole warps."""
    table = np.zeros((5, _SLOTS), np.int64)
    threads = [-(-size // (_EACH * 32)) * 32 for size in sizes]
    table[3, : len(sizes)] = sizes
    table[4] = sum(threads)
    table[4, : len(sizes)] = np.cumsum([0, *threads])[:-1]
    return table, sum(threads)


def _ordered_as(param: Array, grad: Array) -> Array:
    """The gradient, copied if its numbers lie in memory in another order than the parameter's."""
    if grad.strides == param.strides and grad.dtype == param.dtype:
        return grad
    copy = array_module(param, grad).empty_like(param)
    copy[...] = grad
    return copy


def _whole(array: Array) -> Array:
    """The array, copied if its memory has gaps or no kernel takes its dtype."""
    if array.dtype.char in "fd" and _has_no_gaps(array.shape, array.strides, array.itemsize):
        return array
    xp = array_module(array)
    return xp.ascontiguousarray(array, dtype=np.result_type(array.dtype, np.float32))


@lru_cache
def _has_no_gaps(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> bool:
    for stride, size in sorted(zip(strides, shape, strict=True)):
        if size > 1 and stride != itemsize:
            return False
        itemsize *= size
    return True
