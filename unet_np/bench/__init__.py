"""Speed and memory as ratios: against PyTorch, against im2col, against the machine's GEMM.

PyTorch stands here as the peer that everything is measured against; the network itself
knows nothing of it.
"""

from unet_np.bench.account import bench_account
from unet_np.bench.layers import bench_layers, layer_cases
from unet_np.bench.network import bench_memory, bench_network, bench_scaling
from unet_np.bench.timing import copy_rate, gemm_rate, interleaved, ratios

__all__ = [
    "bench_account",
    "bench_layers",
    "bench_memory",
    "bench_network",
    "bench_scaling",
    "copy_rate",
    "gemm_rate",
    "interleaved",
    "layer_cases",
    "ratios",
]
