"""Gram matrices of maps: which channels are active together, wherever that is."""
