"""Parsers: bytes of one document to its text. One file each, named as in YAML; the protocol is `rag/parser.py`."""
