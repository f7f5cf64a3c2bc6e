"""The k largest numbers of every row, and where they stand."""
