"""Questions about a candidate, one file each."""
