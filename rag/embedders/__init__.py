"""Embedders: texts to vectors of length one. One file each, named as in YAML; the protocol is `rag/embedder.py`."""
