"""Random smooth masks, made from a seed where they are used: laid over an image, and added up by score."""
