/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Words and their filter: a Bloom filter of FILTER_BITS bits a word and FILTER_PROBES probes, so
 * that about one block in eleven that does not hold a word is decoded for nothing. Fewer bits a
 * word when there are very many; none at all (its length is 0) when they would say nothing.
 *
 * Not in it are words that would filter nothing and are most of what there is: of one byte, and of
 * up to four hexadecimal digits with a decimal one among them (parts of times, of addresses). But
 * four decimal numbers of up to three digits with points between them are a word each time: so an
 * IPv4 address can be found.
 *
 * A text is cut with a mask of bits for 64 bytes, and without a branch that depends on a word: that
 * is a third of the time. What is left out there may now and then be left in; what is looked up is
 * cut byte by byte, and exactly.
 */

#include "common/logblock/words.h"
#include "common/base/fault.h"
#include "common/logblock/parts.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#define FILTER_BITS 5
#define FILTER_PROBES 3
#define FILTER_BITS_MIN 2
#define FILTER_SHARE 24 /* no more than that part of the bodies */

#define TABLE_MIN 1024
#define SHORT 4   /* hexadecimal digits */
#define DECIMAL 3 /* digits of a part of an address */

enum {
    WORD = 1,
    HEX = 2,
    DIGIT = 4,
};

#define N WORD | HEX | DIGIT
#define H WORD | HEX
#define W WORD
#define W4 W, W, W, W
#define W16 W4, W4, W4, W4
static const uint8_t classes[256] = {
    ['0'] = N, N,  N,  N,  N,  N,           N,   N,         N,         N,   ['A'] = H, H,   H,   H,
    H,         H,  W4, W4, W4, W4,          W4,  ['_'] = W, ['a'] = H, H,   H,         H,   H,   H,
    W4,        W4, W4, W4, W4, [128] = W16, W16, W16,       W16,       W16, W16,       W16, W16,
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

/* ---- hashes ---- */

#define SMALL_LETTERS UINT64_C(0x2020202020202020)
#define MIX_A UINT64_C(0x9e3779b97f4a7c15)
#define MIX_B UINT64_C(0xc2b2ae3d27d4eb4f)

/* In small letters. Bytes that are no letters may count as others: that makes a false yes, but no
 * false no. */
static inline uint64_t load_small(const uint8_t *p)
{
    return parts_load64(p) | SMALL_LETTERS;
}

/* masks[8 + n] leaves the lowest n bytes of eight, n up to 16; masks[n] what is behind eight. */
#define ALL UINT64_MAX
static const uint64_t masks[8 + 17] = {
    [9] = 0xff,
    0xffff,
    0xffffff,
    0xffffffff,
    0xffffffffff,
    0xffffffffffff,
    0xffffffffffffff,
    ALL,
    ALL,
    ALL,
    ALL,
    ALL,
    ALL,
    ALL,
    ALL,
    ALL,
};
#undef ALL

static inline uint64_t mix(uint64_t x)
{
    x ^= x >> 29;
    x *= MIX_A;
    return x ^ x >> 32;
}

/* Never 0. Of up to 16 bytes. */
static inline uint32_t hash_some(uint64_t before, const uint8_t *p, size_t n)
{
    uint64_t low = load_small(p) & masks[8 + n], high = load_small(p + 8) & masks[n];
    uint32_t hash = (uint32_t) mix(before ^ low ^ high * MIX_B);

    return hash + !hash;
}

static __attribute__((noinline)) uint32_t hash_long(const uint8_t *p, size_t n)
{
    uint64_t x = 0;

    for (; n > 16; p += 16, n -= 16)
        x = mix((x ^ load_small(p)) + load_small(p + 8) * MIX_B);
    return hash_some(x, p, n);
}

static inline uint32_t hash_word(const uint8_t *p, size_t n)
{
    return n <= 16 ? hash_some(0, p, n) : hash_long(p, n);
}

/* ---- 64 bytes at once: bit i is of byte i ---- */

struct classed {
    uint64_t words, digits, hexes, points;
};

static inline struct classed classify(const uint8_t *p)
{
    struct classed c = { 0 };

#if defined(__SSE2__)
    for (size_t i = 0; i < 4; i++) {
        __m128i x = _mm_loadu_si128((const __m128i *) (const void *) (p + 16 * i));
        /* What is not a letter may become another, but no letter. */
        __m128i small = _mm_or_si128(x, _mm_set1_epi8(0x20));
        /* From the lowest number there is on: less than n when it is one of the first n. */
        __m128i from_a = _mm_add_epi8(small, _mm_set1_epi8((char) (128 - 'a')));
        __m128i from_0 = _mm_add_epi8(x, _mm_set1_epi8((char) (128 - '0')));
        __m128i letter = _mm_cmplt_epi8(from_a, _mm_set1_epi8(-128 + 26));
        __m128i digit = _mm_cmplt_epi8(from_0, _mm_set1_epi8(-128 + 10));
        __m128i hex = _mm_or_si128(_mm_cmplt_epi8(from_a, _mm_set1_epi8(-128 + 6)), digit);
        __m128i line = _mm_cmpeq_epi8(x, _mm_set1_epi8('_'));
        __m128i point = _mm_cmpeq_epi8(x, _mm_set1_epi8('.'));
        /* What is above 127 has the highest bit already. */
        __m128i word = _mm_or_si128(_mm_or_si128(letter, digit), _mm_or_si128(line, x));

        c.words |= (uint64_t) (uint16_t) _mm_movemask_epi8(word) << 16 * i;
        c.digits |= (uint64_t) (uint16_t) _mm_movemask_epi8(digit) << 16 * i;
        c.hexes |= (uint64_t) (uint16_t) _mm_movemask_epi8(hex) << 16 * i;
        c.points |= (uint64_t) (uint16_t) _mm_movemask_epi8(point) << 16 * i;
    }
#else
    for (size_t i = 0; i < 64; i++) {
        uint8_t class = classes[p[i]];

        c.words |= (uint64_t) ((class & WORD) != 0) << i;
        c.digits |= (uint64_t) ((class & DIGIT) != 0) << i;
        c.hexes |= (uint64_t) ((class & HEX) != 0) << i;
        c.points |= (uint64_t) (p[i] == '.') << i;
    }
#endif
    return c;
}

/* The words' bytes without those of words that filter nothing, as far as these are wholly here. */
static inline uint64_t leave_out(const struct classed *c, uint64_t last)
{
    uint64_t words = c->words, starts = words & ~(words << 1 | last);
    uint64_t single = starts & ~(words >> 1) & ~(UINT64_C(1) << 63);
    /* To add the first bit of a run moves it behind the run's end. */
    uint64_t ends = (c->hexes + (starts & c->hexes)) & ~c->hexes & ~words;
    uint64_t first = starts & c->hexes, run, has_digit;

    ends &= first << 1 | first << 2 | first << 3 | first << SHORT;
    run = ends >> 1;
    run |= run >> 1 & c->hexes;
    run |= run >> 1 & c->hexes;
    run |= run >> 1 & c->hexes;
    has_digit = run & c->digits;
    has_digit |= (has_digit << 1 | has_digit >> 1) & run;
    has_digit |= (has_digit << 1 | has_digit >> 1) & run;
    has_digit |= (has_digit << 1 | has_digit >> 1) & run;
    return words & ~single & ~has_digit;
}

/* ---- addresses ---- */

static size_t digits_before(const uint8_t *start, const uint8_t *p)
{
    size_t n = 0;

    while (p - n > start && n <= DECIMAL && classes[p[-1 - (ptrdiff_t) n]] & DIGIT)
        n++;
    return n;
}

static size_t digits_from(const uint8_t *p, const uint8_t *end)
{
    size_t n = 0;

    while (p + n < end && n <= DECIMAL && classes[p[n]] & DIGIT)
        n++;
    return n;
}

/* Whether the point is the second of three between four numbers, which are a word. */
static bool find_address(struct span text, const uint8_t *point, struct span *ret)
{
    const uint8_t *end = text.data + text.len, *from, *to;
    size_t second = digits_before(text.data, point), third = digits_from(point + 1, end);
    size_t first, fourth;

    from = point - second;
    to = point + 1 + third;
    if (second < 1 || second > DECIMAL || third < 1 || third > DECIMAL || from == text.data ||
        from[-1] != '.' || to == end || *to != '.')
        return false;
    first = digits_before(text.data, from - 1);
    fourth = digits_from(to + 1, end);
    from -= 1 + first;
    to += 1 + fourth;
    *ret = span_of(from, (size_t) (to - from));
    return first >= 1 && first <= DECIMAL && fourth >= 1 && fourth <= DECIMAL &&
           (from == text.data || !parts_is_word(from[-1])) && (to == end || !parts_is_word(*to));
}

/* ---- cutting ---- */

#define CHUNK 4096
#define EDGES_AT_ONCE 8

struct cutter {
    struct span text;
    size_t at;           /* so far */
    uint64_t last;       /* whether the byte before is one of a word */
    uint64_t last_kept;  /* and of one that is not left out */
    uint64_t last_digit; /* and a digit */
    size_t n_edges;      /* even ones begin a word */
    uint32_t edges[CHUNK + 1 + EDGES_AT_ONCE];
    size_t n_hashes; /* of words and of addresses, which have at least seven bytes */
    uint32_t hashes[CHUNK];
};

static inline unsigned count_bits(uint64_t word)
{
    word -= word >> 1 & UINT64_C(0x5555555555555555);
    word = (word & UINT64_C(0x3333333333333333)) + (word >> 2 & UINT64_C(0x3333333333333333));
    word = (word + (word >> 4)) & UINT64_C(0x0f0f0f0f0f0f0f0f);
    return (unsigned) (word * UINT64_C(0x0101010101010101) >> 56);
}

/* Of points behind digits those that may have one a number before and one a number behind; the
 * point of a decimal number has none. */
static inline uint64_t middle_points(uint64_t points)
{
    uint64_t before = points << 2 | points << 3 | points << (DECIMAL + 1) | 0xf;
    uint64_t behind = points >> 2 | points >> 3 | points >> (DECIMAL + 1) | UINT64_C(0xf) << 60;

    return points & before & behind;
}

static void take_addresses(struct cutter *cutter, size_t at, uint64_t points)
{
    struct span address;

    for (; points; points &= points - 1)
        if (find_address(cutter->text, cutter->text.data + at + __builtin_ctzll(points), &address))
            cutter->hashes[cutter->n_hashes++] = hash_word(address.data, address.len);
}

/* Puts the places of the bits, and some more behind them that are written over. */
static inline uint32_t *put_edges(uint32_t *to, size_t at, uint64_t edges)
{
    unsigned n = count_bits(edges);

    for (unsigned i = 0; i < n; i += EDGES_AT_ONCE)
        for (unsigned k = 0; k < EDGES_AT_ONCE; k++) {
            to[i + k] = (uint32_t) at + (uint32_t) __builtin_ctzll(edges | UINT64_C(1) << 63);
            edges &= edges - 1;
        }
    return to + n;
}

static void find_edges(struct cutter *cutter)
{
    size_t len = cutter->text.len, stop = len - cutter->at < CHUNK ? len : cutter->at + CHUNK;
    uint32_t *to = cutter->edges + cutter->n_edges;

    for (size_t at = cutter->at; at < stop; at += 64) {
        struct classed c = classify(cutter->text.data + at);
        uint64_t kept, points;

        if (len - at < 64) {
            uint64_t here = (UINT64_C(1) << (len - at)) - 1;

            c = (struct classed){ c.words & here, c.digits & here, c.hexes & here,
                                  c.points & here };
        }
        kept = leave_out(&c, cutter->last);
        points = middle_points(c.points & (c.digits << 1 | cutter->last_digit));
        if (points)
            take_addresses(cutter, at, points);
        to = put_edges(to, at, kept ^ (kept << 1 | cutter->last_kept));
        cutter->last = c.words >> 63;
        cutter->last_kept = kept >> 63;
        cutter->last_digit = c.digits >> 63;
    }
    if (stop == len && cutter->last_kept)
        *to++ = (uint32_t) len;
    cutter->at = stop;
    cutter->n_edges = (size_t) (to - cutter->edges);
}

/* Cuts what comes next into hashes; false: there is no more. */
static bool cut(struct cutter *cutter)
{
    const uint8_t *text = cutter->text.data;
    const uint32_t *edges = cutter->edges;
    uint32_t *to;
    size_t n;

    cutter->n_hashes = 0;
    if (cutter->at == cutter->text.len)
        return false;
    find_edges(cutter);
    n = cutter->n_edges / 2;
    to = cutter->hashes + cutter->n_hashes;
    for (size_t i = 0; i < n; i++)
        to[i] = hash_word(text + edges[2 * i], edges[2 * i + 1] - edges[2 * i]);
    cutter->n_hashes += n;
    /* One may have begun and be over later. */
    cutter->edges[0] = cutter->edges[2 * n];
    cutter->n_edges -= 2 * n;
    return true;
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

/* Of a hash that is not in its first place. */
static int add_hash(struct parts_words *words, uint32_t hash)
{
    size_t mask = words->size - 1, at = hash & mask;

    while (words->table[at]) {
        if (words->table[at] == hash)
            return 0;
        at = (at + 1) & mask;
    }
    words->table[at] = hash;
    words->hashes[words->n_hashes++] = hash;
    return words->n_hashes == words->size / 2 ? pass(grow(words)) : 0;
}

int parts_words_add(struct parts_words *words, struct span text)
{
    struct cutter cutter;

    cutter.text = text;
    cutter.at = cutter.n_edges = 0;
    cutter.last = cutter.last_kept = cutter.last_digit = 0;
    while (cut(&cutter)) {
        const uint32_t *table = words->table;
        size_t mask = words->size - 1;

        for (size_t i = 0; i < cutter.n_hashes; i++) {
            uint32_t hash = cutter.hashes[i];
            int r;

            if (table[hash & mask] == hash)
                continue;
            r = add_hash(words, hash);
            if (r < 0)
                return pass(r);
            table = words->table;
            mask = words->size - 1;
        }
    }
    return 0;
}

/* ---- the filter ---- */

size_t parts_filter_bytes(const struct parts_words *words, size_t n_body_bytes)
{
    size_t n = (words->n_hashes * FILTER_BITS + 7) / 8, limit = n_body_bytes / FILTER_SHARE + 1;

    if (limit * 8 < words->n_hashes * FILTER_BITS_MIN)
        return 0;
    return n < limit ? n : limit;
}

/* Other places in filters of other lengths: a word that meets those of common words does not do so
 * in all blocks. */
static inline size_t probe(uint32_t hash, unsigned i, size_t n_bits)
{
    uint64_t x = mix(hash + n_bits * MIX_B);
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

/* Whether it may have been left out. */
static bool is_left_out(struct span word)
{
    uint8_t all = HEX, any = 0;

    if (word.len > SHORT)
        return false;
    for (size_t i = 0; i < word.len; i++) {
        all &= classes[word.data[i]];
        any |= classes[word.data[i]];
    }
    return word.len == 1 || (all && any & DIGIT);
}

size_t parts_words_of(struct span text, bool is_bounded, uint32_t *ret_hashes)
{
    size_t n = 0;

    for (size_t i = 0, from; i < text.len;) {
        struct span word;

        if (text.data[i] == '.' && find_address(text, text.data + i, &word) &&
            (is_bounded || (word.data > text.data && word.data + word.len < text.data + text.len)))
            ret_hashes[n++] = hash_word(word.data, word.len);
        for (from = i; i < text.len && parts_is_word(text.data[i]);)
            i++;
        word = span_of(text.data + from, i - from);
        if (word.len > 0 && !is_left_out(word) && (is_bounded || (from > 0 && i < text.len)))
            ret_hashes[n++] = hash_word(word.data, word.len);
        i += word.len == 0;
    }
    return n;
}
