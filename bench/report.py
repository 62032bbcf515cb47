"""The figures of a benchmark as text, and its roofline as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

LAYER_COLUMNS = ("auto", "im2col", "winograd", "winograd_rows", "torch nchw", "torch channels_last")


def report(result: dict[str, Any]) -> str:
    """All parts of a result that are there, as text for a terminal.

    Examples
    --------
    >>> print(report({"gemm_rate": 4e11, "machine": {"processor": "P", "threads": 2}}))
    P, 2 threads; matrix product 400 GFLOP/s
    """
    machine = result["machine"]
    lines = [
        f"{machine['processor']}, {machine['threads']} threads; "
        f"matrix product {result['gemm_rate'] / 1e9:.0f} GFLOP/s"
    ]
    for direction in ("forward", "backward"):
        lines += _layer_lines(result.get("layers", []), direction)
    if "network" in result:
        lines += _network_lines(result["network"])
    for row in result.get("widths", []) + result.get("tiles", []):
        tile = f"{row['batch']} x {row['size']} px"
        lines.append(f"\n{row['base_channels']} channels, {tile}, threads: {row['threads']}")
        lines += _network_lines(row)[1:]
    for kind, peak in result.get("memory", {}).items():
        sizes = ", ".join(f"{name} {size / 2**20:.0f} MiB" for name, size in peak["bytes"].items())
        lines.append(f"peak memory, {kind}: {sizes}; ratio {peak['ratio']:.2f}")
    if "scaling" in result:
        lines += _scaling_lines(result["scaling"])
    if "account" in result:
        lines += _account_lines(result["account"])
    return "\n".join(lines)


def _layer_lines(rows: list[dict[str, Any]], direction: str) -> list[str]:
    if not rows:
        return []
    # The backward pass is two convolutions: one for the input's gradient, one for the weights'.
    factor = 1 if direction == "forward" else 2
    title = f"{direction}, GFLOP/s"
    lines = ["", f"{title:<24}" + "".join(f"{name:>21}" for name in LAYER_COLUMNS) + "  ratio"]
    for row in rows:
        seconds = row[direction]
        rates = [factor * row["operations"] / seconds[name] / 1e9 for name in LAYER_COLUMNS]
        label = f"{row['size']}, {row['in_channels']}, {row['out_channels']}"
        cells = "".join(f"{rate:21.0f}" for rate in rates)
        lines.append(f"{label:<24}{cells}{layer_ratio(row, direction):7.2f}")
    return lines


def layer_ratio(row: dict[str, Any], direction: str) -> float:
    """Time of ``auto`` over that of PyTorch's better layout.

    Examples
    --------
    >>> times = {"auto": 1.0, "torch nchw": 4.0, "torch channels_last": 2.0}
    >>> layer_ratio({"forward": times}, "forward")
    0.5
    """
    seconds = row[direction]
    return float(seconds["auto"] / min(seconds["torch nchw"], seconds["torch channels_last"]))


def _network_lines(network: dict[str, Any]) -> list[str]:
    lines = [""]
    for kind in ("forward", "step"):
        part = network[kind]
        times = ", ".join(f"{name} {s:.3f} s" for name, s in part["seconds"].items())
        low, high = part["ratio_range"]
        lines.append(f"{kind}: {times}; ratio {part['ratio']:.2f} ({low:.2f} to {high:.2f})")
    return lines


def _scaling_lines(scaling: dict[str, Any]) -> list[str]:
    rows = scaling["sizes"].items()
    pixels = ", ".join(f"{n} px {row['time_per_pixel']:.2f}" for n, row in rows)
    work = ", ".join(f"{n} px {row['time_per_operation']:.2f}" for n, row in rows)
    batches = ", ".join(f"{n}: {ratio:.2f}" for n, ratio in scaling["batches"].items())
    threads = ", ".join(f"{n}: {s:.2f} s" for n, s in scaling["threads"].items())
    return [
        f"time per pixel, relative: {pixels}",
        f"time per operation, relative: {work}",
        f"time of a batch over that of one tile: {batches}",
        f"threads: {threads}",
    ]


def _account_lines(account: dict[str, Any]) -> list[str]:
    rows = [(row["name"], row["forward"], row["step"]) for row in account["rows"]]
    rows += [(f"PyTorch {name}", t["forward"], t["step"]) for name, t in account["torch"].items()]
    return ["", f"{'':<28}{'forward, s':>12}{'step, s':>10}"] + [
        f"{name:<28}{forward:>12.2f}{step:>10.2f}" for name, forward, step in rows
    ]


def roofline(result: dict[str, Any], path: Path) -> None:
    """Each layer as a point: operations a second over operations a byte, with the limit.

    Operations are those of the direct convolution, so an algorithm that needs fewer may
    lie above the limit.

    Parameters
    ----------
    result : dict
        With ``layers``, ``gemm_rate`` and ``copy_rate``.
    path : pathlib.Path
        PNG or SVG, by its suffix.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    styles = {
        "auto": ("unet_np", "o", "#0072B2"),
        "im2col": ("im2col", "^", "#D55E00"),
        "torch channels_last": ("PyTorch, channels last", "s", "#009E73"),
        "torch nchw": ("PyTorch, NCHW", "D", "#CC79A7"),
    }
    for name, (label, marker, colour) in styles.items():
        points = [
            (row["operations"] / row["bytes"], row["operations"] / row["forward"][name] / 1e9)
            for row in result["layers"]
        ]
        axes.plot(*zip(*points, strict=True), marker, color=colour, label=label, ms=6, alpha=0.85)
    limit, memory = result["gemm_rate"] / 1e9, result["copy_rate"] / 1e9
    corner = limit / memory
    axes.plot([1, corner, 2000], [memory, limit, limit], color="#555555", lw=1, zorder=0)
    axes.annotate(
        f"matrix product: {limit:.0f} GFLOP/s; memory: {memory:.0f} GB/s",
        (corner, limit),
        xytext=(-60, 6),
        textcoords="offset points",
    )
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="operations for each byte of input, weights and output",
        ylabel="GFLOP/s, counted as a direct convolution",
    )
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=150)
