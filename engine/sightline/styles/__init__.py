"""Styles: colours carried from picture to picture, and networks that paint in one pass."""
