"""The k-th lowest of keys, which a block of threads finds."""
