"""How local state is kept: sizes and intervals of one process, as a value."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class StateSettings:
    """Limits of one process; the caches are shared by all its tasks. Raises ValueError for what cannot be."""

    block_cache_bytes: int = 128 * MIB
    """Blocks read from disk, indexes and filters, and the memtables below: all within this."""

    write_buffers_bytes: int = 64 * MIB
    """Memtables of all stores of the process together; beyond it the oldest are flushed."""

    store_write_buffer_bytes: int = 16 * MIB
    """One memtable of one store."""

    open_files_max: int = 256
    """Open table files of one task's database."""

    checkpoint_interval_ms: int = 10_000
    """Committed state is written to the database at least so often, if there is any."""

    checkpoint_bytes_max: int = 64 * MIB
    """Or as soon as so many bytes of committed changes are not in the database yet: they live in memory meanwhile,
    and a restart replays them from the changelog."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) <= 0:
                raise ValueError(f"state setting {name} must be above 0, got {getattr(self, name)}")
        if self.write_buffers_bytes > self.block_cache_bytes:
            raise ValueError(
                f"write_buffers_bytes ({self.write_buffers_bytes}) count into block_cache_bytes "
                f"({self.block_cache_bytes}) and must not be above it"
            )
