"""``unet-np segment`` of volumes: OME-Zarr, and whatever is to become one."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_np.cli._common import bytes_of, check_output, check_outputs, load_network, progress_bar
from unet_np.errors import InputError, integer

if TYPE_CHECKING:
    from unet_np.volumes import Volume

# Python with its libraries, scratch memory and slack, as `python -m bench volumes` measures them.
_PROCESS = 350 << 20
# What windows take beside the feature maps, as a part of these; and a slice whose cells grow.
_MAPS_SHARE, _GROWING = 0.8, 28


def add_options(parser: argparse.ArgumentParser) -> None:
    """What volumes have and images have not."""
    add = parser.add_argument_group("volumes").add_argument
    add("--workers", type=int, metavar="N", help="processes of a local Dask cluster")
    add("--scheduler", metavar="ADDRESS", help="a Dask cluster that is there, tcp://HOST:PORT")
    add("--chunk", type=int, metavar="N", help="side of the result's chunks (default: a tile's)")


def is_volume(args: argparse.Namespace) -> bool:
    """Whether an image is a Zarr, or is to become one.

    Raises
    ------
    InputError
        If it is none, and there are options of volumes.
    """
    from unet_np.volumes import is_zarr

    if Path(args.out or "").suffix == ".zarr" or any(is_zarr(path) for path in args.images):
        return True
    for name in ("workers", "scheduler", "chunk"):
        if getattr(args, name) is not None:
            raise InputError(
                f"--{name}: got {getattr(args, name)} for images, expected an OME-Zarr, or --out "
                "with a name that ends in .zarr"
            )
    return False


def run(args: argparse.Namespace) -> int:
    """Segment one volume; what an earlier run has done of it stays."""
    from unet_np.cli.segment import check_rim
    from unet_np.volumes import Model, Settings, connected, open_volume, segment_volume
    from unet_np.volumes.cluster import share_of_threads

    if len(args.images) > 1:
        raise InputError(f"image: got {len(args.images)} with a volume, expected one")
    for name in ("labels", "all_classes", "rois", "geojson"):
        if getattr(args, name):
            raise InputError(f"--{name.replace('_', '-')}: got it for a volume, expected none")
    out = _output(args)
    instances, probability, table = (
        out.with_name(f"{out.stem}-{ending}")
        for ending in ("instances.zarr", "probability.zarr", "cells.csv")
    )
    if args.instances:
        check_outputs([table], (*args.images, args.weights), args.overwrite)
    threads = args.threads
    if args.workers is not None:
        threads = threads or share_of_threads(integer("--workers", args.workers, 1))
    volume = open_volume(args.images[0], args.axes)
    load_network(args.weights, args.backend)
    folder = args.weights / "weights.safetensors"
    model = Model.load(folder if folder.is_file() else args.weights, args.backend, threads)
    check_rim(args.rim, model.net.architecture.num_classes)
    grown = args.instances and args.limits is not None
    budget = _budget(args, model.net, volume, grown)
    settings = Settings(args.tile, budget, args.averaging, args.chunk, args.overwrite)
    with connected(args.workers, args.scheduler) as client, _bars(args) as show:
        if client is not None and not args.quiet:
            print(f"dashboard {client.dashboard_link}", flush=True)
        common = {"client": client, "progress": show}
        kept = probability if grown else None
        result = segment_volume(
            volume, out, model, settings, foreground=kept, rim=args.rim, **common
        )
        written = [out, *([kept] if kept else [])]
        if args.instances:
            written += _number(args, result, volume, instances, table, common)
    if not args.quiet:
        total = sum(1 for _ in result.labels[0].indices())
        print(f"wrote {', '.join(str(path) for path in written)}; {total} chunks a map")
    return 0


def _number(
    args: argparse.Namespace, result: Any, volume: Volume, out: Path, table: Path, common: Any
) -> list[Path]:
    from unet_np.cli.segment import write_table
    from unet_np.files import atomic_write
    from unet_np.volumes import number_cells

    limits = args.limits, args.min_area
    cells = number_cells(result, volume, out, *limits, overwrite=args.overwrite, **common)
    with atomic_write(table) as temporary:
        write_table(cells, temporary)
    return [out, table]


def _output(args: argparse.Namespace) -> Path:
    """Where the labels go; refused where they cannot, or where something is read."""
    image = args.images[0]
    out = Path(args.out or f"{image.stem}-labels.zarr")
    if out.suffix != ".zarr":
        raise InputError(f"--out: got {out} for a volume, expected a name that ends in .zarr")
    read, written = image.resolve(), out.resolve()
    if read == written or read in written.parents or written in read.parents:
        raise InputError(f"--out: got {out}, which is an input, expected another name")
    if out.is_file():
        raise InputError(f"--out: got the file {out}, expected the name of a folder")
    check_output(out / "zarr.json", "--out")
    return out


def _budget(args: argparse.Namespace, net: Any, volume: Volume, grown: bool) -> int:
    """Bytes for feature maps: what the process leaves of --memory, or 1 GiB."""
    from unet_np.tiling.memory import forward_bytes
    from unet_np.tiling.overlap_tile import MEMORY_BUDGET

    if args.memory is None:
        return MEMORY_BUDGET
    memory, side = bytes_of(args.memory), net.architecture.min_input_size
    held = _PROCESS + sum(array.nbytes for array in net.state.values())
    least = held + forward_bytes(net.architecture, (side, side), net.dtype.itemsize) / _MAPS_SHARE
    if grown:
        least = max(least, held + _GROWING * volume.size[0] * volume.size[1])
    if memory < least:
        raise InputError(
            f"--memory: got {memory / 2**20:.0f}M, expected at least {least / 2**20 + 1:.0f}M for "
            f"{volume.path.name}"
        )
    return int((memory - held) * _MAPS_SHARE)


@contextmanager
def _bars(args: argparse.Namespace) -> Iterator[Any]:
    """A bar for each thing that is done, one after the other."""
    with ExitStack() as stack:
        now: dict[str, Any] = {}

        def show(text: str, done: int, total: int) -> None:
            if text not in now:
                now.clear()
                stack.close()
                now[text] = stack.enter_context(progress_bar(total, text, "chunk", args.quiet))
            now[text].update(done - now[text].n)

        yield show
