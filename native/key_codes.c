/* A dictionary of texts: each gets a number at first sight, 0, 1, 2 ... What it is made of is the caller's memory:
 *
 *   table     open addressing with linear probing, a power of two of entries, at most half of them taken
 *   arena     texts one behind the other, each behind its length in four bytes
 *   places    code -> where its text begins in the arena
 *
 * With millions of keys nearly every look is at memory that no cache holds. So a look-up goes over AT_ONCE keys together: first
 * all hashes, then all entries, then all texts, each asked for (prefetched) before it is needed. */
#include "columns.h"

#define AT_ONCE 16

typedef struct {
    uint32_t hash;
    uint32_t code; /* + 1; 0: the entry is free */
    uint64_t place;
} entry;

typedef struct {
    entry *table;
    int64_t capacity;
    uint8_t *arena;
    int64_t arena_bytes;
    uint64_t *places;
    uint64_t seed;
    int64_t size; /* codes given */
    int64_t used; /* bytes of the arena */
} dictionary;

static inline uint64_t mixed(uint64_t a, uint64_t b) {
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* Multiply and fold, after wyhash (Wang Yi, public domain). */
static inline uint32_t hash_of(const uint8_t *text, int64_t length, uint64_t seed) {
    uint64_t hash = seed ^ mixed((uint64_t)length ^ 0x9e3779b97f4a7c15u, 0xe7037ed1a0b428dbu), rest = 0;
    for (; length >= 8; length -= 8, text += 8) hash = mixed(load64(text) ^ hash, 0x8ebc6af09c88c6e3u);
    if (length) memcpy(&rest, text, (size_t)length);
    hash = mixed(rest ^ hash ^ 0x589965cc75374cc3u, 0xa0761d6478bd642fu);
    return (uint32_t)(hash ^ hash >> 32);
}

/* Entry of the text, or the free one where it belongs. There is always a free one: at most half are taken. */
static inline entry *entry_of(const dictionary *of, uint32_t hash, const uint8_t *text, uint32_t length) {
    const uint64_t mask = (uint64_t)of->capacity - 1;
    for (uint64_t slot = hash & mask;; slot = (slot + 1) & mask) {
        entry *at = of->table + slot;
        if (!at->code) return at;
        const uint8_t *held = of->arena + at->place;
        if (at->hash == hash && load32(held) == length && (!length || !memcmp(held + 4, text, length))) return at;
    }
}

static void prefetch_text(const dictionary *of, uint32_t hash) {
    const uint64_t mask = (uint64_t)of->capacity - 1;
    uint64_t slot = hash & mask;
    while (of->table[slot].code && of->table[slot].hash != hash) slot = (slot + 1) & mask;
    if (of->table[slot].code) __builtin_prefetch(of->arena + of->table[slot].place);
}

/* The codes of the keys [first, rows), new ones given. Stops before a new key for which there is no room, in the table or in the
 * arena, and returns its row: the caller makes room (state.size and state.used say where) and calls again. Keys have no nulls
 * and are shorter than 4 GiB (native/key_codes.py). */
PUBLIC int64_t ms_key_codes(dictionary *of, const binary_column *keys, int64_t first, int64_t rows, uint32_t *codes) {
    const uint64_t mask = (uint64_t)of->capacity - 1;
    uint32_t hashes[AT_ONCE];
    for (int64_t begin = first; begin < rows; begin += AT_ONCE) {
        const int64_t end = begin + AT_ONCE < rows ? begin + AT_ONCE : rows;
        const int64_t *at = keys->offsets + begin;
        for (int64_t i = 0; i < end - begin; i++) {
            hashes[i] = hash_of(keys->data + at[i], at[i + 1] - at[i], of->seed);
            __builtin_prefetch(of->table + (hashes[i] & mask));
        }
        for (int64_t i = 0; i < end - begin; i++) prefetch_text(of, hashes[i]);
        for (int64_t i = 0; i < end - begin; i++) {
            const uint8_t *text = keys->data + at[i];
            const uint32_t length = (uint32_t)(at[i + 1] - at[i]);
            entry *found = entry_of(of, hashes[i], text, length);
            if (!found->code) {
                if (2 * (of->size + 1) > of->capacity || of->used + 4 + length > of->arena_bytes) return begin + i;
                memcpy(of->arena + of->used, &length, 4);
                if (length) memcpy(of->arena + of->used + 4, text, length);
                of->places[of->size] = (uint64_t)of->used;
                *found = (entry){hashes[i], (uint32_t)++of->size, (uint64_t)of->used};
                of->used += 4 + length;
            }
            codes[begin + i] = found->code - 1;
        }
    }
    return rows;
}

/* All entries into a larger, empty table. */
PUBLIC void ms_key_rehash(const entry *old, int64_t old_capacity, entry *table, int64_t capacity) {
    const uint64_t mask = (uint64_t)capacity - 1;
    for (const entry *one = old; one < old + old_capacity; one++) {
        if (!one->code) continue;
        uint64_t slot = one->hash & mask;
        while (table[slot].code) slot = (slot + 1) & mask;
        table[slot] = *one;
    }
}

/* Where each of these codes' texts begins when they stand one behind the other; returns the bytes of all. Codes are below size. */
PUBLIC int64_t ms_key_lengths(const dictionary *of, const uint32_t *codes, int64_t rows, int64_t *offsets) {
    int64_t bytes = 0;
    for (int64_t row = 0; row < rows; row++) {
        if (row + 2 * AT_ONCE < rows) __builtin_prefetch(of->places + codes[row + 2 * AT_ONCE]);
        if (row + AT_ONCE < rows) __builtin_prefetch(of->arena + of->places[codes[row + AT_ONCE]]);
        offsets[row] = bytes;
        bytes += load32(of->arena + of->places[codes[row]]);
    }
    offsets[rows] = bytes;
    return bytes;
}

/* These texts, at the offsets that ms_key_lengths gave. */
PUBLIC void ms_key_texts(const dictionary *of, const uint32_t *codes, int64_t rows, const int64_t *offsets, uint8_t *texts) {
    for (int64_t row = 0; row < rows; row++) {
        const int64_t length = offsets[row + 1] - offsets[row];
        if (length) memcpy(texts + offsets[row], of->arena + of->places[codes[row]] + 4, (size_t)length);
    }
}
