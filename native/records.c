/* Kafka records (format v2), inside a record batch and uncompressed: parsed into positions, and built from columns.
 *
 *   record: length | attributes int8 | timestamp delta | offset delta | key length | key | value length | value
 *           | header count | headers            all numbers zigzag varints, a length of -1 is null
 */
#include "columns.h"

#define MALFORMED (-1)

/* The number at `at`, or MALFORMED where it does not end before `end` or is longer than 64 bits. */
static inline int64_t read_varint(const uint8_t *body, int64_t at, int64_t end, int64_t *number) {
    uint64_t bits = 0;
    for (int shift = 0; shift < 70 && at < end; shift += 7) {
        uint8_t byte = body[at++];
        if (shift == 63 && byte > 1) return MALFORMED;
        bits |= (uint64_t)(byte & 127) << shift;
        if (!(byte & 128)) {
            *number = (int64_t)(bits >> 1) ^ -(int64_t)(bits & 1);
            return at;
        }
    }
    return MALFORMED;
}

/* A length and where its bytes begin; a null has the length -1. Gives where they end. */
static inline int64_t read_bytes(const uint8_t *body, int64_t at, int64_t end, int64_t *begin, int64_t *length) {
    at = read_varint(body, at, end, length);
    if (at < 0 || *length < -1 || *length > end - at) return MALFORMED;
    *begin = at;
    return *length < 0 ? at : at + *length;
}

/* `count` records in body[0 .. size). Arrays have `count` rows. Gives the number of records that have headers (which are
 * skipped), or -1 - row at the first record that is malformed. Bytes behind the last record are malformed too. */
PUBLIC int64_t ms_parse_records(const uint8_t *body, int64_t size, int64_t count, int64_t *key_at, int64_t *key_length,
                                int64_t *value_at, int64_t *value_length, int64_t *time_delta, int64_t *offset_delta) {
    int64_t at = 0, with_headers = 0;
    for (int64_t row = 0; row < count; row++) {
        int64_t length, headers;
        at = read_varint(body, at, size, &length);
        if (at < 0 || length < 1 || length > size - at) return -1 - row;
        int64_t end = at + length;
        at++; /* attributes: none are defined */
        if ((at = read_varint(body, at, end, time_delta + row)) < 0) return -1 - row;
        if ((at = read_varint(body, at, end, offset_delta + row)) < 0) return -1 - row;
        if ((at = read_bytes(body, at, end, key_at + row, key_length + row)) < 0) return -1 - row;
        if ((at = read_bytes(body, at, end, value_at + row, value_length + row)) < 0) return -1 - row;
        if ((at = read_varint(body, at, end, &headers)) < 0 || headers < 0) return -1 - row;
        if (headers == 0 && at != end) return -1 - row;
        with_headers += headers > 0;
        at = end;
    }
    return at == size ? with_headers : -1 - count;
}

static inline uint8_t *write_varint(uint8_t *out, int64_t number) {
    uint64_t bits = ((uint64_t)number << 1) ^ (uint64_t)(number >> 63);
    while (bits > 127) {
        *out++ = (uint8_t)(bits | 128);
        bits >>= 7;
    }
    *out++ = (uint8_t)bits;
    return out;
}

static inline int varint_size(int64_t number) {
    uint64_t bits = ((uint64_t)number << 1) ^ (uint64_t)(number >> 63);
    int size = 1;
    while (bits > 127) {
        size++;
        bits >>= 7;
    }
    return size;
}

static inline int64_t length_of(const binary_column *column, int64_t row) {
    if (!column || !is_valid(column->valid, column->first_bit, row)) return -1;
    return column->offsets[row + 1] - column->offsets[row];
}

static inline uint8_t *write_bytes(uint8_t *out, const binary_column *column, int64_t row, int64_t length) {
    out = write_varint(out, length);
    if (length > 0) {
        memcpy(out, column->data + column->offsets[row], (size_t)length);
        out += length;
    }
    return out;
}

/* Rows [start, end) as records. `keys` NULL: every key is null. `headers`: each row's, count included, as bytes, or NULL.
 * `times`: a row's timestamp, or NULL for `first_ms` in all. `out` must hold for each row its key, value and headers and
 * 40 bytes more (four varints of at most 10 bytes would be 42 with what else there is: offset deltas have at most 5).
 * Gives the bytes written. */
PUBLIC int64_t ms_build_records(int64_t start, int64_t end, const binary_column *keys, const binary_column *values,
                                const binary_column *headers, const int64_t *times, int64_t first_ms, uint8_t *out) {
    uint8_t *const begin = out;
    for (int64_t row = start; row < end; row++) {
        int64_t key = length_of(keys, row), value = length_of(values, row), header = headers ? length_of(headers, row) : 1;
        int64_t delta = times ? times[row] - first_ms : 0, offset = row - start;
        int64_t length = 1 + varint_size(delta) + varint_size(offset) + varint_size(key) + (key > 0 ? key : 0) +
                         varint_size(value) + (value > 0 ? value : 0) + header;
        out = write_varint(out, length);
        *out++ = 0;
        out = write_varint(out, delta);
        out = write_varint(out, offset);
        out = write_bytes(out, keys, row, key);
        out = write_bytes(out, values, row, value);
        if (headers) {
            memcpy(out, headers->data + headers->offsets[row], (size_t)header);
            out += header;
        } else {
            *out++ = 0;
        }
    }
    return out - begin;
}

/* Bytes at [starts, starts + lengths) one behind the other, as a LargeBinary: offsets has one entry more than there are
 * rows, `out` holds the sum of the lengths that are not negative. Lengths of -1 are null, and take no room. */
PUBLIC void ms_gather(const uint8_t *data, const int64_t *starts, const int64_t *lengths, int64_t rows, int64_t *offsets,
                      uint8_t *out) {
    int64_t at = 0;
    for (int64_t row = 0; row < rows; row++) {
        offsets[row] = at;
        if (lengths[row] > 0) {
            memcpy(out + at, data + starts[row], (size_t)lengths[row]);
            at += lengths[row];
        }
    }
    offsets[rows] = at;
}
