"""Textures from a sample: one file per method."""
