"""Reducers, one a file, under the names users write: `count()`, `sum("price")`. Their protocol is `workers/reducer.py`."""
