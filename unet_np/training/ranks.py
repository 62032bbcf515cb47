"""One training in several processes, the ranks: tiles of their own, the same weights for all.

``mpirun -n 4 unet-np train ...`` starts the command four times. The mean of the gradients of four
tiles is the gradient of a batch of four, so each step is that of one process with
``--batch-size 4``. The environment that the launcher sets says that there are ranks; without one,
MPI is not imported.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from unet_np import backend
from unet_np.backend import Array, array_module, memory_order
from unet_np.errors import FailedElsewhereError, InputError, MissingExtraError, require
from unet_np.training.interrupt import TrainingInterrupted

LAUNCHERS = (
    ("PMI_RANK", "PMI_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMIX_RANK", "SLURM_STEP_NUM_TASKS"),
)
"""What launchers tell a process: which rank it is, and of how many."""


def launch() -> tuple[int, int]:
    """The rank of this process and how many were launched; 0 and 1 without a launcher.

    Examples
    --------
    >>> launch()
    (0, 1)
    """
    for rank, size in LAUNCHERS:
        numbers = os.environ.get(rank, ""), os.environ.get(size, "")
        if all(number.isdecimal() for number in numbers) and int(numbers[1]) > 1:
            return int(numbers[0]), int(numbers[1])
    return 0, 1


class Ranks:
    """The processes of one training, as one of them sees them.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm, optional
        All of them; None is a process alone.

    Attributes
    ----------
    rank, size : int
        The number of this process, counted from 0, and how many there are.
    here : int
        How many of them this machine has.
    threads : int or None
        A fair share of this machine's cores; None leaves all to a process alone.

    Examples
    --------
    >>> alone = Ranks()
    >>> alone.mean(0.5, []), alone.agree("yes"), alone.any(False)
    (0.5, ['yes'], False)
    """

    def __init__(self, comm: Any = None) -> None:
        self.comm = comm
        self.rank: int = 0 if comm is None else comm.Get_rank()
        self.size: int = 1 if comm is None else comm.Get_size()
        self.here = 1
        self.threads: int | None = None
        self._group: Any = None
        if comm is not None:
            self._share_machine()

    def _share_machine(self) -> None:
        """One GPU for each rank of a machine, or an equal part of its cores."""
        beside = self.comm.Split_type(_mpi().COMM_TYPE_SHARED)
        self.here = beside.Get_size()
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        os.environ["CUDA_VISIBLE_DEVICES"] = own_device(visible, beside.Get_rank())
        if not os.environ.get("UNET_NP_THREADS"):
            self.threads = max(backend.thread_count() // self.here, 1)

    @property
    def first(self) -> bool:
        """Whether this is the rank that reads and writes the folder of the run."""
        return self.rank == 0

    def agree(self, value: Any = None, error: BaseException | None = None) -> list[Any]:
        """What every rank says, in their order; all wait for all.

        Parameters
        ----------
        value
            What this one says.
        error : exception, optional
            Instead: it failed.

        Raises
        ------
        FailedElsewhereError
            If another rank failed. Of several the first one's error counts.
        """
        if self.comm is None:
            return [value]
        said = self.comm.allgather((value, None if error is None else _portable(error)))
        failed = next(
            (rank for rank, (_, wrong) in enumerate(said) if wrong is not None), self.rank
        )
        if failed != self.rank:
            raise FailedElsewhereError(said[failed][1])
        return [value for value, _ in said]

    def any(self, mine: bool) -> bool:
        """Whether it is so on at least one rank."""
        return any(self.agree(mine))

    def mean(self, loss: Any, arrays: Sequence[Array]) -> Any:
        """The mean of the ranks' losses; each array becomes the mean of theirs, in place.

        All arrays go into one flat buffer, which one Allreduce adds up: between GPUs by NCCL where
        CuPy has it, else through the host.

        The mean of the ranks' means is that of the larger batch, where all tiles count the same. In
        a batch of one process they do not if a loss goes by the known pixels or the objects in it
        (``ignore``, detection); between ranks they do. Batch normalisation goes by the tiles of a
        rank, and its running statistics become the mean of the ranks' ones.

        Parameters
        ----------
        loss : float or array of no dimension
            Of this rank.
        arrays : sequence of array
            Of one dtype and the same shapes on every rank: gradients, running statistics.

        Returns
        -------
        float
            Alone what it was: nobody waits for a GPU.
        """
        if self.size == 1:
            return loss
        xp, dtype = array_module(*arrays), arrays[0].dtype
        flat = backend.scratch(xp, "ranks", (sum(array.size for array in arrays),), dtype)
        # Before the sum, so that who fails up to here is heard and nobody waits in vain.
        losses, orders = zip(*self.agree((float(loss), [*map(memory_order, arrays)])), strict=True)
        parts = _parts(flat, arrays, orders[0])
        for part, array in zip(parts, arrays, strict=True):
            part[...] = array
        self._sum(flat)
        flat /= self.size
        for part, array in zip(parts, arrays, strict=True):
            array[...] = part
        return float(sum(losses) / self.size)

    def _sum(self, flat: Array) -> None:
        xp = array_module(flat)
        if self._group is None:
            self._group = backend.device_group(xp, self.size, self.rank)
        if self._group:
            self._group.all_reduce(flat, flat)
            return
        host = backend.to_numpy(flat)
        self.comm.Allreduce(_mpi().IN_PLACE, host)
        if backend.is_device(xp):
            flat[...] = backend.asarray(host, xp)

    def check_alike(self, what: dict[str, Any]) -> None:
        """Refuse ranks that would not learn the same.

        Parameters
        ----------
        what : dict
            Name to what must be the same on all.

        Raises
        ------
        InputError
            Naming the first that differs, and on which rank.
        """
        said = self.agree(what)
        for name, expected in said[0].items():
            for rank, got in enumerate(said):
                if got[name] != expected:
                    raise InputError(
                        f"{name}: got {got[name]} on rank {rank}, expected {expected} as on rank 0"
                    )


ALONE = Ranks()
"""A training in one process."""


@contextmanager
def launched() -> Iterator[Ranks]:
    """The ranks that a launcher such as mpirun started, or this process alone.

    An error on one rank ends all: the others raise `FailedElsewhereError`, once they come to where
    all wait for all. A process that is killed takes the others with it.

    Yields
    ------
    Ranks

    Raises
    ------
    MissingExtraError
        If there are several and mpi4py or an MPI is not installed.
    InputError
        If the launcher is that of another MPI.

    Examples
    --------
    >>> with launched() as ranks:
    ...     ranks.size
    1
    """
    number, size = launch()
    if size == 1:
        yield ALONE
        return
    try:
        ranks = Ranks(_world(size))
    except (InputError, MissingExtraError) as error:
        # They know nothing of each other: all fail alike, and the first one says so.
        if number:
            raise FailedElsewhereError(error) from None
        raise
    try:
        yield ranks
        ranks.agree()
    except FailedElsewhereError:
        raise
    except (Exception, TrainingInterrupted) as error:
        ranks.agree(error=error)
        raise
    except BaseException as end:
        # The signal came to all, as a rule: the first one has the time to say so.
        if number:
            time.sleep(0.5)
        else:
            print(f"unet-np: {str(end) or 'interrupted'}", file=sys.stderr, flush=True)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # MPI has a line of its own
        ranks.comm.Abort(getattr(end, "code", 130))


def _mpi() -> Any:
    """The part of mpi4py that starts MPI; imported only where several processes were launched."""
    require("mpi4py", "scale")
    from mpi4py import MPI

    return MPI


def _world(size: int) -> Any:
    """MPI's communicator of all ranks."""
    try:
        world = _mpi().COMM_WORLD
    except RuntimeError as error:
        raise MissingExtraError(
            f"mpi4py: found no MPI ({error}), expected one; pip install 'unet-np[scale]'"
        ) from None
    if world.Get_size() != size:
        raise InputError(
            f"mpirun: got {size} processes that do not find each other, expected the mpirun of the "
            "MPI that mpi4py uses; pip install 'unet-np[scale]' brings one"
        )
    return world


def own_device(visible: str | None, place: int) -> str:
    """The GPU of a rank, as CUDA_VISIBLE_DEVICES names it.

    Parameters
    ----------
    visible : str or None
        The GPUs that this process may use; None if nothing says so.
    place : int
        Of the rank among those of its machine. A launcher that gave each rank its own GPU has
        settled the question.

    Examples
    --------
    >>> own_device(None, 1), own_device("2,5", 1), own_device("3", 1)
    ('1', '5', '3')
    """
    names = [str(place)] if visible is None else visible.split(",")
    return names[place % len(names)]


def _portable(error: BaseException) -> BaseException:
    """The error as any rank can rebuild it: what it is to the command line, and its message."""
    kinds = (KeyboardInterrupt, InputError, Exception)
    return next(kind for kind in kinds if isinstance(error, kind))(str(error))


def _parts(flat: Array, arrays: Sequence[Array], orders: Sequence[Sequence[int]]) -> list[Array]:
    """Views of a flat buffer in the shapes of the arrays, one after the other.

    Each in its memory order: to transpose an array takes longer than to add it to another one.
    """
    parts, start = [], 0
    for array, order in zip(arrays, orders, strict=True):
        shape = [array.shape[axis] for axis in order]
        back = [list(order).index(axis) for axis in range(array.ndim)]
        parts.append(flat[start : start + array.size].reshape(shape).transpose(back))
        start += array.size
    return parts
