"""Adversarial examples: what counts as fooled, the images that do it, and how robust a network is. No torch here."""
