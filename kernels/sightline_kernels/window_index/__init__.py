"""Where each row of a rectangle of a map comes from: the map itself, a window pasted over it, or outside."""
