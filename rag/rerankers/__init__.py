"""Rerankers: the best chunks in a better order. One file each, named as in YAML; the protocol is `rag/reranker.py`."""
