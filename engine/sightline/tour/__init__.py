"""A walk through what a network sees, each step a question answered by a measurement on the network itself."""
