"""Textures block by block: overlapping blocks of a sample, joined along the line where they differ least."""
