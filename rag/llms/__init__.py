"""Language models: a prompt to an answer. One file each, named as in YAML; the protocol is `rag/llm.py`."""
