"""Window kinds, one a file: `tumbling`, `hopping`, `cumulative`, `session`. Their protocol is `workers/window.py`."""
