/* MurmurHash2, 32 bits, seed 0x9747b28c (Austin Appleby), as org.apache.kafka.common.utils.Utils.murmur2 computes it. */
#include "columns.h"

#define SEED 0x9747b28cu
#define M 0x5bd1e995u

static inline uint32_t murmur2(const uint8_t *key, int64_t length) {
    uint32_t hash = SEED ^ (uint32_t)length;
    const uint8_t *const tail = key + (length & ~(int64_t)3);
    for (; key < tail; key += 4) {
        uint32_t word = load32(key) * M;
        hash = hash * M ^ (word ^ word >> 24) * M;
    }
    switch (length & 3) {
        case 3: hash ^= (uint32_t)tail[2] << 16; /* fall through */
        case 2: hash ^= (uint32_t)tail[1] << 8;  /* fall through */
        case 1: hash = (hash ^ tail[0]) * M;
    }
    hash = (hash ^ hash >> 13) * M;
    return hash ^ hash >> 15;
}

/* Of each value; of a null 0. */
PUBLIC void ms_murmur2(const binary_column *keys, int64_t rows, uint32_t *hashes) {
    for (int64_t row = 0; row < rows; row++) {
        int valid = is_valid(keys->valid, keys->first_bit, row);
        const int64_t *at = keys->offsets + row;
        hashes[row] = valid ? murmur2(keys->data + at[0], at[1] - at[0]) : 0;
    }
}
