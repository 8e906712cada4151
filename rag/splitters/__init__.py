"""Splitters: a text to the texts of its chunks. One file each, named as in YAML; the protocol is `rag/splitter.py`."""
