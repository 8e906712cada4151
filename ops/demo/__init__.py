"""`millstream demo`: the main job shown on a real Kafka in about a minute, and every result recounted. Start with `story.py`."""
