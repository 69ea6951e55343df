"""The machine: its GPU, CUDA streams, processor."""
