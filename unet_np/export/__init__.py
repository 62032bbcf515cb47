"""The network for other people's tools: ONNX and PyTorch."""
