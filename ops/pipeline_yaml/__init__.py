"""Pipelines as YAML: the same graph as the fluent face makes, every error with file and line, and no code executed."""
