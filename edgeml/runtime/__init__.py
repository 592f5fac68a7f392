"""In-process inference with ONNX Runtime, and what this machine is."""
