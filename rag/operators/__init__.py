"""The steps of the document pipeline: `ingest` and `answer`."""
