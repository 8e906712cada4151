/* Columns into JSON objects, one a row, written straight into a LargeBinary column. */
#include "columns.h"

enum { RAW, TEXT, INT64, UINT64, FLOAT64 };

/* One column: `prefix` is what stands before each value (`{"name":` or `,"name":`). RAW is JSON already, TEXT is to be quoted;
 * both are views whose far texts lie in `buffers`. A value that is not valid is null. */
typedef struct {
    const uint8_t *prefix;
    int64_t prefix_length;
    const void *values;
    const uint8_t *valid;
    int64_t first_bit;
    const uint8_t *const *buffers;
    int32_t kind;
} cells;

static const uint8_t *text_at(const cells *column, int64_t row, int64_t *length) {
    const view *one = (const view *)column->values + row;
    *length = one->length;
    return *length <= 12 ? one->text.inlined : column->buffers[one->text.far.buffer] + one->text.far.offset;
}

/* Bytes that the rows take at most: a character is escaped by up to 6, a number has up to 24. */
PUBLIC int64_t ms_json_bytes_max(const cells *columns, int32_t count, int64_t rows) {
    int64_t bytes = rows;
    for (int32_t number = 0; number < count; number++) {
        const cells *column = columns + number;
        bytes += rows * (column->prefix_length + 24);
        if (column->kind > TEXT) continue;
        const view *views = column->values;
        int64_t widest = column->kind == TEXT ? 6 : 1;
        for (int64_t row = 0; row < rows; row++)
            if (is_valid(column->valid, column->first_bit, row)) bytes += views[row].length * widest;
    }
    return bytes;
}

static inline uint8_t *put(uint8_t *out, const void *bytes, int64_t length) {
    memcpy(out, bytes, (size_t)length);
    return out + length;
}

/* Whether one of eight bytes is a quote, a backslash or a control character. */
static inline uint64_t special(uint64_t word) {
    const uint64_t ones = 0x0101010101010101u, high = 0x8080808080808080u;
    uint64_t quote = word ^ (ones * '"'), slash = word ^ (ones * '\\');
    return (((quote - ones) & ~quote) | ((slash - ones) & ~slash) | ((word - ones * 0x20) & ~word)) & high;
}

static uint8_t *put_escaped(uint8_t *out, uint8_t byte) {
    static const char hex[] = "0123456789abcdef";
    static const char named[] = "\"\"\\\\\bb\ff\nn\rr\tt";
    for (const char *one = named; *one; one += 2)
        if ((uint8_t)*one == byte) {
            *out++ = '\\';
            *out++ = (uint8_t)one[1];
            return out;
        }
    if (byte >= 0x20) {
        *out++ = byte;
        return out;
    }
    out = put(out, "\\u00", 4);
    *out++ = (uint8_t)hex[byte >> 4];
    *out++ = (uint8_t)hex[byte & 15];
    return out;
}

static uint8_t *put_text(uint8_t *out, const uint8_t *text, int64_t length) {
    int64_t at = 0;
    *out++ = '"';
    while (at < length) {
        for (; at + 8 <= length && !special(load64(text + at)); at += 8) memcpy(out, text + at, 8), out += 8;
        int64_t stop = at + 8 < length ? at + 8 : length;
        for (; at < stop; at++) {
            uint8_t byte = text[at];
            if (byte < 0x20 || byte == '"' || byte == '\\') out = put_escaped(out, byte);
            else *out++ = byte;
        }
    }
    *out++ = '"';
    return out;
}

static uint8_t *put_digits(uint8_t *out, uint64_t number) {
    static const char pairs[] =
        "00010203040506070809101112131415161718192021222324252627282930313233343536373839404142434445464748495051525354555657585960"
        "616263646566676869707172737475767778798081828384858687888990919293949596979899";
    uint8_t digits[20];
    int at = 20;
    for (; number >= 100; number /= 100) memcpy(digits + (at -= 2), pairs + number % 100 * 2, 2);
    if (number >= 10) memcpy(digits + (at -= 2), pairs + number * 2, 2);
    else digits[--at] = (uint8_t)('0' + number);
    return put(out, digits + at, 20 - at);
}

static uint8_t *put_integer(uint8_t *out, int64_t number) {
    if (number < 0) *out++ = '-';
    return put_digits(out, number < 0 ? 0 - (uint64_t)number : (uint64_t)number);
}

/* A double that has at most 15 digits, 8 of them behind the point: then no other such decimal reads back to it, so the one with
 * fewest is the shortest text. Gives NULL for any other double, which Python writes. */
static uint8_t *put_short_decimal(uint8_t *out, double number) {
    static const double powers[] = {1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8};
    static const uint64_t whole_powers[] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000};
    uint64_t sign;
    memcpy(&sign, &number, 8);
    double size = sign >> 63 ? -number : number;
    if (!(size < 1e15) || (size < 1e-3 && size != 0)) return 0;
    for (int places = 0; places <= 8; places++) {
        double scaled = size * powers[places];
        if (scaled >= 1e15) return 0;
        uint64_t mantissa = (uint64_t)(scaled + 0.5);
        if ((double)mantissa / powers[places] != size) continue;
        if (sign >> 63) *out++ = '-';
        out = put_digits(out, mantissa / whole_powers[places]);
        *out++ = '.';
        uint64_t fraction = mantissa % whole_powers[places];
        int width = places ? places : 1;
        for (int place = width - 1; place >= 0; place--, fraction /= 10) out[place] = (uint8_t)('0' + fraction % 10);
        return out + width;
    }
    return 0;
}

static uint8_t *put_float(uint8_t *out, double number) {
    return number - number == 0 ? put_short_decimal(out, number) : put(out, "null", 4);
}

/* Writes row after row; `offsets` has one entry more than there are rows. Gives the bytes written, or -1 - column where a
 * float is no short decimal: the column is to be given as RAW then. */
PUBLIC int64_t ms_write_json(const cells *columns, int32_t count, int64_t rows, int64_t *offsets, uint8_t *const begin) {
    uint8_t *out = begin;
    offsets[0] = 0;
    for (int64_t row = 0; row < rows; row++) {
        for (int32_t number = 0; number < count; number++) {
            const cells *column = columns + number;
            const uint8_t *text;
            int64_t length;
            out = put(out, column->prefix, column->prefix_length);
            if (!is_valid(column->valid, column->first_bit, row)) {
                out = put(out, "null", 4);
                continue;
            }
            switch (column->kind) {
                case RAW:
                    text = text_at(column, row, &length);
                    out = put(out, text, length);
                    break;
                case TEXT:
                    text = text_at(column, row, &length);
                    out = put_text(out, text, length);
                    break;
                case INT64: out = put_integer(out, ((const int64_t *)column->values)[row]); break;
                case UINT64: out = put_digits(out, ((const uint64_t *)column->values)[row]); break;
                case FLOAT64:
                    if (!(out = put_float(out, ((const double *)column->values)[row]))) return -1 - number;
            }
        }
        *out++ = '}';
        offsets[row + 1] = out - begin;
    }
    return out - begin;
}
