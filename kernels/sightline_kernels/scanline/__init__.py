"""Textures pixel by pixel, from the nearest neighbourhoods of a sample: grown, closed where they have holes, tiled."""
