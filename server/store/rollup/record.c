/* SPDX-License-Identifier: Apache-2.0 */

/* One record of the roll-ups: windows to a block and back; keys and marks. */

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "common/base/crc32c.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/log/log.h"
#include "server/store/rollup/rollup.h"
#include "server/store/store.h"

#define COLUMNS_MAX (ROLL_HEAD + ROLL_FIELDS * ROLL_COLUMNS)
/* So near, for each sample, is a sum of deltas to the difference that it should be. */
#define ROUNDING 2.3e-16

static_assert(ROLL_WINDOWS_MAX <= 64, "marks of a column are one word");

/* ---- sheets and room ---- */

int roll_sheet_begin(struct roll_sheet *sheet, size_t n_columns)
{
    ensure(n_columns <= ROLL_COLUMNS);
    if (!sheet->windows)
        sheet->windows = calloc((size_t) ROLL_WINDOWS_MAX * ROLL_COLUMNS, sizeof(*sheet->windows));
    if (!sheet->windows)
        return fault(-ENOMEM, "no memory for windows");
    sheet->n_rows = 0;
    sheet->n_columns = n_columns;
    memset(sheet->rows, 0, sizeof(sheet->rows));
    memset(sheet->windows, 0, ROLL_WINDOWS_MAX * n_columns * sizeof(*sheet->windows));
    return 0;
}

void roll_sheet_deinit(struct roll_sheet *sheet)
{
    free(sheet->windows);
    *sheet = (struct roll_sheet){ 0 };
}

static int make_room(struct roll_work *work)
{
    if (!work->values)
        work->values = calloc((size_t) ROLL_WINDOWS_MAX * COLUMNS_MAX, sizeof(*work->values));
    if (!work->marks)
        work->marks = calloc(COLUMNS_MAX, sizeof(*work->marks));
    return work->values && work->marks ? 0 : fault(-ENOMEM, "no memory for a record of windows");
}

void roll_work_deinit(struct roll_work *work)
{
    codec_work_deinit(&work->codec);
    free(work->values);
    free(work->marks);
    buf_deinit(&work->opened);
    *work = (struct roll_work){ 0 };
}

/* ---- what follows from the rest ---- */

/* Whether the increase is what the last sample and the one counted from say. */
static bool follows(double increase, const struct store_window *window, double from)
{
    double size = fmax(fmax(fabs(window->min), fabs(window->max)), fabs(from));
    double off = fabs(increase - (window->last - from));

    return off <= (double) (window->n_samples + 1) * ROUNDING * size;
}

/* ---- encoding ---- */

struct encoder {
    double *values;
    uint64_t *marks;
    size_t n_rows;
};

static void put(struct encoder *encoder, size_t column, size_t row, double value)
{
    encoder->values[column * encoder->n_rows + row] = value;
}

/* A field that is absent where it follows from others. */
static void
put_unless(struct encoder *encoder, bool is_absent, size_t column, size_t row, double value)
{
    put(encoder, column, row, is_absent ? 0 : value);
    if (is_absent)
        encoder->marks[column] |= UINT64_C(1) << row;
}

static void put_window(struct encoder *encoder,
                       size_t first_column,
                       size_t row,
                       const struct roll_row *of,
                       const struct store_window *window,
                       const struct store_window *before)
{
    bool is_chained = window->is_chained, is_there = window->n_samples > 0;
    bool has_from = !is_chained || before;
    double from = !is_chained ? window->base : before ? before->last : 0;
    int64_t base_us = !is_chained ? of->first_us : before ? before->last_us : INT64_MIN;

    put_unless(encoder, !is_there, first_column + ROLL_MIN, row, window->min);
    put_unless(encoder, !is_there, first_column + ROLL_MAX, row, window->max);
    put_unless(encoder, !is_there, first_column + ROLL_SUM, row, window->sum);
    put_unless(encoder, !is_there, first_column + ROLL_LAST, row, window->last);
    put_unless(encoder, !is_there || is_chained, first_column + ROLL_BASE, row, window->base);
    put_unless(encoder, !is_there || (has_from && follows(window->increase, window, from)),
               first_column + ROLL_INCREASE, row, window->increase);
    put_unless(encoder, !is_there || window->n_samples == of->n_rows, first_column + ROLL_COUNT,
               row, (double) window->n_samples);
    put_unless(encoder, !is_there || window->base_us == base_us, first_column + ROLL_BASE_AT, row,
               (double) (window->base_us - of->begin_us));
    put_unless(encoder, !is_there || window->last_us == of->last_us, first_column + ROLL_LAST_AT,
               row, (double) (window->last_us - of->begin_us));
}

static void put_series(struct encoder *encoder, const struct roll_sheet *sheet, size_t column)
{
    const struct store_window *before = NULL;
    size_t at = 0;

    for (size_t i = 0; i < sheet->n_rows; i++) {
        const struct store_window *window = roll_at(sheet, i, column);

        if (sheet->rows[i].n_rows == 0)
            continue;
        put_window(encoder, ROLL_HEAD + ROLL_FIELDS * column, at++, &sheet->rows[i], window,
                   before);
        before = window->n_samples ? window : before;
    }
}

static void put_rows(struct encoder *encoder,
                     const struct roll_sheet *sheet,
                     int64_t *ret_times_us,
                     struct day_prefix *prefix)
{
    size_t at = 0;

    for (size_t i = 0; i < sheet->n_rows; i++) {
        const struct roll_row *row = &sheet->rows[i];

        if (row->n_rows == 0)
            continue;
        put(encoder, 0, at, (double) row->n_rows);
        put(encoder, 1, at, (double) (row->first_us - row->begin_us));
        ret_times_us[at++] = row->last_us;
        prefix->last_us = row->last_us;
        for (size_t c = 0; c < sheet->n_columns; c++)
            prefix->n_samples += roll_at(sheet, i, c)->n_samples;
    }
}

int roll_encode(struct roll_work *work,
                const struct roll_key *key,
                const struct roll_sheet *sheet,
                struct day_prefix *ret_prefix,
                struct buf *out)
{
    int64_t times_us[ROLL_WINDOWS_MAX];
    struct encoder encoder = { 0 };
    struct block_rows part = {
        .layout = key->layout,
        .n_columns = (uint32_t) (ROLL_HEAD + ROLL_FIELDS * sheet->n_columns),
        .times_us = times_us,
    };
    struct block_input input = { .agent = key->agent,
                                 .effort = CODEC_SMALL,
                                 .is_plain = true,
                                 .layouts = &part,
                                 .n_layouts = 1 };
    int r = make_room(work);

    if (r)
        return pass(r);
    encoder = (struct encoder){ .values = work->values, .marks = work->marks };
    *ret_prefix = (struct day_prefix){ 0 };
    for (size_t i = 0; i < sheet->n_rows; i++)
        encoder.n_rows += sheet->rows[i].n_rows > 0;
    ensure(encoder.n_rows > 0);
    memset(encoder.marks, 0, part.n_columns * sizeof(*encoder.marks));
    put_rows(&encoder, sheet, times_us, ret_prefix);
    for (size_t c = 0; c < sheet->n_columns; c++)
        put_series(&encoder, sheet, c);
    ret_prefix->n_rows = part.n_rows = (uint32_t) encoder.n_rows;
    part.values = encoder.values;
    part.absent = encoder.marks;
    return fold(block_encode(&work->codec, &input, out));
}

/* ---- decoding ---- */

/* Where each field of the column at hand is in what was decoded; SIZE_MAX: it was not. */
struct decoder {
    const struct roll_work *work;
    size_t n_rows;
    size_t at[ROLL_FIELDS];
};

/* False: absent. */
static bool get(const struct decoder *decoder, enum roll_field field, size_t row, double *ret)
{
    size_t at = decoder->at[field];

    if (at == SIZE_MAX || codec_marked(&decoder->work->marks[at], row))
        return false;
    *ret = decoder->work->values[at * decoder->n_rows + row];
    return true;
}

static bool wants(unsigned parts, enum roll_field field)
{
    static const unsigned of[ROLL_FIELDS] = {
        [ROLL_MIN] = STORE_WINDOW_MIN,
        [ROLL_MAX] = STORE_WINDOW_MAX,
        [ROLL_SUM] = STORE_WINDOW_SUM,
        [ROLL_LAST] = STORE_WINDOW_LAST | STORE_WINDOW_GROWTH,
        [ROLL_BASE] = STORE_WINDOW_GROWTH,
        [ROLL_INCREASE] = STORE_WINDOW_GROWTH,
        [ROLL_COUNT] = STORE_WINDOW_COUNT,
        [ROLL_BASE_AT] = STORE_WINDOW_GROWTH,
        [ROLL_LAST_AT] = STORE_WINDOW_LAST | STORE_WINDOW_GROWTH,
    };
    static const unsigned tell = STORE_WINDOW_MIN | STORE_WINDOW_MAX | STORE_WINDOW_SUM |
                                 STORE_WINDOW_LAST | STORE_WINDOW_GROWTH;

    /* One of the four says whether there is a sample at all. */
    return (parts & of[field]) || (field == ROLL_MIN && !(parts & tell));
}

static int64_t time_at(const struct decoder *decoder,
                       enum roll_field field,
                       size_t row,
                       int64_t begin_us,
                       int64_t otherwise_us)
{
    double off;

    if (!get(decoder, field, row, &off) || !(fabs(off) <= 1e15))
        return otherwise_us;
    return begin_us + (int64_t) off;
}

static void get_growth(const struct decoder *decoder,
                       const struct roll_row *row,
                       size_t at,
                       const struct store_window *before,
                       struct store_window *ret)
{
    double from = before ? before->last : 0;

    ret->is_chained = !get(decoder, ROLL_BASE, at, &ret->base);
    if (!ret->is_chained)
        from = ret->base;
    ret->base_us = time_at(decoder, ROLL_BASE_AT, at, row->begin_us,
                           ret->is_chained && before ? before->last_us : row->first_us);
    if (!get(decoder, ROLL_INCREASE, at, &ret->increase))
        ret->increase = ret->last - from;
}

static void get_series(const struct decoder *decoder, struct roll_sheet *to, size_t column)
{
    const struct store_window *before = NULL;

    for (size_t i = 0; i < to->n_rows; i++) {
        struct store_window *window = roll_at(to, i, column);
        const struct roll_row *row = &to->rows[i];
        double count = (double) row->n_rows;

        window->begin_us = row->begin_us;
        if (!get(decoder, ROLL_MIN, i, &window->min) + !get(decoder, ROLL_MAX, i, &window->max) +
                !get(decoder, ROLL_SUM, i, &window->sum) +
                !get(decoder, ROLL_LAST, i, &window->last) ==
            4)
            continue;
        (void) get(decoder, ROLL_COUNT, i, &count);
        window->n_samples = count >= 1 && count <= 1e15 ? (uint64_t) count : 1;
        window->last_us = time_at(decoder, ROLL_LAST_AT, i, row->begin_us, row->last_us);
        get_growth(decoder, row, i, before, window);
        before = window;
    }
}

/* False: no rows of such a record. */
static bool get_rows(const struct roll_work *work,
                     const struct roll_key *key,
                     enum roll_tier tier,
                     const int64_t *times_us,
                     struct roll_sheet *to)
{
    int64_t end_us = key->begin_us, window_us = roll_window_us(tier);

    for (size_t i = 0; i < to->n_rows; i++) {
        struct roll_row *row = &to->rows[i];
        double n_rows = work->values[i], first_at = work->values[to->n_rows + i];

        row->begin_us = floor_to_us(times_us[i], window_us);
        if (row->begin_us < end_us || row->begin_us >= key->begin_us + roll_record_us(tier) ||
            !(n_rows >= 1 && n_rows <= 1e15) || !(first_at >= 0 && first_at <= (double) window_us))
            return false;
        end_us = row->begin_us + window_us;
        row->n_rows = (uint64_t) n_rows;
        row->first_us = row->begin_us + (int64_t) first_at;
        row->last_us = times_us[i];
    }
    return true;
}

static size_t list_columns(uint32_t *to, const struct roll_wish *wish)
{
    size_t n = 0;

    for (uint32_t i = 0; i < ROLL_HEAD; i++)
        to[n++] = i;
    for (size_t i = 0; i < wish->n_columns; i++)
        for (uint32_t field = 0; field < ROLL_FIELDS; field++)
            if (wants(wish->parts, (enum roll_field) field))
                to[n++] = ROLL_HEAD + ROLL_FIELDS * wish->columns[i] + field;
    return n;
}

static int open_part(struct roll_work *work,
                     const struct roll_key *key,
                     struct span bytes,
                     struct block_part *ret)
{
    struct block block;
    int r = block_open(bytes, &work->opened, &block);

    if (r)
        return r < 0 ? pass(r) : r;
    return block.agent == key->agent && block_find(&block, key->layout, ret) &&
                   ret->n_rows <= ROLL_WINDOWS_MAX && ret->n_columns <= COLUMNS_MAX &&
                   ret->n_columns > ROLL_HEAD
               ? 0
               : BLOCK_BAD;
}

int roll_decode(struct roll_work *work,
                const struct roll_key *key,
                const struct roll_wish *wish,
                struct span block,
                struct roll_sheet *ret)
{
    uint32_t list[COLUMNS_MAX];
    int64_t times_us[ROLL_WINDOWS_MAX];
    struct block_part part;
    size_t n, next = ROLL_HEAD;
    int r = make_room(work);

    if (!r)
        r = roll_sheet_begin(ret, wish->n_columns);
    if (!r)
        r = open_part(work, key, block, &part);
    if (r)
        return r < 0 ? pass(r) : r;
    n = list_columns(list, wish);
    if (list[n - 1] >= part.n_columns)
        return BLOCK_BAD;
    r = block_times(&part, times_us);
    if (!r)
        r = block_columns(&part, list, n, part.n_rows, work->values, work->marks);
    if (r)
        return r < 0 ? pass(r) : r;
    ret->n_rows = part.n_rows;
    if (!get_rows(work, key, wish->tier, times_us, ret))
        return BLOCK_BAD;
    for (size_t i = 0; i < wish->n_columns; i++) {
        struct decoder decoder = { .work = work, .n_rows = part.n_rows };

        for (size_t field = 0; field < ROLL_FIELDS; field++)
            decoder.at[field] = wants(wish->parts, (enum roll_field) field) ? next++ : SIZE_MAX;
        get_series(&decoder, ret, i);
    }
    return 0;
}

/* ---- keys and marks ---- */

void roll_key_put(uint8_t to[static ROLL_KEY_BYTES], const struct roll_key *key)
{
    db_key_u32(to, key->agent);
    db_key_u32(to + 4, key->layout);
    to[8] = (uint8_t) (key->slice >> 8);
    to[9] = (uint8_t) key->slice;
    db_key_u64(to + 10, (uint64_t) key->begin_us ^ UINT64_C(1) << 63);
}

bool roll_key_get(MDB_val from, struct roll_key *ret)
{
    const uint8_t *at = from.mv_data;

    if (from.mv_size != ROLL_KEY_BYTES)
        return false;
    ret->agent = db_u32_of(db_val(at, 4));
    ret->layout = db_u32_of(db_val(at + 4, 4));
    ret->slice = (uint16_t) (at[8] << 8 | at[9]);
    ret->begin_us = (int64_t) (db_u64_of(db_val(at + 10, 8)) ^ UINT64_C(1) << 63);
    return true;
}

MDB_val roll_mark_key(uint8_t to[static ROLL_MARK_KEY_BYTES], uint32_t agent, int32_t day)
{
    db_key_u32(to, agent);
    db_key_u32(to + 4, (uint32_t) day ^ UINT32_C(1) << 31);
    return db_val(to, ROLL_MARK_KEY_BYTES);
}

static uint32_t mark_crc(MDB_val key, const struct roll_mark *mark)
{
    return crc32c(crc32c(0, key.mv_data, key.mv_size),
                  (const uint8_t *) mark + sizeof(mark->crc32c),
                  sizeof(*mark) - sizeof(mark->crc32c));
}

bool roll_mark_read(MDB_val key, MDB_val value, struct roll_mark *ret)
{
    if (value.mv_size != sizeof(*ret))
        return false;
    memcpy(ret, value.mv_data, sizeof(*ret));
    return ret->crc32c == mark_crc(key, ret);
}

int roll_mark_get(struct day *period,
                  MDB_txn *txn,
                  uint32_t agent,
                  int32_t day,
                  struct roll_mark *ret)
{
    uint8_t name[ROLL_MARK_KEY_BYTES];
    MDB_val key = roll_mark_key(name, agent, day), value;
    int rc = mdb_get(txn, period->marks, &key, &value);

    *ret = (struct roll_mark){ 0 };
    if (rc == MDB_NOTFOUND)
        return 0;
    if (db_is_damage(rc)) {
        day_found_damage(period, mdb_strerror(rc));
        return 0;
    }
    if (rc)
        return fold(db_check(rc, "cannot read roll-ups"));
    if (!roll_mark_read(key, value, ret)) {
        log_peer(LOG_ERROR, "rollup_mark_damaged", LOG_S("path", period->path),
                 LOG_U("agent", agent), LOG_I("day", day));
        *ret = (struct roll_mark){ 0 };
    }
    return 0;
}

int roll_mark_put(struct day *period,
                  MDB_txn *txn,
                  uint32_t agent,
                  int32_t day,
                  const struct roll_mark *mark)
{
    uint8_t name[ROLL_MARK_KEY_BYTES];
    struct roll_mark copy = *mark;
    MDB_val key = roll_mark_key(name, agent, day), value = db_val(&copy, sizeof(copy));

    copy.crc32c = mark_crc(key, &copy);
    return pass(db_check(mdb_put(txn, period->marks, &key, &value, 0), "cannot write roll-ups"));
}
