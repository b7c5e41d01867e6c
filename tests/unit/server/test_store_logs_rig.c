/* SPDX-License-Identifier: Apache-2.0 */
#include "test_store_logs.h"

#include <stdlib.h>
#include <string.h>

#include "server/store/days/scan.h"
#include "server/store/journal/reader.h"
#include "server/store/whole.h"

#define BODY_MAX (2u << 20)

/* ---- records ---- */

static const struct logblock_attribute source_attributes[2] = {
    { { (const uint8_t *) "unit", 4 }, { (const uint8_t *) "nginx.service", 13 } },
    { { (const uint8_t *) "zone", 4 }, { (const uint8_t *) "a\0b", 3 } },
};

static struct logblock_source source_of(unsigned source)
{
    static const char *const names[4] = { "/var/log/syslog", "/var/log/nginx/access.log", "journal",
                                          "" };

    return (struct logblock_source){ .type = span_of_text(source % 4 == 2 ? "journald" : "file"),
                                     .name = span_of_text(names[source % 4]),
                                     .attributes = source_attributes,
                                     .n_attributes = source % 3 };
}

struct room {
    char number[16];
    struct logblock_attribute attributes[3];
};

static uint32_t mixed(uint32_t n, uint32_t salt)
{
    uint64_t x = ((uint64_t) n << 8 | salt) * UINT64_C(0x9e3779b97f4a7c15);

    return (uint32_t) (x >> 32);
}

/* "17 " and then bytes of all kinds. */
static size_t body_of(uint32_t n, size_t least_bytes, uint8_t *to)
{
    size_t len = (size_t) sprintf((char *) to, "%u ", n);
    size_t n_bytes = least_bytes ? least_bytes : mixed(n, 1) % 90;

    for (size_t i = 0; i < n_bytes; i++)
        to[len++] = n % 17 == 3 ? (uint8_t) mixed(n, (uint32_t) i & 255)
                                : (uint8_t) "GET /index.html from 10.0.0.7 "[i % 30];
    return len;
}

static struct logblock_record
record_of(uint32_t n, int64_t time_us, struct span body, struct room *room)
{
    struct logblock_record record = {
        .time_us = time_us,
        .observed_us = time_us + mixed(n, 2) % 1000,
        .source_offset = (uint64_t) n * 100,
        .severity = n % (LOGBLOCK_SEVERITY_MAX + 1),
        .is_raw = n % 13 == 0,
        .has_trace_id = n % 5 == 0,
        .has_span_id = n % 7 == 0,
        .body = body,
        .attributes = room->attributes,
        .n_attributes = n / 3 % 4 == 3 ? 3 : n / 3 % 2,
    };

    memset(record.trace_id, record.has_trace_id ? (int) (n & 255) : 0, sizeof(record.trace_id));
    memset(record.span_id, record.has_span_id ? (int) (n >> 1 & 255) : 0, sizeof(record.span_id));
    snprintf(room->number, sizeof(room->number), "%u", n / 3 % 10); /* neighbours share */
    room->attributes[0] =
        (struct logblock_attribute){ span_of_text("pid"), span_of_text(room->number) };
    room->attributes[1] = (struct logblock_attribute){ span_of_text("empty"), span_of("", 0) };
    room->attributes[2] = (struct logblock_attribute){ span_of("a\0b", 3), span_of("\0", 1) };
    return record;
}

static void check_attributes(const struct logblock_attribute *got,
                             size_t n_got,
                             const struct logblock_attribute *wanted,
                             size_t n_wanted)
{
    ck_assert_uint_eq(n_got, n_wanted);
    for (size_t i = 0; i < n_got; i++) {
        ck_assert(span_equal(got[i].key, wanted[i].key));
        ck_assert(span_equal(got[i].value, wanted[i].value));
    }
}

uint32_t check_line(const struct logblock_source *source, const struct logblock_record *got)
{
    static _Thread_local uint8_t body[BODY_MAX];
    struct room room;
    struct logblock_record wanted;
    char head[16] = "";
    uint32_t n;
    size_t len, least_bytes;

    memcpy(head, got->body.data, got->body.len < 15 ? got->body.len : 15);
    n = (uint32_t) strtoul(head, NULL, 10);
    len = body_of(n, 0, body);
    least_bytes =
        got->body.len == len ? 0 : got->body.len - (size_t) (strchr(head, ' ') + 1 - head);
    len = body_of(n, least_bytes, body);
    wanted = record_of(n, got->time_us, span_of(body, len), &room);
    ck_assert_msg(span_equal(got->body, wanted.body), "the body of %u", n);
    ck_assert_int_eq(got->observed_us, wanted.observed_us);
    ck_assert_uint_eq(got->source_offset, wanted.source_offset);
    ck_assert_uint_eq(got->severity, wanted.severity);
    ck_assert(got->is_raw == wanted.is_raw);
    ck_assert(got->has_trace_id == wanted.has_trace_id && got->has_span_id == wanted.has_span_id);
    ck_assert_mem_eq(got->trace_id, wanted.trace_id, sizeof(wanted.trace_id));
    ck_assert_mem_eq(got->span_id, wanted.span_id, sizeof(wanted.span_id));
    check_attributes(got->attributes, got->n_attributes, wanted.attributes, wanted.n_attributes);
    for (unsigned i = 0; i < 12; i++) {
        struct logblock_source one = source_of(i);

        if (logs_source_equal(source, &one))
            return n;
    }
    ck_abort_msg("a source that was never given");
}

/* ---- writing ---- */

/* Packed as an agent sends them, and read as the hub reads them. Into memory of the arena. */
static const struct logblock_sent *
send_as_block(const struct logblock_record *records, size_t n, struct arena *arena)
{
    CLEANUP(logblock_work_freep) struct logblock_work *work = logblock_work_new();
    CLEANUP(logblock_room_freep) struct logblock_room *room = logblock_room_new();
    CLEANUP(buf_deinit) struct buf block = { 0 };
    const struct logblock_input input = { .records = records, .n_records = n, .is_sent = true };
    struct logblock_sent *sent = arena_alloc(arena, sizeof(*sent));
    const uint8_t *copy;

    ck_assert(work && room && sent);
    ck_assert_int_eq(logblock_encode(work, &input, &block), 0);
    copy = (const uint8_t *) arena_copy(arena, buf_span(&block));
    ck_assert_ptr_nonnull(copy);
    ck_assert_int_eq(logblock_read_sent(span_of(copy, block.len), room, arena, sent), LOGBLOCK_OK);
    return sent;
}

/* Every second one comes as a block. */
struct store_batch *logs_batch(struct log_put put)
{
    struct logblock_source source = source_of(put.source);
    struct logblock_record *records = calloc(put.n + 1, sizeof(*records));
    struct room *rooms = calloc(put.n + 1, sizeof(*rooms));
    size_t stride = put.body_bytes + 128;
    uint8_t *bodies = malloc((put.n + 1) * stride);
    struct store_packer *packer = NULL;
    struct store_batch *batch = NULL;
    const struct logblock_sent *sent = NULL;
    struct arena arena;

    arena_init(&arena, (size_t) 256 << 20);
    for (uint32_t i = 0; i < put.n; i++) {
        uint8_t *body = bodies + i * stride;
        size_t len = body_of(put.first + i, put.body_bytes, body);

        records[i] =
            record_of(put.first + i, put.time_us + i * put.step_us, span_of(body, len), &rooms[i]);
    }
    ck_assert_int_eq(store_packer_new(&packer), 0);
    if (put.n > 0 && put.sequence % 2 == 0)
        sent = send_as_block(records, put.n, &arena);
    ck_assert_int_eq(
        store_batch_new_logs(packer, &source, sent ? sent->records : records, put.n, sent, &batch),
        0);
    arena_deinit(&arena);
    ck_assert_uint_le(batch->n_bytes, store_logs_bytes(&source, records, put.n));
    batch->agent = put.agent;
    batch->signal = STORE_LOGS;
    batch->spool[0] = put.spool;
    batch->sequence = put.sequence;
    batch->crc32c = (uint32_t) put.sequence * 7;
    store_packer_free(packer);
    free(records);
    free(rooms);
    free(bodies);
    return batch;
}

int put_logs(struct store *store, struct log_put put, uint64_t *ret_last)
{
    return put_batch(store, logs_batch(put), ret_last);
}

int put_logs_skip(struct store *store, struct log_put put, uint64_t records)
{
    struct store_batch *batch;

    put.n = 0;
    batch = logs_batch(put);
    batch->is_skip = true;
    batch->skip_records = records;
    return put_batch(store, batch, NULL);
}

/* ---- reading ---- */

static void add_lines(struct lines *to,
                      const struct logblock_source *source,
                      struct logblock_record *at,
                      size_t n)
{
    for (size_t i = 0; i < n; i++) {
        ck_assert_uint_lt(to->n, LINES_MAX);
        to->lines[to->n++] =
            (struct line){ check_line(source, &at[i]), at[i].time_us, at[i].place };
    }
}

static void read_packs(struct logs_view *view, struct logblock_room *room, struct lines *to)
{
    struct reader reader = { .journal = &view->store->journal };

    for (size_t i = 0; i < view->n_packs; i++) {
        struct logblock_place place = { view->packs[i].chunk, view->packs[i].offset, 0 };
        struct logblock_source source;
        struct logblock_record *records;
        struct span bytes;
        size_t n;
        int r = reader_pack(&reader, view->agent->facts.number, &view->packs[i], &bytes);

        if (r == 0)
            r = logblock_unpack(bytes, place, room, &source, &records, &n);
        ck_assert_int_ge(r, 0);
        if (r) {
            to->n_damaged++;
            continue;
        }
        ck_assert_uint_eq(n, view->packs[i].n_records);
        ck_assert_uint_eq(logs_source_hash(&source), view->packs[i].source);
        add_lines(to, &source, records, n);
    }
    reader_close(&reader);
}

static void
read_day(struct logs_view *view, struct day *day, struct logblock_room *room, struct lines *to)
{
    struct find_blocks find = { view->agent->facts.number, INT64_MIN, INT64_MAX, view->seal };
    struct buf found = { 0 };
    const struct found_block *blocks;
    uint64_t n_damaged = 0, n_bytes;
    MDB_txn *txn;

    ck_assert_int_eq(mdb_txn_begin(day->env, NULL, MDB_RDONLY, &txn), 0);
    ck_assert_int_eq(found_blocks(day, txn, &find, &found, &n_damaged), 0);
    to->n_damaged += n_damaged;
    blocks = (const void *) found.data;
    for (size_t i = 0; i < found.len / sizeof(*blocks); i++) {
        struct span bytes = blocks[i].bytes;
        size_t n_before = to->n;
        int r = 0;

        while (!r && bytes.len > 0) {
            struct logblock_record *records;
            struct logblock block;
            size_t n;

            r = logblock_next(&bytes, room, &block);
            if (r == 0)
                r = logblock_find(&block, NULL, room, &records, &n, &n_bytes);
            ck_assert_int_ge(r, 0);
            if (r)
                break;
            ck_assert_int_ge(block.first_us, blocks[i].key.first_us);
            ck_assert_int_le(block.last_us, blocks[i].prefix.last_us);
            ck_assert_int_eq(day_of(block.first_us), day->number);
            ck_assert_int_eq(day_of(block.last_us), day->number);
            add_lines(to, &block.source, records, n);
            to->n_parts++;
        }
        if (r)
            to->n_damaged++;
        else
            ck_assert_uint_eq(to->n - n_before, blocks[i].prefix.n_rows);
        to->n_blocks += r == 0;
    }
    mdb_txn_abort(txn);
    buf_deinit(&found);
}

static int by_number(const void *a, const void *b)
{
    const struct line *x = a, *y = b;

    return (x->n > y->n) - (x->n < y->n);
}

static int by_place(const void *a, const void *b)
{
    const struct logblock_place *x = &((const struct line *) a)->place;
    const struct logblock_place *y = &((const struct line *) b)->place;

    if (x->chunk != y->chunk)
        return x->chunk < y->chunk ? -1 : 1;
    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

const struct lines *read_logs(struct store *store, uint32_t agent)
{
    static struct lines lines;
    struct logblock_room *room = logblock_room_new();
    struct logs_view view;

    lines.n = lines.n_blocks = lines.n_parts = lines.n_damaged = 0;
    ck_assert_int_eq(logs_view_begin(store, agent, INT64_MIN, INT64_MAX, &view), 0);
    read_packs(&view, room, &lines);
    for (int32_t number = days_next(&store->logs, INT32_MIN); number != INT32_MAX;
         number = days_next(&store->logs, number + 1)) {
        struct day *day;

        if (days_use(&store->logs, number, &day))
            continue;
        read_day(&view, day, room, &lines);
        days_release(&store->logs, day);
    }
    logs_view_end(&view);
    logblock_room_free(room);
    qsort(lines.lines, lines.n, sizeof(lines.lines[0]), by_place);
    for (size_t i = 1; i < lines.n; i++)
        ck_assert_int_lt(by_place(&lines.lines[i - 1], &lines.lines[i]), 0);
    qsort(lines.lines, lines.n, sizeof(lines.lines[0]), by_number);
    for (size_t i = 1; i < lines.n; i++)
        ck_assert_uint_lt(lines.lines[i - 1].n, lines.lines[i].n);
    return &lines;
}

void check_lines(struct store *store, uint32_t agent, uint32_t n)
{
    const struct lines *lines = read_logs(store, agent);

    ck_assert_uint_eq(lines->n_damaged, 0);
    ck_assert_uint_eq(lines->n, n);
    for (uint32_t i = 0; i < n; i++)
        ck_assert_uint_eq(lines->lines[i].n, i);
}

struct packs count_packs(struct store *store, uint32_t agent)
{
    struct reader reader = { .journal = &store->journal };
    struct packs packs = { 0 };
    struct logs_view view;

    ck_assert_int_eq(logs_view_begin(store, agent, INT64_MIN, INT64_MAX, &view), 0);
    packs.n = view.n_packs;
    for (size_t i = 0; i < view.n_packs; i++) {
        struct span bytes;

        ck_assert_int_eq(reader_pack(&reader, agent, &view.packs[i], &bytes), 0);
        packs.n_blocks += logblock_is_block(bytes);
        packs.n_bytes += bytes.len;
        if (bytes.len > packs.max_bytes)
            packs.max_bytes = bytes.len;
        if (view.packs[i].n_raw_bytes > packs.max_raw_bytes)
            packs.max_raw_bytes = view.packs[i].n_raw_bytes;
    }
    reader_close(&reader);
    logs_view_end(&view);
    return packs;
}

struct store_logs_of logs_of(struct store *store, uint32_t agent)
{
    struct store_logs_of of;

    store_logs_of_agent(store, agent, &of);
    return of;
}

struct store_stats stats_now(struct store *store)
{
    struct store_stats stats;

    store_get_stats(store, &stats);
    return stats;
}
