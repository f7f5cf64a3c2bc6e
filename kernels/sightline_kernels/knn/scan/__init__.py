"""One thread's way over a piece of the bank: bounds for every row, exact keys for those that may be near."""
