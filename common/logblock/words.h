#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Words of bodies and their filter, and what is searched for. Private to common/logblock and its
 * tests.
 */

#include "common/logblock/logblock.h"

/* ---- words.c ---- */

/* The distinct words of a block, as hashes. */
struct parts_words {
    uint32_t *hashes; /* half as many as the table has room for */
    size_t n_hashes;
    uint32_t *table; /* of hashes; 0: free */
    size_t size, capacity;
};

/* Forgets those of the block before. Faults: no memory. */
int parts_words_begin(struct parts_words *words) MUST_USE;
/* PARTS_SLACK bytes behind it can be read. Faults: no memory. */
int parts_words_add(struct parts_words *words, struct span text) MUST_USE;
void parts_words_deinit(struct parts_words *words);

/* How long the filter of these words is, when the bodies are so long. */
size_t parts_filter_bytes(const struct parts_words *words, size_t n_body_bytes);
/* Writes so many zeroed bytes. */
void parts_filter_make(const struct parts_words *words, uint8_t *filter, size_t n);
bool parts_filter_has(struct span filter, uint32_t hash);

/* Room for a text's words and numbers. */
#define PARTS_TERM_WORDS(len) ((len) + 1)
/*
 * The hashes of the words that a body which holds the text must have: inner ones, and those at its
 * ends when it is bounded. Returns how many. PARTS_SLACK bytes behind it can be read.
 */
size_t parts_words_of(struct span text, bool is_bounded, uint32_t *ret_hashes);

bool parts_is_word(uint8_t byte);

/* ---- terms.c ---- */

struct parts_term {
    const uint8_t *text; /* in small letters */
    size_t len;
    bool is_word;
    size_t near, far; /* the two bytes of it that are the rarest */
};

struct logblock_terms {
    size_t n_terms;
    struct parts_term *terms; /* the longest first */
    uint32_t *hashes;
    size_t n_hashes;
    uint8_t *texts;
};

/* The first place in the text where the term's bytes stand, whatever is around; NULL: none. */
const uint8_t *parts_find(const struct parts_term *term, const uint8_t *text, const uint8_t *end);
/* The same by one byte after the other; a test holds one against the other. */
const uint8_t *
parts_find_slowly(const struct parts_term *term, const uint8_t *text, const uint8_t *end);

/* Whether nothing of a word is around a hit in the body. */
bool parts_is_bounded(const struct parts_term *term, struct span body, const uint8_t *hit);

/* Whether the body holds the terms but the first `n_known`. */
bool parts_holds(const struct logblock_terms *terms, size_t n_known, struct span body);
