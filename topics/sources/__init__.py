"""Sources: what is outside Kafka, as records of a topic. One file each, named as in YAML; the protocol is `topics/source.py`."""
