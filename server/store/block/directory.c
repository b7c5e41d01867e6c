/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

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

static bool take_terms(struct parts_walk *walk, unsigned n, struct parts_entry *ret)
{
    if (n > PARTS_TERMS_MAX)
        return false;
    for (; ret->n_terms < n; ret->n_terms++) {
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
        return take_terms(walk, parameter + 1, ret) && take_byte(&walk->directory, &ret->form);
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

bool parts_find(const struct block_part *part, uint64_t column, struct parts_entry *ret)
{
    struct parts_walk walk;

    parts_walk_init(&walk, part);
    for (uint64_t i = 0; parts_take(&walk, ret); i += ret->n)
        if (column - i < ret->n)
            return true;
    return false;
}

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
