"""Window kinds, one a file: `tumbling`, `hopping`, `session`. Their protocol is `workers/window.py`."""
