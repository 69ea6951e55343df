"""TensorRT engines: versions, building, inspection, cache."""
