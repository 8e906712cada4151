"""Vector indexes. One file each, named as in YAML; the protocol is `rag/index.py`."""
