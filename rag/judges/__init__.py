"""Ways to judge whether two chunks contradict each other. One file each, named as in YAML; the protocol is in `rag/contradiction.py`."""
