"""See what a convolutional network looks at."""

__version__ = "0.1.0"
