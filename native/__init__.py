"""The hot path's inner loops in C, each beside the Python module that calls it; without them Python does the same, slower."""
