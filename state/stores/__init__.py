"""Where stores keep their bytes: `rocksdb` on disk, `memory` for tests and bounded runs."""
