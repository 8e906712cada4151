/* JSON objects into columns, one record at a time, copying nothing but texts of more than 12 bytes.
 *
 * It reads what is surely right and leaves everything else alone: a record that is not plain JSON of the schema's shape is
 * marked `doubtful`, and Python reads it again by the rule (json_values.py), which also says why a bad one is bad. So this
 * file has no errors, and may doubt whatever would be hard to get exactly right:
 *
 *   a name of the schema twice, names with escapes, surrogates, integers of more than 18 digits or out of their type's
 *   range, values of another type, numbers that are not finite, nesting of more than 32 levels.
 */
#include "columns.h"

#include <math.h>
#include <stdlib.h>

enum { TEXT, BOOLEAN, FLOAT64, FLOAT32, INT8, INT16, INT32, INT64, UINT8, UINT16, UINT32, UINT64 };

#define DOUBT (-1)
#define DEPTH_MAX 32
#define NUMBER_MAX 48 /* characters of a number that strtod is asked about */

/* One field of the schema. `values`, `valid` (a byte a row) and, of TEXT, `text` (as long as all input) are written. */
typedef struct {
    const uint8_t *name;
    int64_t name_length;
    void *values;
    uint8_t *valid;
    uint8_t *text;
    int64_t text_used;
    int32_t kind;
} field;

typedef struct {
    const uint8_t *bytes;
    int64_t end;
} input;

static inline int64_t blanks(const input *in, int64_t at) {
    while (at < in->end && (in->bytes[at] == ' ' || in->bytes[at] == '\n' || in->bytes[at] == '\r' || in->bytes[at] == '\t'))
        at++;
    return at;
}

/* Whether one of eight bytes is a quote, a backslash, a control character or not ASCII. */
static inline uint64_t special(uint64_t word) {
    const uint64_t ones = 0x0101010101010101u, high = 0x8080808080808080u;
    uint64_t quote = word ^ (ones * '"'), slash = word ^ (ones * '\\');
    return (((quote - ones) & ~quote) | ((slash - ones) & ~slash) | (word - ones * 0x20) | word) & high;
}

/* The lowest byte that is marked: there are wrong marks, but only above a right one. */
static inline int64_t first_byte(uint64_t marks) { return __builtin_ctzll(marks) >> 3; }

/* Length of the UTF-8 sequence of a character beyond ASCII, or DOUBT (Unicode 15, table 3-7: well-formed sequences). */
static int64_t utf8_length(const uint8_t *at, int64_t left) {
    uint8_t first = at[0];
    uint8_t low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80, high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
    int64_t length = first < 0xC2 ? 0 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : first < 0xF5 ? 4 : 0;
    if (!length || left < length || at[1] < low || at[1] > high) return DOUBT;
    for (int64_t more = 2; more < length; more++)
        if ((at[more] & 0xC0) != 0x80) return DOUBT;
    return length;
}

/* From behind the opening quote to the closing quote or the first backslash, whichever comes first. */
static int64_t plain_end(const input *in, int64_t at) {
    for (;;) {
        uint64_t found = 0;
        while (at + 8 <= in->end && !(found = special(load64(in->bytes + at)))) at += 8;
        if (found) at += first_byte(found);
        if (at >= in->end) return DOUBT;
        uint8_t byte = in->bytes[at];
        if (byte == '"' || byte == '\\') return at;
        if (byte < 0x20) return DOUBT;
        if (byte < 0x80) {
            at++;
            continue;
        }
        int64_t length = utf8_length(in->bytes + at, in->end - at);
        if (length < 0) return DOUBT;
        at += length;
    }
}

static int32_t hex4(const uint8_t *at) {
    int32_t number = 0;
    for (int digit = 0; digit < 4; digit++) {
        uint8_t byte = at[digit], lower = byte | 0x20;
        if (byte >= '0' && byte <= '9') number = number * 16 + (byte - '0');
        else if (lower >= 'a' && lower <= 'f') number = number * 16 + (lower - 'a' + 10);
        else return DOUBT;
    }
    return number;
}

/* One escape; `at` is behind the backslash. Writes up to 3 bytes where `out` is given, fewer than the escape has. */
static int64_t unescape(const input *in, int64_t at, uint8_t *out, int64_t *written) {
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    if (at >= in->end) return DOUBT;
    uint8_t byte = in->bytes[at];
    if (byte != 'u') {
        const char *found = byte ? strchr(names, byte) : 0;
        if (!found) return DOUBT;
        if (out) out[0] = (uint8_t)values[found - names];
        *written = 1;
        return at + 1;
    }
    int32_t code = in->end - at < 5 ? DOUBT : hex4(in->bytes + at + 1);
    if (code < 0 || (code >= 0xD800 && code < 0xE000)) return DOUBT;
    *written = code < 0x80 ? 1 : code < 0x800 ? 2 : 3;
    if (out && *written == 1) out[0] = (uint8_t)code;
    if (out && *written == 2) out[0] = (uint8_t)(0xC0 | code >> 6), out[1] = (uint8_t)(0x80 | (code & 63));
    if (out && *written == 3)
        out[0] = (uint8_t)(0xE0 | code >> 12), out[1] = (uint8_t)(0x80 | (code >> 6 & 63)), out[2] = (uint8_t)(0x80 | (code & 63));
    return at + 5;
}

/* A string of which `at` is behind the opening quote: to behind the closing one. Its text goes to `out` where given. */
static int64_t string_end(const input *in, int64_t at, uint8_t *out, int64_t *length) {
    int64_t used = 0, written = 0;
    for (;;) {
        int64_t stop = plain_end(in, at);
        if (stop < 0) return DOUBT;
        if (out) memcpy(out + used, in->bytes + at, (size_t)(stop - at));
        used += stop - at;
        at = stop + 1;
        if (in->bytes[stop] == '"') break;
        at = unescape(in, at, out ? out + used : 0, &written);
        if (at < 0) return DOUBT;
        used += written;
    }
    *length = used;
    return at;
}

static void put_view(view *into, const uint8_t *text, int64_t length, int64_t offset) {
    memset(into, 0, sizeof *into);
    into->length = (int32_t)length;
    if (length <= 12) {
        memcpy(into->text.inlined, text, (size_t)length);
    } else {
        memcpy(into->text.far.prefix, text, 4);
        into->text.far.offset = (int32_t)offset;
    }
}

static int64_t read_text(const input *in, int64_t at, field *into, int64_t row) {
    view *views = into->values;
    if (at >= in->end || in->bytes[at] != '"') return DOUBT;
    int64_t stop = plain_end(in, ++at), length;
    if (stop < 0) return DOUBT;
    uint8_t *text = into->text + into->text_used;
    if (in->bytes[stop] == '"') {
        length = stop - at;
        put_view(views + row, in->bytes + at, length, into->text_used);
        if (length > 12) memcpy(text, in->bytes + at, (size_t)length);
        at = stop + 1;
    } else {
        at = string_end(in, at, text, &length);
        if (at < 0) return DOUBT;
        put_view(views + row, text, length, into->text_used);
    }
    if (length > 12) into->text_used += length;
    return at;
}

/* A number's parts, by JSON's grammar. `digits`: of the mantissa, without leading zeros; exact up to 18 of them. */
typedef struct {
    uint64_t mantissa;
    int digits, exponent, negative, whole;
} number;

static inline int digit_at(const input *in, int64_t at) { return at < in->end && in->bytes[at] >= '0' && in->bytes[at] <= '9'; }

static inline int64_t read_digits(const input *in, int64_t at, number *into) {
    for (; digit_at(in, at); at++) {
        int digit = in->bytes[at] - '0';
        if (into->digits < 19) into->mantissa = into->mantissa * 10 + (uint64_t)digit;
        into->digits += into->digits > 0 || digit > 0;
    }
    return at;
}

static int64_t read_number(const input *in, int64_t at, number *into) {
    memset(into, 0, sizeof *into);
    into->whole = 1;
    if (at < in->end && in->bytes[at] == '-') into->negative = 1, at++;
    if (!digit_at(in, at)) return DOUBT;
    if (in->bytes[at] == '0' && digit_at(in, at + 1)) return DOUBT;
    at = read_digits(in, at, into);
    if (at < in->end && in->bytes[at] == '.') {
        into->whole = 0;
        if (!digit_at(in, ++at)) return DOUBT;
        int64_t begin = at;
        at = read_digits(in, at, into);
        if (at - begin > 1000) return DOUBT;
        into->exponent = -(int)(at - begin);
    }
    if (at < in->end && (in->bytes[at] | 0x20) == 'e') {
        into->whole = 0;
        int negative = 0, exponent = 0;
        at++;
        if (at < in->end && (in->bytes[at] == '-' || in->bytes[at] == '+')) negative = in->bytes[at++] == '-';
        if (!digit_at(in, at)) return DOUBT;
        for (; digit_at(in, at); at++)
            if (exponent < 10000) exponent = exponent * 10 + (in->bytes[at] - '0');
        into->exponent += negative ? -exponent : exponent;
    }
    return at;
}

/* William Clinger, "How to read floating point numbers accurately" (1990): where mantissa and power of ten are both exact in
 * a double, one multiplication or division rounds correctly. Everything else is the C library's. */
static int to_double(const number *n, const uint8_t *text, int64_t length, double *value) {
    static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                    1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    if (n->digits <= 18 && n->mantissa <= (1ull << 53) && n->exponent >= -22 && n->exponent <= 22) {
        double exact = (double)n->mantissa;
        exact = n->exponent < 0 ? exact / powers[-n->exponent] : exact * powers[n->exponent];
        *value = n->negative ? -exact : exact;
        return 1;
    }
    char copy[NUMBER_MAX + 1], *stop;
    if (length > NUMBER_MAX) return 0;
    memcpy(copy, text, (size_t)length);
    copy[length] = 0;
    *value = strtod(copy, &stop); /* stops early under a locale whose point is a comma: then Python reads it */
    return stop == copy + length && isfinite(*value);
}

static int64_t read_float(const input *in, int64_t at, field *into, int64_t row) {
    number n;
    double value;
    int64_t end = read_number(in, at, &n);
    if (end < 0 || (n.whole && n.negative && !n.digits)) return DOUBT; /* -0 is an integer to some, a float to others */
    if (!to_double(&n, in->bytes + at, end - at, &value)) return DOUBT;
    if (into->kind == FLOAT64) {
        ((double *)into->values)[row] = value;
        return end;
    }
    if (fabs(value) > 3.4028234e38) return DOUBT;
    ((float *)into->values)[row] = (float)value;
    return end;
}

static int put_integer(field *into, int64_t row, int64_t value) {
    switch (into->kind) {
#define PUT(KIND, TYPE, LOW, HIGH)                  \
    case KIND:                                      \
        if (value < (LOW) || value > (HIGH)) return 0; \
        ((TYPE *)into->values)[row] = (TYPE)value;  \
        return 1;
        PUT(INT8, int8_t, INT8_MIN, INT8_MAX)
        PUT(INT16, int16_t, INT16_MIN, INT16_MAX)
        PUT(INT32, int32_t, INT32_MIN, INT32_MAX)
        PUT(INT64, int64_t, INT64_MIN, INT64_MAX)
        PUT(UINT8, uint8_t, 0, UINT8_MAX)
        PUT(UINT16, uint16_t, 0, UINT16_MAX)
        PUT(UINT32, uint32_t, 0, UINT32_MAX)
        PUT(UINT64, uint64_t, 0, INT64_MAX)
#undef PUT
    }
    return 0;
}

static int64_t read_integer(const input *in, int64_t at, field *into, int64_t row) {
    number n;
    at = read_number(in, at, &n);
    if (at < 0 || !n.whole || n.digits > 18 || (n.negative && !n.digits)) return DOUBT;
    int64_t value = n.negative ? -(int64_t)n.mantissa : (int64_t)n.mantissa;
    return put_integer(into, row, value) ? at : DOUBT;
}

static int64_t literal(const input *in, int64_t at, const char *word, int64_t length) {
    return in->end - at >= length && memcmp(in->bytes + at, word, (size_t)length) == 0 ? at + length : DOUBT;
}

static int64_t read_boolean(const input *in, int64_t at, field *into, int64_t row) {
    int64_t end = literal(in, at, "true", 4);
    ((uint8_t *)into->values)[row] = end > 0;
    return end > 0 ? end : literal(in, at, "false", 5);
}

static int64_t skip_value(const input *in, int64_t at, int depth);

/* Members of an object, or elements of an array, none of which is wanted; `at` is behind the opening bracket. */
static int64_t skip_inside(const input *in, int64_t at, uint8_t closing, int depth) {
    int64_t length;
    at = blanks(in, at);
    if (at < in->end && in->bytes[at] == closing) return at + 1;
    for (;;) {
        if (closing == '}') {
            if (at >= in->end || in->bytes[at] != '"') return DOUBT;
            if ((at = string_end(in, at + 1, 0, &length)) < 0) return DOUBT;
            at = blanks(in, at);
            if (at >= in->end || in->bytes[at] != ':') return DOUBT;
            at = blanks(in, at + 1);
        }
        if ((at = skip_value(in, at, depth)) < 0) return DOUBT;
        at = blanks(in, at);
        if (at >= in->end) return DOUBT;
        if (in->bytes[at] == closing) return at + 1;
        if (in->bytes[at] != ',') return DOUBT;
        at = blanks(in, at + 1);
    }
}

/* A value that is not wanted must be JSON all the same. */
static int64_t skip_value(const input *in, int64_t at, int depth) {
    number n;
    double value;
    int64_t length, end;
    if (at >= in->end || depth > DEPTH_MAX) return DOUBT;
    switch (in->bytes[at]) {
        case '"': return string_end(in, at + 1, 0, &length);
        case '{': return skip_inside(in, at + 1, '}', depth + 1);
        case '[': return skip_inside(in, at + 1, ']', depth + 1);
        case 't': return literal(in, at, "true", 4);
        case 'f': return literal(in, at, "false", 5);
        case 'n': return literal(in, at, "null", 4);
    }
    end = read_number(in, at, &n);
    if (end < 0 || !to_double(&n, in->bytes + at, end - at, &value)) return DOUBT; /* 1e999 is refused */
    return end;
}

static int64_t read_value(const input *in, int64_t at, field *into, int64_t row) {
    if (at < in->end && in->bytes[at] == 'n') return literal(in, at, "null", 4);
    int64_t end = into->kind == TEXT      ? read_text(in, at, into, row)
                  : into->kind == BOOLEAN ? read_boolean(in, at, into, row)
                  : into->kind <= FLOAT32 ? read_float(in, at, into, row)
                                          : read_integer(in, at, into, row);
    into->valid[row] = end > 0;
    return end;
}

static int32_t field_named(const field *fields, int32_t count, const uint8_t *name, int64_t length) {
    for (int32_t number = 0; number < count; number++)
        if (fields[number].name_length == length && memcmp(fields[number].name, name, (size_t)length) == 0) return number;
    return count;
}

/* Where the closing quote is if this is the name of the field expected next: records of one producer have their fields in one
 * order. Names hold nothing that JSON would escape. */
static int64_t name_end(const input *in, int64_t at, const field *expected) {
    int64_t stop = at + expected->name_length;
    int same = stop < in->end && in->bytes[stop] == '"' && !memcmp(in->bytes + at, expected->name, (size_t)(stop - at));
    return same ? stop : DOUBT;
}

static int read_record(const input *in, field *fields, int32_t count, int64_t row) {
    uint64_t seen = 0;
    int32_t guess = 0;
    int64_t at = blanks(in, 0);
    if (at >= in->end || in->bytes[at] != '{') return 0;
    at = blanks(in, at + 1);
    if (at < in->end && in->bytes[at] == '}') return blanks(in, at + 1) == in->end;
    for (;;) {
        if (at >= in->end || in->bytes[at] != '"') return 0;
        int32_t number = guess;
        int64_t stop = name_end(in, at + 1, fields + guess);
        if (stop < 0) {
            stop = plain_end(in, at + 1);
            if (stop < 0 || in->bytes[stop] != '"') return 0;
            number = field_named(fields, count, in->bytes + at + 1, stop - at - 1);
        }
        at = blanks(in, stop + 1);
        if (at >= in->end || in->bytes[at] != ':') return 0;
        at = blanks(in, at + 1);
        if (number < count) {
            if (seen >> number & 1) return 0;
            seen |= 1ull << number;
            guess = number + 1 < count ? number + 1 : 0;
            at = read_value(in, at, fields + number, row);
        } else {
            at = skip_value(in, at, 0);
        }
        if (at < 0) return 0;
        at = blanks(in, at);
        if (at >= in->end) return 0;
        if (in->bytes[at] == '}') return blanks(in, at + 1) == in->end;
        if (in->bytes[at] != ',') return 0;
        at = blanks(in, at + 1);
    }
}

/* `rows` records at data[starts .. starts + lengths), a length of -1 is a null value; at most 64 fields. names hold
 * nothing that JSON would escape; `valid` of every field and `doubtful` come filled with zeros. Gives the number of doubtful records, whose values mean nothing. */
PUBLIC int64_t ms_read_json(const uint8_t *data, const int64_t *starts, const int64_t *lengths, int64_t rows, field *fields,
                            int32_t count, uint8_t *doubtful) {
    int64_t doubts = 0;
    for (int64_t row = 0; row < rows; row++) {
        input in = {data + starts[row], lengths[row]};
        if (lengths[row] >= 0 && read_record(&in, fields, count, row)) continue;
        for (int32_t number = 0; number < count; number++) fields[number].valid[row] = 0;
        doubtful[row] = 1;
        doubts++;
    }
    return doubts;
}
