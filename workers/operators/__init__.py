"""One step, one file, named as in YAML."""
