"""How kernels are asked for."""
