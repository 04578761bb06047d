"""The dream of a run as files that need no Python: networks as ONNX, and a page around them."""
