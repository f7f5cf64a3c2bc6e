"""Where the inputs of a job come from: folders, tar shards, Parquet files, URLs."""
