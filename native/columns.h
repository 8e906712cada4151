/* What the parts of the native library share. No part allocates, and none keeps anything between two calls: memory comes
 * from numpy, sizes are checked by the caller named in each comment, and every read of input bytes is bounded by its end. */
#ifndef MILLSTREAM_COLUMNS_H
#define MILLSTREAM_COLUMNS_H

#include <stdint.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "words are read from bytes as little-endian machines have them; without this library Millstream works all the same"
#endif

#define PUBLIC __attribute__((visibility("default")))

/* Arrow's LargeBinary or LargeString: value i is data[offsets[i] .. offsets[i + 1]); `valid` is a bit map or NULL. */
typedef struct {
    const int64_t *offsets;
    const uint8_t *data;
    const uint8_t *valid;
    int64_t first_bit; /* of the bit map: Arrow arrays may be slices */
} binary_column;

/* Arrow's BinaryView: texts of up to 12 bytes are held in place, padded with zeros. */
typedef struct {
    int32_t length;
    union {
        uint8_t inlined[12];
        struct {
            uint8_t prefix[4];
            int32_t buffer;
            int32_t offset;
        } far;
    } text;
} view;

static inline int is_valid(const uint8_t *bits, int64_t first_bit, int64_t row) {
    int64_t at = first_bit + row;
    return !bits || (bits[at >> 3] >> (at & 7)) & 1;
}

static inline uint64_t load64(const uint8_t *at) {
    uint64_t word;
    memcpy(&word, at, 8);
    return word;
}

static inline uint32_t load32(const uint8_t *at) {
    uint32_t word;
    memcpy(&word, at, 4);
    return word;
}

#endif
