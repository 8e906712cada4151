"""Window kinds, one a file: `tumbling`, `hopping`, `cumulative`, `session`, `count`. Their protocol is `workers/window.py`."""
