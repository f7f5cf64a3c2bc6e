"""Textures pixel by pixel, from the nearest neighbourhoods of a sample: grown, mended, tiled."""
