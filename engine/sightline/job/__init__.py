"""Resumable batch output: shards and a manifest on disk, written so that a crash loses at most one shard.

``run`` drives a job, ``output`` writes one, ``reader`` opens a finished or unfinished one.
"""
