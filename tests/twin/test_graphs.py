"""Whole networks: ONNX's model zoo, torchvision's families, and SqueezeNet with its real weights."""
