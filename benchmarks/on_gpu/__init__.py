"""Parts of the benchmark of a GPU; see ``benchmarks/gpu.py``."""
