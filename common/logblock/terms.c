/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/logblock/parts.h"
#include "common/logblock/words.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#define TERM_MAX 1024
#define CASE 0x20 /* the bit in which small and capital letters differ */

static inline uint8_t small(uint8_t byte)
{
    return byte >= 'A' && byte <= 'Z' ? byte | CASE : byte;
}

/* ---- making ---- */

/* How often a byte stands in logs: the place from the end in this list, or never. */
static size_t frequency(uint8_t byte)
{
    static const char often[] = "\"=/_[]()uphfmgdclwybvkx:.-srniato987654321e0 ";
    const char *at = byte ? strchr(often, byte) : NULL;

    return at ? (size_t) (at - often) + 1 : 0;
}

/* The two rarest bytes; one of one byte has it twice. */
static void choose_bytes(struct parts_term *term)
{
    size_t first = 0, second;

    for (size_t i = 1; i < term->len; i++)
        if (frequency(term->text[i]) < frequency(term->text[first]))
            first = i;
    second = first == 0 && term->len > 1 ? 1 : 0;
    for (size_t i = 0; i < term->len; i++)
        if (i != first && frequency(term->text[i]) < frequency(term->text[second]))
            second = i;
    term->near = first < second ? first : second;
    term->far = first < second ? second : first;
}

static int longer_first(const void *a, const void *b)
{
    const struct parts_term *x = a, *y = b;

    return (x->len < y->len) - (x->len > y->len);
}

int logblock_terms_new(struct logblock_terms **ret,
                       const struct logblock_term *terms,
                       size_t n_terms)
{
    CLEANUP(logblock_terms_freep) struct logblock_terms *new = calloc(1, sizeof(*new));
    size_t n_bytes = PARTS_SLACK, n_words = 0;
    uint8_t *to;

    for (size_t i = 0; i < n_terms; i++) {
        ensure(terms[i].text.len >= 1 && terms[i].text.len <= TERM_MAX);
        n_bytes += terms[i].text.len;
        n_words += PARTS_TERM_WORDS(terms[i].text.len);
    }
    if (new) {
        new->terms = calloc(n_terms + 1, sizeof(*new->terms));
        new->texts = calloc(n_bytes, 1);
        new->hashes = calloc(n_words + 1, sizeof(*new->hashes));
    }
    if (!new || !new->terms || !new->texts || !new->hashes)
        return fault(-ENOMEM, "no memory for %zu words to search for", n_terms);
    to = new->texts;
    for (size_t i = 0; i < n_terms; i++) {
        struct parts_term *term = &new->terms[new->n_terms++];

        term->text = to;
        term->len = terms[i].text.len;
        term->is_word = terms[i].is_word;
        for (size_t k = 0; k < term->len; k++)
            *to++ = small(terms[i].text.data[k]);
        choose_bytes(term);
    }
    for (size_t i = 0; i < n_terms; i++)
        new->n_hashes += parts_words_of(span_of(new->terms[i].text, new->terms[i].len),
                                        new->terms[i].is_word, new->hashes + new->n_hashes);
    qsort(new->terms, n_terms, sizeof(*new->terms), longer_first);
    *ret = take(new);
    return 0;
}

struct logblock_terms *logblock_terms_free(struct logblock_terms *terms)
{
    if (terms) {
        free(terms->terms);
        free(terms->texts);
        free(terms->hashes);
        free(terms);
    }
    return NULL;
}

/* ---- finding ---- */

static bool is_at(const struct parts_term *term, const uint8_t *text)
{
    for (size_t i = 0; i < term->len; i++)
        if (small(text[i]) != term->text[i])
            return false;
    return true;
}

const uint8_t *
parts_find_slowly(const struct parts_term *term, const uint8_t *text, const uint8_t *end)
{
    for (; (size_t) (end - text) >= term->len; text++)
        if (is_at(term, text))
            return text;
    return NULL;
}

const uint8_t *parts_find(const struct parts_term *term, const uint8_t *text, const uint8_t *end)
{
#if defined(__SSE2__)
    /* With the bit of the case in both, two bytes that are the same still are. */
    __m128i bit = _mm_set1_epi8(CASE);
    __m128i near = _mm_set1_epi8((char) (term->text[term->near] | CASE));
    __m128i far = _mm_set1_epi8((char) (term->text[term->far] | CASE));

    /* Sixteen places at a time, all of them such that the whole term lies in the text. */
    for (; (size_t) (end - text) >= term->len + 15; text += 16) {
        __m128i a = _mm_loadu_si128((const __m128i *) (const void *) (text + term->near));
        __m128i b = _mm_loadu_si128((const __m128i *) (const void *) (text + term->far));
        __m128i both = _mm_and_si128(_mm_cmpeq_epi8(_mm_or_si128(a, bit), near),
                                     _mm_cmpeq_epi8(_mm_or_si128(b, bit), far));

        for (unsigned mask = (unsigned) _mm_movemask_epi8(both); mask; mask &= mask - 1)
            if (is_at(term, text + __builtin_ctz(mask)))
                return text + __builtin_ctz(mask);
    }
#endif
    return parts_find_slowly(term, text, end);
}

bool parts_is_bounded(const struct parts_term *term, struct span body, const uint8_t *hit)
{
    const uint8_t *behind = hit + term->len;

    return !term->is_word || ((hit == body.data || !parts_is_word(hit[-1])) &&
                              (behind == body.data + body.len || !parts_is_word(*behind)));
}

bool parts_holds(const struct logblock_terms *terms, size_t n_known, struct span body)
{
    const uint8_t *end = body.data + body.len;

    for (size_t i = n_known; i < terms->n_terms; i++) {
        const struct parts_term *term = &terms->terms[i];
        const uint8_t *hit = body.len > 0 ? parts_find(term, body.data, end) : NULL;

        while (hit && !parts_is_bounded(term, body, hit))
            hit = parts_find(term, hit + 1, end);
        if (!hit)
            return false;
    }
    return true;
}

bool logblock_holds(const struct logblock_terms *terms, struct span body)
{
    return parts_holds(terms, 0, body);
}

bool logblock_may_hold(const struct logblock *block, const struct logblock_terms *terms)
{
    for (size_t i = 0; i < terms->n_hashes; i++)
        if (!parts_filter_has(block->filter, terms->hashes[i]))
            return false;
    return true;
}
