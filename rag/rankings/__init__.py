"""Rankings: one file each, named in YAML by the file's name."""
