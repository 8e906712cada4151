/* Places of needles in ascending codes whose high half is a hash, so that codes are spread evenly: where the first bits of a code
 * lead says `starts`, and from there it is a few codes. With millions of codes a binary search misses the cache a dozen times, one
 * after the other; here it is two or three times, and AT_ONCE needles are looked for together. */
#include "columns.h"

#define AT_ONCE 16

/* starts[b]: how many codes have smaller first bits than b, of `buckets` + 1 entries. code >> shift is below `buckets`. */
PUBLIC void ms_hash_starts(const uint64_t *codes, int64_t size, int32_t shift, int64_t buckets, uint32_t *starts) {
    int64_t bucket = 0;
    for (int64_t at = 0; at < size; at++)
        for (const int64_t mine = (int64_t)(codes[at] >> shift); bucket <= mine; bucket++) starts[bucket] = (uint32_t)at;
    for (; bucket <= buckets; bucket++) starts[bucket] = (uint32_t)size;
}

/* As numpy's searchsorted: the first place whose code is not below the needle (above it, with `right`). */
PUBLIC void ms_hash_search(const uint64_t *codes, const uint32_t *starts, int32_t shift, const uint64_t *needles, int64_t rows,
                           int32_t right, int64_t *found) {
    for (int64_t begin = 0; begin < rows; begin += AT_ONCE) {
        const int64_t end = begin + AT_ONCE < rows ? begin + AT_ONCE : rows;
        for (int64_t row = begin; row < end; row++) __builtin_prefetch(starts + (needles[row] >> shift));
        for (int64_t row = begin; row < end; row++) {
            const uint32_t *at = starts + (needles[row] >> shift);
            __builtin_prefetch(codes + (at[0] + at[1]) / 2);
        }
        for (int64_t row = begin; row < end; row++) {
            const uint64_t needle = needles[row];
            const uint32_t *at = starts + (needle >> shift);
            int64_t low = at[0], high = at[1];
            while (low < high) {
                const int64_t middle = (low + high) / 2;
                if (codes[middle] < needle || (right && codes[middle] == needle)) low = middle + 1;
                else high = middle;
            }
            found[row] = low;
        }
    }
}
