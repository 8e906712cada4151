"""Millstream: a Kafka-native stream processor for live data and live answers."""
