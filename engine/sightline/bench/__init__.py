"""How fast a network runs here: MLPerf-style scenarios of forward passes and of methods, and what to choose."""
