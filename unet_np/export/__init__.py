"""The network for other people's tools: ONNX, PyTorch and the BioImage Model Zoo."""

from unet_np.export.bioimageio import About, save_bioimageio
from unet_np.export.onnx_model import save_onnx, to_onnx
from unet_np.export.torch_folder import save_torch
from unet_np.export.torch_model import to_torch

__all__ = ["About", "save_bioimageio", "save_onnx", "save_torch", "to_onnx", "to_torch"]
