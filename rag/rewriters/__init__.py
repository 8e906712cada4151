"""Ways to rewrite a question into search queries. One file each, named as in YAML; the protocol is `rag/rewriter.py`."""
