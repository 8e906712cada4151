"""A document pipeline under the names that other frameworks know. Each file needs its extra, and only that file does."""
