/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Gathering: the rows in an agent's heads become blocks. Places are copied under the agent's lock;
 * rows are then read in the order of the journal, which is that of the disk, and each goes to its
 * place in the matrix of its day and layout. The head keeps the places until the blocks are
 * committed, and so the segments stay.
 */

#include <errno.h>
#include <stdlib.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/log/log.h"
#include "server/store/journal/reader.h"
#include "server/store/whole.h"

struct gather_row {
    struct head_row at;
    uint32_t head;  /* in gather.heads */
    uint32_t sheet; /* in gather.sheets */
    uint32_t index; /* in the sheet */
    int32_t day;
};

struct gather_head {
    uint32_t layout, n_values;
};

/* The rows of one layout on one day. */
struct sheet {
    uint32_t layout, n_values, n_rows;
    int32_t day;
    uint64_t n_samples;
    size_t times_at, values_at, marks_at; /* in the rooms below */
};

struct gather {
    struct gather_row *rows;
    size_t n_rows, rows_capacity;
    uint32_t *order; /* of rows, by day, layout, time */
    size_t order_capacity;
    struct gather_head *heads;
    size_t n_heads, heads_capacity;
    struct sheet *sheets;
    size_t n_sheets, sheets_capacity;
    struct block_rows *parts;
    size_t parts_capacity;
    struct buf times, values, marks, damaged;
};

struct gather *gather_new(void)
{
    return calloc(1, sizeof(struct gather));
}

struct gather *gather_free(struct gather *gather)
{
    if (!gather)
        return NULL;
    free(gather->rows);
    free(gather->order);
    free(gather->heads);
    free(gather->sheets);
    free(gather->parts);
    buf_deinit(&gather->times);
    buf_deinit(&gather->values);
    buf_deinit(&gather->marks);
    buf_deinit(&gather->damaged);
    free(gather);
    return NULL;
}

static int grow(void *array, size_t *capacity, size_t n, size_t item_bytes)
{
    void **at = array, *grown;

    if (n <= *capacity)
        return 0;
    grown = realloc(*at, (n + n / 2) * item_bytes);
    if (!grown)
        return fault(-ENOMEM, "no memory to seal %zu items", n);
    *at = grown;
    *capacity = n + n / 2;
    return 0;
}

/* ---- which rows ---- */

static int copy_places(struct gather *gather, struct agent *agent)
{
    const struct heads *heads = &agent->heads;
    int r;

    gather->n_rows = gather->n_heads = 0;
    pthread_mutex_lock(&agent->lock);
    r = grow(&gather->rows, &gather->rows_capacity, heads->n_rows + 1, sizeof(*gather->rows));
    if (!r)
        r = grow(&gather->heads, &gather->heads_capacity, heads->n_heads + 1,
                 sizeof(*gather->heads));
    for (size_t i = 0; !r && i < heads->n_heads; i++) {
        const struct head *head = &heads->heads[i];

        for (size_t k = 0; k < head->n_rows; k++)
            gather->rows[gather->n_rows++] =
                (struct gather_row){ .at = head->rows[k],
                                     .head = (uint32_t) gather->n_heads,
                                     .day = day_of(head->rows[k].time_us) };
        gather->heads[gather->n_heads++] = (struct gather_head){ head->layout, head->n_values };
    }
    pthread_mutex_unlock(&agent->lock);
    return pass(r);
}

static int by_position(const void *a, const void *b)
{
    const struct head_row *x = &((const struct gather_row *) a)->at;
    const struct head_row *y = &((const struct gather_row *) b)->at;

    if (x->chunk != y->chunk)
        return x->chunk < y->chunk ? -1 : 1;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

/* Rows of before the start, or of before a day was begun anew, and those of after it do not share a
 * block: the first of these chunks behind `chunk`. */
static uint64_t next_border(struct store *store, uint64_t chunk)
{
    uint64_t border = days_next_begun(&store->days, chunk);

    return store->replayed_chunk > chunk && store->replayed_chunk < border ? store->replayed_chunk
                                                                           : border;
}

/* The oldest ones, by position, that fit into one block. */
static void cut(struct gather *gather, struct store *store)
{
    uint64_t n_values = 0, border;
    size_t n = 0;

    qsort(gather->rows, gather->n_rows, sizeof(*gather->rows), by_position);
    border = next_border(store, gather->rows[0].at.chunk);
    while (n < gather->n_rows && n < SEAL_ROWS && gather->rows[n].at.chunk < border) {
        n_values += gather->heads[gather->rows[n].head].n_values;
        if (n && n_values > SEAL_VALUES)
            break;
        n++;
    }
    gather->n_rows = n;
}

/* ---- where each goes ---- */

static int by_place(const void *a, const void *b, void *ctx)
{
    const struct gather *gather = ctx;
    const struct gather_row *x = &gather->rows[*(const uint32_t *) a];
    const struct gather_row *y = &gather->rows[*(const uint32_t *) b];

    if (x->day != y->day)
        return x->day < y->day ? -1 : 1;
    if (x->head != y->head)
        return x->head < y->head ? -1 : 1;
    if (x->at.time_us != y->at.time_us)
        return x->at.time_us < y->at.time_us ? -1 : 1;
    return by_position(x, y);
}

static int begin_sheet(struct gather *gather, const struct gather_row *row)
{
    int r = grow(&gather->sheets, &gather->sheets_capacity, gather->n_sheets + 1,
                 sizeof(*gather->sheets));

    if (!r)
        gather->sheets[gather->n_sheets++] =
            (struct sheet){ .layout = gather->heads[row->head].layout,
                            .n_values = gather->heads[row->head].n_values,
                            .day = row->day };
    return pass(r);
}

static int lay_out(struct gather *gather)
{
    uint32_t head = UINT32_MAX;
    int r = grow(&gather->order, &gather->order_capacity, gather->n_rows, sizeof(*gather->order));

    gather->n_sheets = 0;
    for (size_t i = 0; !r && i < gather->n_rows; i++)
        gather->order[i] = (uint32_t) i;
    if (r)
        return pass(r);
    qsort_r(gather->order, gather->n_rows, sizeof(*gather->order), by_place, gather);
    for (size_t i = 0; i < gather->n_rows; i++) {
        struct gather_row *row = &gather->rows[gather->order[i]];

        if (gather->n_sheets == 0 || gather->sheets[gather->n_sheets - 1].day != row->day ||
            row->head != head) {
            r = begin_sheet(gather, row);
            if (r)
                return pass(r);
        }
        head = row->head;
        row->sheet = (uint32_t) (gather->n_sheets - 1);
        row->index = gather->sheets[row->sheet].n_rows++;
    }
    return 0;
}

static int make_rooms(struct gather *gather)
{
    buf_clear(&gather->times);
    buf_clear(&gather->values);
    buf_clear(&gather->marks);
    for (size_t i = 0; i < gather->n_sheets; i++) {
        struct sheet *sheet = &gather->sheets[i];

        sheet->times_at = gather->times.len;
        sheet->values_at = gather->values.len;
        sheet->marks_at = SIZE_MAX;
        (void) buf_extend(&gather->times, sheet->n_rows * sizeof(int64_t));
        (void) buf_extend(&gather->values,
                          (size_t) sheet->n_rows * sheet->n_values * sizeof(double));
    }
    if (buf_failed(&gather->times) || buf_failed(&gather->values))
        return fault(-ENOMEM, "no memory for the values of a block");
    return 0;
}

/* ---- reading ---- */

static uint64_t *marks_of(struct gather *gather, struct sheet *sheet)
{
    if (sheet->marks_at == SIZE_MAX) {
        sheet->marks_at = gather->marks.len;
        (void) buf_extend(&gather->marks, codec_mark_words(sheet->n_rows) * sheet->n_values * 8);
    }
    return buf_failed(&gather->marks) ? NULL : (void *) (gather->marks.data + sheet->marks_at);
}

static int
place_row(struct gather *gather, const struct gather_row *at, const struct reader_row *row)
{
    struct sheet *sheet = &gather->sheets[at->sheet];
    double *values = (void *) (gather->values.data + sheet->values_at);
    int64_t *times = (void *) (gather->times.data + sheet->times_at);
    size_t n_words = codec_mark_words(sheet->n_rows);
    uint64_t *marks = row->head.n_absent ? marks_of(gather, sheet) : NULL;

    if (row->head.n_absent && !marks)
        return fault(-ENOMEM, "no memory for the marks of a block");
    times[at->index] = row->head.time_us;
    for (uint32_t c = 0; c < sheet->n_values; c++)
        memcpy(&values[(size_t) c * sheet->n_rows + at->index], row->values + 8 * (size_t) c, 8);
    for (uint32_t i = 0; i < row->head.n_absent; i++) {
        uint32_t column;

        memcpy(&column, row->absent + 4 * (size_t) i, sizeof(column));
        if (column < sheet->n_values)
            marks[column * n_words + at->index / 64] |= UINT64_C(1) << at->index % 64;
    }
    sheet->n_samples += sheet->n_values - row->head.n_absent;
    return 0;
}

/* A row that cannot be read takes no place in its sheet: the others move together. */
static void close_gap(struct gather *gather, struct sheet *sheet, uint32_t index)
{
    int64_t *times = (void *) (gather->times.data + sheet->times_at);
    double *values = (void *) (gather->values.data + sheet->values_at);
    uint32_t n = sheet->n_rows - 1;
    size_t n_words = codec_mark_words(sheet->n_rows), n_words_after = codec_mark_words(n);
    uint64_t *marks =
        sheet->marks_at == SIZE_MAX ? NULL : (void *) (gather->marks.data + sheet->marks_at);

    memmove(&times[index], &times[index + 1], (n - index) * sizeof(*times));
    for (uint32_t c = 0; c < sheet->n_values; c++) {
        double *from = &values[(size_t) c * sheet->n_rows], *to = &values[(size_t) c * n];

        memmove(to, from, index * sizeof(*to));
        memmove(to + index, from + index + 1, (n - index) * sizeof(*to));
        for (uint32_t i = 0; marks && i < n; i++) {
            uint32_t source = i < index ? i : i + 1;
            uint64_t bit = marks[c * n_words + source / 64] >> source % 64 & 1;
            uint64_t *word = &marks[c * n_words_after + i / 64];

            *word = (*word & ~(UINT64_C(1) << i % 64)) | bit << i % 64;
        }
        if (marks && n % 64)
            marks[c * n_words_after + n / 64] &= (UINT64_C(1) << n % 64) - 1;
    }
    sheet->n_rows = n;
}

static int by_index_down(const void *a, const void *b, void *ctx)
{
    const struct gather *gather = ctx;
    const struct gather_row *x = &gather->rows[*(const uint32_t *) a];
    const struct gather_row *y = &gather->rows[*(const uint32_t *) b];

    return (x->index < y->index) - (x->index > y->index);
}

static void close_gaps(struct gather *gather)
{
    uint32_t *damaged = (void *) gather->damaged.data;
    size_t n = gather->damaged.len / sizeof(*damaged);

    if (n == 0)
        return;
    qsort_r(damaged, n, sizeof(*damaged), by_index_down, gather);
    for (size_t i = 0; i < n; i++) {
        const struct gather_row *row = &gather->rows[damaged[i]];

        close_gap(gather, &gather->sheets[row->sheet], row->index);
    }
}

static int read_rows(struct gather *gather, struct journal *journal, uint32_t agent)
{
    struct reader reader = { .journal = journal };
    int r = 0;

    buf_clear(&gather->damaged);
    for (size_t i = 0; !r && i < gather->n_rows; i++) {
        const struct gather_row *at = &gather->rows[i];
        uint32_t index = (uint32_t) i;
        struct reader_row row;

        if (i + READER_AHEAD < gather->n_rows)
            reader_expect(&reader, &gather->rows[i + READER_AHEAD].at);
        r = reader_row(&reader, agent, gather->heads[at->head].layout, &at->at, &row);
        if (r == 0 && row.head.n_values != gather->sheets[at->sheet].n_values)
            r = STORE_NOT_FOUND;
        if (r == 0) {
            r = place_row(gather, at, &row);
        } else if (r == STORE_NOT_FOUND) {
            log_peer(LOG_ERROR, "journal_row_damaged", LOG_U("chunk", at->at.chunk),
                     LOG_U("offset", at->at.offset));
            buf_append(&gather->damaged, &index, sizeof(index));
            r = buf_failed(&gather->damaged) ? fault(-ENOMEM, "no memory to seal") : 0;
        }
    }
    reader_close(&reader);
    if (!r)
        close_gaps(gather);
    return pass(r);
}

/* ---- blocks ---- */

static int begin_block(struct seal_group *group, struct seal_block **ret)
{
    int r = grow(&group->blocks, &group->capacity, group->n_blocks + 1, sizeof(*group->blocks));

    if (r)
        return pass(r);
    *ret = &group->blocks[group->n_blocks++];
    **ret = (struct seal_block){ .at = group->bytes.len, .spans_at = group->spans.len };
    return 0;
}

/* The sheet's part of a block; notes its span. */
static void add_part(struct gather *gather,
                     const struct sheet *sheet,
                     struct seal_group *group,
                     struct seal_block *block,
                     struct block_rows *ret)
{
    const int64_t *times = (const void *) (gather->times.data + sheet->times_at);
    struct day_span span = { .layout = sheet->layout,
                             .first_us = times[0],
                             .last_us = times[sheet->n_rows - 1],
                             .n_rows = sheet->n_rows };

    *ret = (struct block_rows){
        .layout = sheet->layout,
        .n_columns = sheet->n_values,
        .n_rows = sheet->n_rows,
        .times_us = times,
        .values = (const void *) (gather->values.data + sheet->values_at),
        .absent = sheet->marks_at == SIZE_MAX
                      ? NULL
                      : (const void *) (gather->marks.data + sheet->marks_at),
    };
    buf_append(&group->spans, &span, sizeof(span));
    block->n_spans++;
    block->prefix.n_rows += sheet->n_rows;
    block->prefix.n_samples += sheet->n_samples;
    if (block->n_spans == 1 || span.first_us < block->key.first_us)
        block->key.first_us = span.first_us;
    if (block->n_spans == 1 || span.last_us > block->prefix.last_us)
        block->prefix.last_us = span.last_us;
}

/* All sheets of the day that begins at `first`; *ret_next is behind them. */
static int make_block(struct sealer *sealer,
                      struct agent *agent,
                      struct seal_group *group,
                      size_t first,
                      size_t *ret_next)
{
    struct gather *gather = sealer->gather;
    struct seal_block *block;
    struct block_input input = { .agent = agent->facts.number, .effort = CODEC_FAST };
    size_t i;
    int r = begin_block(group, &block);

    if (!r)
        r = grow(&gather->parts, &gather->parts_capacity, gather->n_sheets, sizeof(*gather->parts));
    if (r)
        return pass(r);
    block->agent = agent;
    block->day = gather->sheets[first].day;
    block->key.agent = agent->facts.number;
    block->up_to = gather->rows[gather->n_rows - 1].at;
    for (i = first; i < gather->n_sheets && gather->sheets[i].day == block->day; i++) {
        if (gather->sheets[i].n_rows)
            add_part(gather, &gather->sheets[i], group, block, &gather->parts[input.n_layouts++]);
    }
    *ret_next = i;
    /* Where no row could be read there is no block, only the word that all is sealed. */
    if (input.n_layouts == 0)
        return 0;
    input.layouts = gather->parts;
    r = block_encode(&sealer->work, &input, &group->bytes);
    block = &group->blocks[group->n_blocks - 1];
    block->len = group->bytes.len - block->at;
    if (!r && (buf_failed(&group->bytes) || buf_failed(&group->spans)))
        r = fault(-ENOMEM, "no memory for sealed blocks");
    return fold(r);
}

int gather_agent(struct sealer *sealer, struct agent *agent, struct seal_group *group)
{
    struct gather *gather = sealer->gather;
    size_t next = 0, first_block = group->n_blocks;
    int r = copy_places(gather, agent);

    if (r || gather->n_rows == 0)
        return pass(r);
    cut(gather, sealer->store);
    r = lay_out(gather);
    if (!r)
        r = make_rooms(gather);
    if (!r)
        r = read_rows(gather, &sealer->store->journal, agent->facts.number);
    while (!r && next < gather->n_sheets)
        r = make_block(sealer, agent, group, next, &next);
    if (r) {
        group->n_blocks = first_block;
        return pass(r);
    }
    group->n_damaged += gather->damaged.len / sizeof(uint32_t);
    group->n_agents++;
    return 0;
}
