"""A bank's rows, made ready for products."""
