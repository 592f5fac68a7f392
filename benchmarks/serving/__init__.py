"""What serving costs: a real Triton server beside the same model in-process and a no-op model."""
