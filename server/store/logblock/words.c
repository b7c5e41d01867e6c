/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Words and their filter: a Bloom filter of some FILTER_BITS bits a word and FILTER_PROBES probes,
 * so that about one block in eleven that does not hold a word is decoded for nothing. Fewer bits a
 * word when there are very many; none at all (its length is 0) when they would say nothing.
 *
 * Not in it are words that would filter nothing and are most of what there is: of one byte, and of
 * up to four hexadecimal digits with at least one decimal among them (parts of times, of
 * addresses). But four decimal numbers of up to three digits with points between them are a word
 * each time, so that an IPv4 address can be found.
 */

#include "common/base/fault.h"
#include "server/store/logblock/parts.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#define FILTER_BITS 5
#define FILTER_PROBES 3
#define FILTER_BITS_MIN 2
#define FILTER_SHARE 24 /* no more than that part of the bodies */

#define TABLE_MIN 1024
#define NUMBERS 4
#define NUMBER_DIGITS 3

enum {
    WORD = 1,
    HEX = 2, /* of the byte 0 as well: it stands behind a short word */
    DIGIT = 4,
    LOWER = 16,
};

#define N WORD | HEX | DIGIT
#define H WORD | HEX
#define W WORD
#define W4 W, W, W, W
#define W16 W4, W4, W4, W4
static const uint8_t classes[256] = {
    [0] = HEX, ['0'] = N,   N,   N,   N,   N,   N,   N,   N,   N,  N,
    ['A'] = H, H,           H,   H,   H,   H,   W4,  W4,  W4,  W4, W4,
    ['_'] = W, ['a'] = H,   H,   H,   H,   H,   H,   W4,  W4,  W4, W4,
    W4,        [128] = W16, W16, W16, W16, W16, W16, W16, W16,
};
#undef N
#undef H
#undef W
#undef W4
#undef W16

bool parts_is_word(uint8_t byte)
{
    return classes[byte] & WORD;
}

/* ---- cutting ---- */

/* Bit i: byte i of 64 is one of a word. */
static inline uint64_t word_mask(const uint8_t *p)
{
    uint64_t mask = 0;

#if defined(__SSE2__)
    for (size_t i = 0; i < 4; i++) {
        __m128i x = _mm_loadu_si128((const __m128i *) (const void *) (p + 16 * i));
        /* Small letters; of what is not a letter that may make another, but no letter. */
        __m128i small = _mm_or_si128(x, _mm_set1_epi8(0x20));
        /* Signed: below -128 + n when it is one of the n from the first on. */
        __m128i letter = _mm_cmplt_epi8(_mm_add_epi8(small, _mm_set1_epi8((char) (128 - 'a'))),
                                        _mm_set1_epi8(-128 + 26));
        __m128i digit = _mm_cmplt_epi8(_mm_add_epi8(x, _mm_set1_epi8((char) (128 - '0'))),
                                       _mm_set1_epi8(-128 + 10));
        __m128i line = _mm_cmpeq_epi8(x, _mm_set1_epi8('_'));
        /* What is above 127 has the highest bit already. */
        __m128i any = _mm_or_si128(_mm_or_si128(letter, digit), _mm_or_si128(line, x));

        mask |= (uint64_t) (uint16_t) _mm_movemask_epi8(any) << 16 * i;
    }
#else
    for (size_t i = 0; i < 64; i++)
        mask |= (uint64_t) (classes[p[i]] & WORD) << i;
#endif
    return mask;
}

#define SMALL_LETTERS UINT64_C(0x2020202020202020)
#define MIX_A UINT64_C(0x9e3779b97f4a7c15)
#define MIX_B UINT64_C(0xc2b2ae3d27d4eb4f)

/* The first bytes of up to 8, in small letters, the others 0. */
static inline uint64_t load_some(const uint8_t *p, size_t n)
{
    uint64_t word = parts_load64(p) | SMALL_LETTERS;

    return n >= 8 ? word : word & ((UINT64_C(1) << 8 * n) - 1);
}

static inline uint64_t mix(uint64_t x)
{
    x ^= x >> 29;
    x *= MIX_A;
    return x ^ x >> 32;
}

/* Case means nothing; never 0. Bytes that are no letters may count as others: that makes a false
 * yes, no false no. */
static inline uint32_t hash_word(const uint8_t *p, size_t n)
{
    uint64_t x = 0;
    uint32_t hash;

    for (; n > 16; p += 16, n -= 16)
        x = mix((x ^ load_some(p, 8)) + load_some(p + 8, 8) * MIX_B);
    x ^= load_some(p, n);
    if (n > 8)
        x += load_some(p + 8, n - 8) * MIX_B;
    hash = (uint32_t) mix(x);
    return hash ? hash : 1;
}

/* Of up to four bytes. */
static inline unsigned class_of_all(const uint8_t *p, size_t n)
{
    uint32_t word = parts_load32(p) & (uint32_t) ((UINT64_C(1) << 8 * n) - 1);
    unsigned a = classes[word & 255], b = classes[word >> 8 & 255];
    unsigned c = classes[word >> 16 & 255], d = classes[word >> 24];

    return (a & b & c & d & HEX) | ((a | b | c | d) & DIGIT);
}

/* Numbers with points between them, as they go by. */
struct numbers {
    const uint8_t *starts[NUMBERS]; /* the last ones, by n % NUMBERS */
    const uint8_t *end;
    size_t n;
};

static inline bool is_decimal(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!(classes[p[i]] & DIGIT))
            return false;
    return true;
}

/* A number of up to four digits, maybe hexadecimal. True: it ends four of them, from *ret_start. */
static inline bool
numbers_add(struct numbers *numbers, const uint8_t *p, size_t n, const uint8_t **ret_start)
{
    bool is_next = numbers->n > 0 && p == numbers->end + 1 && *numbers->end == '.';

    if (n > NUMBER_DIGITS || !is_decimal(p, n)) {
        numbers->n = 0;
        return false;
    }
    numbers->n = is_next ? numbers->n : 0;
    numbers->starts[numbers->n++ % NUMBERS] = p;
    numbers->end = p + n;
    *ret_start = numbers->starts[numbers->n % NUMBERS];
    return numbers->n >= NUMBERS;
}

/* Where words go: a hash, and what of the text it stands for. */
typedef int word_fn(void *ctx, uint32_t hash, const uint8_t *start, const uint8_t *end);

static inline __attribute__((always_inline)) int take_word(struct numbers *numbers,
                                                           const uint8_t *start,
                                                           const uint8_t *end,
                                                           word_fn *on_word,
                                                           void *ctx)
{
    size_t n = (size_t) (end - start);

    if (n <= 4) {
        bool is_number = class_of_all(start, n) == (HEX | DIGIT);

        if (is_number && !numbers_add(numbers, start, n, &start))
            return 0;
        if (!is_number && n == 1)
            return 0;
    }
    return on_word(ctx, hash_word(start, (size_t) (end - start)), start, end);
}

static inline __attribute__((always_inline)) int
each_word(struct span text, word_fn *on_word, void *ctx)
{
    struct numbers numbers = { 0 };
    const uint8_t *start = text.data;
    uint64_t last = 0; /* whether the byte before is one of a word */

    for (size_t at = 0; at < text.len; at += 64) {
        uint64_t mask = word_mask(text.data + at), edges;

        if (text.len - at < 64)
            mask &= (UINT64_C(1) << (text.len - at)) - 1;
        /* Where a word begins or is over. */
        edges = mask ^ (mask << 1 | last);
        last = mask >> 63;
        for (; edges; edges &= edges - 1) {
            unsigned bit = (unsigned) __builtin_ctzll(edges);
            int r;

            if (mask >> bit & 1) {
                start = text.data + at + bit;
                continue;
            }
            r = take_word(&numbers, start, text.data + at + bit, on_word, ctx);
            if (r < 0)
                return r;
        }
    }
    return last ? take_word(&numbers, start, text.data + text.len, on_word, ctx) : 0;
}

/* ---- the distinct ones ---- */

/* An empty table of so many places, a power of two. */
static int set_table(struct parts_words *words, size_t size)
{
    if (size > words->capacity) {
        uint32_t *table = malloc(size * sizeof(*table));
        uint32_t *hashes = realloc(words->hashes, size / 2 * sizeof(*hashes));

        if (hashes)
            words->hashes = hashes;
        if (!table || !hashes) {
            free(table);
            return fault(-ENOMEM, "no memory for the words of a block");
        }
        free(words->table);
        words->table = table;
        words->capacity = size;
    }
    words->size = size;
    memset(words->table, 0, size * sizeof(*words->table));
    return 0;
}

/* The next block is likely to have as many as the last one. */
int parts_words_begin(struct parts_words *words)
{
    size_t size = TABLE_MIN;

    while (size < words->capacity && size < 3 * words->n_hashes)
        size *= 2;
    words->n_hashes = 0;
    return pass(set_table(words, size));
}

void parts_words_deinit(struct parts_words *words)
{
    free(words->table);
    free(words->hashes);
    *words = (struct parts_words){ 0 };
}

/* Twice the size, with what is in it. */
static int grow(struct parts_words *words)
{
    int r = set_table(words, 2 * words->size);
    size_t mask = words->size - 1;

    if (r < 0)
        return pass(r);
    for (size_t i = 0; i < words->n_hashes; i++) {
        size_t at = words->hashes[i] & mask;

        while (words->table[at])
            at = (at + 1) & mask;
        words->table[at] = words->hashes[i];
    }
    return 0;
}

static inline int on_distinct(void *ctx, uint32_t hash, const uint8_t *start, const uint8_t *end)
{
    struct parts_words *words = ctx;
    size_t mask = words->size - 1, at = hash & mask;

    (void) start;
    (void) end;
    while (words->table[at]) {
        if (words->table[at] == hash)
            return 0;
        at = (at + 1) & mask;
    }
    words->table[at] = hash;
    words->hashes[words->n_hashes++] = hash;
    return words->n_hashes == words->size / 2 ? grow(words) : 0;
}

int parts_words_add(struct parts_words *words, struct span text)
{
    return pass(each_word(text, on_distinct, words));
}

/* ---- the filter ---- */

size_t parts_filter_bytes(const struct parts_words *words, size_t n_body_bytes)
{
    size_t n = (words->n_hashes * FILTER_BITS + 7) / 8, limit = n_body_bytes / FILTER_SHARE + 1;

    if (limit * 8 < words->n_hashes * FILTER_BITS_MIN)
        return 0;
    return n < limit ? n : limit;
}

static inline size_t probe(uint32_t hash, unsigned i, size_t n_bits)
{
    uint64_t x = hash * MIX_A;
    uint32_t bits = (uint32_t) (x >> 32) + i * ((uint32_t) x | 1);

    return (size_t) ((uint64_t) bits * n_bits >> 32);
}

void parts_filter_make(const struct parts_words *words, uint8_t *filter, size_t n)
{
    for (size_t i = 0; n > 0 && i < words->n_hashes; i++)
        for (unsigned k = 0; k < FILTER_PROBES; k++) {
            size_t bit = probe(words->hashes[i], k, 8 * n);

            filter[bit / 8] |= (uint8_t) (1u << bit % 8);
        }
}

bool parts_filter_has(struct span filter, uint32_t hash)
{
    for (unsigned k = 0; filter.len > 0 && k < FILTER_PROBES; k++) {
        size_t bit = probe(hash, k, 8 * filter.len);

        if (!(filter.data[bit / 8] >> bit % 8 & 1))
            return false;
    }
    return true;
}

/* ---- of a term ---- */

struct needed {
    struct span text;
    bool is_bounded;
    uint32_t *hashes;
    size_t n;
};

static int on_needed(void *ctx, uint32_t hash, const uint8_t *start, const uint8_t *end)
{
    struct needed *needed = ctx;
    const uint8_t *text = needed->text.data;

    if (needed->is_bounded || (start > text && end < text + needed->text.len))
        needed->hashes[needed->n++] = hash;
    return 0;
}

size_t parts_words_of(struct span text, bool is_bounded, uint32_t *ret_hashes)
{
    struct needed needed = { .text = text, .is_bounded = is_bounded, .hashes = ret_hashes };

    (void) each_word(text, on_needed, &needed);
    return needed.n;
}
