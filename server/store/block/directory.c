/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "server/store/block/parts.h"

#define PARAMETER_MAX 15

static bool take_byte(struct span *bytes, uint8_t *ret)
{
    if (bytes->len == 0)
        return false;
    *ret = *bytes->data++;
    bytes->len--;
    return true;
}

static bool take_span(struct span *bytes, uint64_t len, struct span *ret)
{
    if (len > bytes->len)
        return false;
    *ret = span_of(bytes->data, (size_t) len);
    bytes->data += len;
    bytes->len -= (size_t) len;
    return true;
}

static bool take_number(struct span *bytes, unsigned parameter, uint64_t *ret)
{
    uint64_t more = 0;

    if (parameter == PARAMETER_MAX && (!codec_get_varint(bytes, &more) || more > BLOCK_COLUMNS_MAX))
        return false;
    *ret = parameter + more;
    return true;
}

static bool take_bounds(struct parts_walk *walk, struct parts_entry *ret)
{
    struct span bytes;

    ret->has_bounds = walk->has_bounds;
    if (!walk->has_bounds)
        return true;
    if (!take_span(&walk->directory, 4, &bytes))
        return false;
    ret->low = (uint16_t) (bytes.data[0] | bytes.data[1] << 8);
    ret->high = (uint16_t) (bytes.data[2] | bytes.data[3] << 8);
    return true;
}

static bool take_constant(struct parts_walk *walk, struct parts_entry *ret)
{
    double value;
    size_t len;

    return codec_decode_constant(ret->form, walk->directory, &value, &len) == CODEC_OK &&
           take_span(&walk->directory, len, &ret->bytes);
}

static bool take_relation(struct parts_walk *walk, struct parts_entry *ret)
{
    unsigned operation = ret->form & 15u;

    if (ret->pattern != PARTS_UNMARKED || ret->n_terms > 0 || ret->form >> 4 ||
        !codec_get_varint(&walk->directory, &ret->columns[0]))
        return false;
    return operation != PARTS_OVER || codec_get_varint(&walk->directory, &ret->columns[1]);
}

static bool take_terms(struct parts_walk *walk, unsigned parameter, struct parts_entry *ret)
{
    ret->class = parameter / PARTS_TERMS_MAX;
    for (unsigned n = parameter % PARTS_TERMS_MAX + 1; ret->n_terms < n; ret->n_terms++) {
        uint64_t number;

        if (!codec_get_varint(&walk->directory, &number) || number / 2 >= walk->n_columns)
            return false;
        ret->terms[ret->n_terms] = (struct parts_term){ (uint32_t) (number / 2), number & 1 };
    }
    return true;
}

/* What may go before an operation, at most one: marks or terms. Then the operation. */
static bool take_prefix(struct parts_walk *walk, struct parts_entry *ret)
{
    unsigned parameter;

    if (!take_byte(&walk->directory, &ret->form))
        return false;
    parameter = ret->form >> 4;
    if ((ret->form & 15) == PARTS_MARKED)
        return take_number(&walk->directory, parameter, &ret->pattern) &&
               take_byte(&walk->directory, &ret->form);
    if ((ret->form & 15) == PARTS_SUM)
        return take_terms(walk, parameter, ret) && take_byte(&walk->directory, &ret->form);
    return true;
}

void parts_walk_init(struct parts_walk *walk, const struct block_part *part)
{
    walk->directory = part->directory;
    walk->columns = part->columns;
    walk->n_columns = part->n_columns;
    walk->has_bounds = part->n_rows >= BLOCK_BOUNDS_ROWS;
}

bool parts_take(struct parts_walk *walk, struct parts_entry *ret)
{
    uint64_t number;

    *ret = (struct parts_entry){ .n = 1, .pattern = PARTS_UNMARKED };
    if (!take_prefix(walk, ret))
        return false;
    switch (ret->form & 15) {
    case PARTS_ZEROS:
    case PARTS_NONE:
        if (ret->pattern != PARTS_UNMARKED || ret->n_terms > 0 ||
            !take_number(&walk->directory, ret->form >> 4, &number))
            return false;
        ret->n = number + 1;
        return true;
    case CODEC_CONST:
    case CODEC_CONST_BITS:
        return take_constant(walk, ret);
    case PARTS_SAME:
    case PARTS_OVER:
        return take_relation(walk, ret);
    case CODEC_DIV:
    case CODEC_DIV_PATCHED:
    case CODEC_MUL:
    case CODEC_MUL_PATCHED:
    case CODEC_BITS:
    case CODEC_RAW:
    case CODEC_ZSTD:
        return codec_get_varint(&walk->directory, &number) && take_bounds(walk, ret) &&
               take_span(&walk->columns, number, &ret->bytes);
    default:
        return false;
    }
}

bool parts_find_column(const struct block_part *part, uint64_t column, struct parts_entry *ret)
{
    struct parts_walk walk;

    parts_walk_init(&walk, part);
    for (uint64_t i = 0; parts_take(&walk, ret); i += ret->n)
        if (column - i < ret->n)
            return true;
    return false;
}

/* ---- the index ---- */

static bool take_pattern(struct span *marks, struct span *ret)
{
    uint64_t len;

    return codec_get_varint(marks, &len) && take_span(marks, len, ret);
}

static size_t count_patterns(const struct block_part *part)
{
    struct span marks = part->marks, pattern;
    size_t n = 0;

    while (take_pattern(&marks, &pattern))
        n++;
    return n;
}

int parts_index_make(struct parts_index *index, const struct block_part *part)
{
    size_t n_patterns = count_patterns(part), n = 0;
    struct span marks = part->marks;
    struct parts_walk walk;
    struct parts_entry entry;

    index->places = calloc(part->n_columns, sizeof(*index->places));
    index->patterns = calloc(n_patterns + 1, sizeof(*index->patterns));
    if (!index->places || !index->patterns)
        return fault(-ENOMEM, "no memory for an index of %u columns", part->n_columns);
    while (index->n_patterns < n_patterns &&
           take_pattern(&marks, &index->patterns[index->n_patterns]))
        index->n_patterns++;
    parts_walk_init(&walk, part);
    while (n < part->n_columns) {
        struct parts_place place = { walk.directory.data, walk.columns.data };
        bool is_whole = parts_take(&walk, &entry);

        /* block_open() has walked it. */
        ensure(is_whole && entry.n <= part->n_columns - n);
        for (uint64_t i = 0; i < entry.n; i++)
            index->places[n++] = place;
    }
    return 0;
}

void parts_index_deinit(struct parts_index *index)
{
    free(index->places);
    free(index->patterns);
}

bool parts_look_up(const struct parts_index *index,
                   const struct block_part *part,
                   uint64_t column,
                   struct parts_entry *ret)
{
    const uint8_t *directory, *columns;
    struct parts_walk walk;

    if (column >= part->n_columns)
        return false;
    directory = index->places[column].directory;
    columns = index->places[column].columns;
    parts_walk_init(&walk, part);
    walk.directory =
        span_of(directory, part->directory.len - (size_t) (directory - part->directory.data));
    walk.columns = span_of(columns, part->columns.len - (size_t) (columns - part->columns.data));
    return parts_take(&walk, ret);
}

bool parts_pattern(const struct parts_index *index,
                   const struct block_part *part,
                   uint64_t pattern,
                   struct span *ret)
{
    struct span marks = part->marks;

    if (index->patterns) {
        if (pattern >= index->n_patterns)
            return false;
        *ret = index->patterns[pattern];
        return true;
    }
    for (uint64_t i = 0; i <= pattern; i++)
        if (!take_pattern(&marks, ret))
            return false;
    return true;
}

bool parts_is_constant(const struct parts_entry *entry)
{
    unsigned operation = entry->form & 15u;

    return (operation == CODEC_CONST || operation == CODEC_CONST_BITS) && entry->n_terms == 0;
}

/* ---- bounds ---- */

uint16_t parts_bound(double value, bool is_high)
{
    uint64_t bits;
    uint16_t bound;

    memcpy(&bits, &value, sizeof(bits));
    bound = (uint16_t) (bits >> 48);
    /* Cutting goes towards zero; outwards is away from it below when negative, above when not. The
     * next one after the greatest is infinity. */
    if (bits << 16 && is_high != (bool) (bits >> 63))
        bound++;
    return bound;
}

double parts_unbound(uint16_t bound)
{
    uint64_t bits = (uint64_t) bound << 48;
    double value;

    memcpy(&value, &bits, sizeof(value));
    return value;
}
