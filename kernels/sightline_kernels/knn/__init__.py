"""Exact nearest rows of a bank: Euclidean distance, cosine or inner product; ties go to the lowest index."""
