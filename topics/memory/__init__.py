"""The in-memory broker. It ships for users' tests: a pipeline that is right on it is right on Kafka."""

from .broker import MemoryBroker
from .clock import MemoryClock
from .cluster import MemorySettings
from .faults import Faults

__all__ = ["Faults", "MemoryBroker", "MemoryClock", "MemorySettings"]
