#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What stands in the bytes of a block, version 1. `v` is a varint, `z` a varint of a zigzag number;
 * fields of fixed size are little-endian.
 *
 *   +0  "SNMB"
 *   +4  u32 crc32c of all that follows
 *   +8  u8 version   +9  u8 flags: 1 what follows the header is v length, then a zstd frame of it
 *   +10 v agent, z first_us, v last_us - first_us, v n_rows, v n_columns, v n_layouts
 *   ---- end of the header ----
 *   heads, one for each layout:
 *       v layout, v n_columns, v n_rows
 *       v back     so many bytes before its body its times stand, in another's; 0: its own
 *       v length of the times, v of the marks, v of the directory, v of the columns
 *   bodies, one for each layout: its own times, marks, directory, columns
 *
 *   marks       patterns of absence, each once: v length, bytes (codec_encode_marks)
 *   columns     the columns' bytes without anything between
 *   directory   for each column in order, or for a run of them, an operation: low 4 bits what, high
 *               4 bits a parameter p
 *
 *    0 ZEROS        p + 1 columns of nothing but +0.0; p = 15: 16 + v
 *    1 CONST        z integer                       one byte and the number, no length
 *    2 CONST_BITS   8 bytes
 *    3 .. 9         v length, bounds                the codec's form as it is, see codec.h
 *    10 SAME        v column                        of a column before or behind in this layout
 *    11 SUM         n x v column x 2 + minus        goes before the operation of one column: to
 *                                                   those values come n others, n = p % 4 + 1, in
 *                                                   order; p / 4 is the class: 0 as doubles, 1, 2,
 *                                                   3 rounded to integers of 10^-2, 10^-3, 10^-6
 *    12 OVER        v column, v column              the first over the second
 *    13 MARKED      p is the pattern (15: 15 + v)   goes before the operation of one column, whose
 *                                                   bytes hold only the values that are there
 *    14 NONE        p + 1 columns that are absent in all rows; p = 15: 16 + v
 *
 *   bounds      only when n_rows >= 256: u16 low, u16 high: the highest 16 bits of the least and
 *               of the greatest value, rounded outwards
 *
 *   SAME, SUM, OVER are of unmarked columns and stand on one another, PARTS_DEPTH_MAX deep.
 */

#include "server/store/block/block.h"

#define PARTS_MAGIC "SNMB"
#define PARTS_PREFIX 10
#define PARTS_CHECKED 8 /* the checksum's first byte */
#define PARTS_ZSTD 1
#define PARTS_DEPTH_MAX 4

/* A body of more is not compressed as a whole: opening it would take that much memory. */
#define PARTS_ZSTD_MAX ((size_t) 4 << 20)

enum parts_operation {
    PARTS_ZEROS = 0,
    PARTS_SAME = 10,
    PARTS_SUM = 11,
    PARTS_OVER = 12,
    PARTS_MARKED = 13,
    PARTS_NONE = 14,
};

#define PARTS_UNMARKED UINT64_MAX
#define PARTS_TERMS_MAX 4
#define PARTS_CLASSES 4 /* of sums, by the digits behind the point */

/* A term of a sum. */
struct parts_term {
    uint32_t column;
    bool is_minus;
};

/* One operation of a directory. */
struct parts_entry {
    uint8_t form; /* operation and parameter */
    uint64_t n;   /* columns that it stands for */
    uint64_t pattern;
    struct span bytes; /* of a column of the codec, or its constant */
    uint64_t columns[2];
    struct parts_term terms[PARTS_TERMS_MAX];
    size_t n_terms;
    unsigned class; /* of the sum */
    bool has_bounds;
    uint16_t low, high;
};

struct parts_walk {
    struct span directory, columns; /* what is left */
    uint32_t n_columns;
    bool has_bounds;
};

void parts_walk_init(struct parts_walk *walk, const struct block_part *part);

/* Takes one operation; false when it is none. */
bool parts_take(struct parts_walk *walk, struct parts_entry *ret);

/* The entry of one column. */
bool parts_find_column(const struct block_part *part, uint64_t column, struct parts_entry *ret);

/* Whether all that is there has one value, which codec_decode_constant() reads. Not so of ZEROS. */
bool parts_is_constant(const struct parts_entry *entry);

/* Where the operation of each column stands, and each pattern of absence. The zero value is none.
 */
struct parts_place {
    const uint8_t *directory, *columns;
};

struct parts_index {
    struct parts_place *places; /* n_columns of them; NULL: no index */
    struct span *patterns;
    size_t n_patterns;
};

/* Of a part that block_open() has checked. Outcomes: none. Faults: no memory (deinit all the same).
 */
int parts_index_make(struct parts_index *index, const struct block_part *part) MUST_USE;
void parts_index_deinit(struct parts_index *index);

bool parts_look_up(const struct parts_index *index,
                   const struct block_part *part,
                   uint64_t column,
                   struct parts_entry *ret);

/* Also without an index, by a walk. */
bool parts_pattern(const struct parts_index *index,
                   const struct block_part *part,
                   uint64_t pattern,
                   struct span *ret);

/* Bounds from and to their 16 bits. */
uint16_t parts_bound(double value, bool is_high);
double parts_unbound(uint16_t bound);

static inline uint64_t parts_bits(double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

/* ---- relate.c ---- */

#define RELATE_PROBES 24
#define RELATE_SUM_ROWS 64 /* columns of fewer are no sums, but for one that is shifted */

struct relate_sum {
    uint8_t n_terms, class;
    struct parts_term terms[PARTS_TERMS_MAX];
};

struct relate_column {
    const double *values;
    uint64_t same, rise, fall; /* what a few rows say: columns that are related agree in one */
    bool is_marked;
    bool is_constant;
    bool is_needed;    /* by another: must go on standing for itself */
    uint8_t operation; /* PARTS_ZEROS while it stands for itself */
    uint32_t columns[2];
    struct relate_sum sum;
};

struct relate_first {
    double value;
    uint32_t column;
};

struct relate_steps {
    bool is_made, is_decimal;
    uint8_t class;
    float steps[2][RELATE_PROBES];
};

struct relate {
    struct relate_column *columns;
    size_t n_columns, n_rows;
    uint32_t *tables; /* two of table_size, of columns + 1 */
    size_t table_size;
    struct relate_first *firsts, *divisors; /* ascending, made when first needed */
    size_t n_firsts, n_divisors;
    struct relate_steps *steps; /* NULL: no sums are looked for */
};

/* The owner fills values, is_marked and is_constant of the columns. Faults: no memory (deinit all
 * the same). */
int relate_init(struct relate *relate,
                size_t n_columns,
                size_t n_rows,
                enum codec_effort effort) MUST_USE;
void relate_deinit(struct relate *relate);

/* Finds columns that are the same as, or an integer plus or minus, one that stands for itself. */
void relate_columns(struct relate *relate);

/* Finds a quotient of two others that the column is; makes it that. Faults: no memory. */
int relate_quotient(struct relate *relate, size_t column, bool *ret_is_one) MUST_USE;

/* It stands for itself and may stand for others. */
static inline bool relate_is_free(const struct relate_column *c)
{
    return !c->is_marked && !c->is_constant && c->operation == PARTS_ZEROS;
}

/* ---- sums.c ---- */

/* What reading does: begin, add each term, end. Exact for what relate_rest() has let pass. */
void parts_sum_begin(unsigned class, double *values, size_t n);
void parts_sum_add(unsigned class, double *values, const double *terms, bool is_minus, size_t n);
void parts_sum_end(unsigned class, double *values, size_t n);

/* Whether it has at most 6 digits behind the point. */
bool parts_is_short(double value);

double relate_term(const struct relate *relate, const struct parts_term *term, size_t row);

/* Finds others of which the column, less them, has smaller steps. */
bool relate_find_sum(struct relate *relate, size_t column, struct relate_sum *ret);

/* What is left without the terms; false when they do not give back every bit. */
bool relate_rest(const struct relate *relate,
                 size_t column,
                 const struct relate_sum *sum,
                 double *ret_rest);
