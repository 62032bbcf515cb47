"""The network for other people's tools: ONNX and PyTorch."""

from unet_np.export.onnx_model import save_onnx, to_onnx
from unet_np.export.torch_folder import save_torch
from unet_np.export.torch_model import to_torch

__all__ = ["save_onnx", "save_torch", "to_onnx", "to_torch"]
