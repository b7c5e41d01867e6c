/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Reading rows: sealed blocks day by day, then what is still in the head.
 *
 * Under the agent's lock a scan notes up to which seal number blocks count, and copies the places
 * of all rows in the head: what is sealed while it runs is read from the journal's pages, whose
 * segments it holds, and not from the new blocks. The compactor leaves an agent alone while a scan
 * of it runs, as a block that it makes stands for several.
 *
 * Nothing of LMDB is open while on_piece() runs, however long that takes: blocks are copied as they
 * are, some megabytes at a time, rows of the head some millions of values at a time (nearly always
 * all of them, and then no segment is held any more), each in one short transaction. Where a scan
 * has told all rows up to a time it looks for blocks behind that time anew: a compaction that was
 * under way when the scan began may have put others in their place.
 *
 * Blocks whose times meet are put together and sorted; so are rows of the head that lie among them.
 * All else goes out as it comes from a block, in order of time.
 */

#include <errno.h>
#include <stdlib.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/log/log.h"
#include "server/store/days/scan.h"
#include "server/store/journal/reader.h"
#include "server/store/whole.h"

#define PIECE_ROWS 512                 /* of the head */
#define COPY_BYTES ((size_t) 4 << 20)  /* of blocks at a time; one cluster at least */
#define COPY_VALUES ((size_t) 4 << 20) /* of the head at a time */

struct scanner {
    struct store *store;
    struct store_scan *scan;
    struct agent *agent;
    uint64_t seal;
    int64_t from_us;         /* rows before it were told */
    struct head_row *places; /* of the head, in order of time */
    size_t n_places, next_place;
    uint32_t first_segment, end_segment; /* held */
    struct reader reader;
    struct rows head; /* copied, in order of time */
    size_t next_head;
    struct rows rows;
    struct buf found, copied, opened, room;
    const double **values;
    const uint64_t **absent;
    bool goes_on;
};

/* ---- what the head has ---- */

static void hold(struct scanner *scanner, int by)
{
    struct journal *journal = &scanner->store->journal;

    for (uint32_t number = scanner->first_segment; number < scanner->end_segment; number++) {
        struct segment *segment = journal_segment(journal, number);

        if (segment && by > 0)
            atomic_fetch_add(&segment->n_holds, 1);
        else if (segment)
            atomic_fetch_sub(&segment->n_holds, 1);
    }
}

/* With the lock held. Every segment from the first to the last of the places is held, so none of
 * them goes: they go in order. */
static int copy_places(struct scanner *scanner)
{
    const struct store_scan *scan = scanner->scan;
    const struct head *head = heads_find(&scanner->agent->heads, scan->layout);
    struct head_row from = { .time_us = scan->from_us }, to = { .time_us = scan->to_us };
    size_t first = head ? head_seek(head, &from, true) : 0;
    size_t n = head ? head_seek(head, &to, true) - first : 0;

    if (n == 0)
        return 0;
    scanner->places = malloc(n * sizeof(*scanner->places));
    if (!scanner->places)
        return fault(-ENOMEM, "no memory for the places of %zu rows", n);
    memcpy(scanner->places, &head->rows[first], n * sizeof(*scanner->places));
    scanner->n_places = n;
    scanner->first_segment = UINT32_MAX;
    for (size_t i = 0; i < n; i++) {
        uint32_t segment = scanner->places[i].segment;

        if (segment < scanner->first_segment)
            scanner->first_segment = segment;
        if (segment >= scanner->end_segment)
            scanner->end_segment = segment + 1;
    }
    hold(scanner, 1);
    return 0;
}

static int begin(struct scanner *scanner)
{
    struct agent *agent = scanner->agent;
    int r;

    pthread_mutex_lock(&agent->lock);
    scanner->seal = agent->seal;
    r = copy_places(scanner);
    agent->n_scans += r == 0;
    pthread_mutex_unlock(&agent->lock);
    return pass(r);
}

static void let_go(struct scanner *scanner)
{
    reader_close(&scanner->reader);
    hold(scanner, -1);
    scanner->first_segment = scanner->end_segment = 0;
}

static void end(struct scanner *scanner)
{
    struct agent *agent = scanner->agent;

    let_go(scanner);
    pthread_mutex_lock(&agent->lock);
    ensure(agent->n_scans > 0);
    agent->n_scans--;
    pthread_mutex_unlock(&agent->lock);
}

static void scanner_deinit(struct scanner *scanner)
{
    free(scanner->places);
    free(scanner->values);
    free(scanner->absent);
    rows_deinit(&scanner->head);
    rows_deinit(&scanner->rows);
    buf_deinit(&scanner->room);
    buf_deinit(&scanner->found);
    buf_deinit(&scanner->copied);
    buf_deinit(&scanner->opened);
}

/* The columns asked for; both lists of places are ascending. */
static void add_row(struct scanner *scanner, const struct reader_row *row)
{
    const struct store_scan *scan = scanner->scan;
    struct rows *rows = &scanner->head;
    uint32_t next = 0, place = UINT32_MAX;
    size_t at = rows->n_rows++;

    rows->times_us[at] = row->head.time_us;
    if (row->head.n_absent)
        memcpy(&place, row->absent, sizeof(place));
    for (size_t i = 0; i < scan->n_columns; i++) {
        uint32_t column = scan->columns[i];
        bool is_absent;

        while (place < column) {
            place = UINT32_MAX;
            if (++next < row->head.n_absent)
                memcpy(&place, row->absent + 4 * (size_t) next, sizeof(place));
        }
        is_absent = column >= row->head.n_values || place == column;
        if (is_absent)
            rows_column(rows, i)[at] = 0;
        else
            memcpy(&rows_column(rows, i)[at], row->values + 8 * (size_t) column, sizeof(double));
        rows_mark(rows, i, at, is_absent);
    }
}

/* The next places as rows, when those before are used up. */
static int copy_head(struct scanner *scanner)
{
    const struct store_scan *scan = scanner->scan;
    size_t most = COPY_VALUES / (scan->n_columns + 1) + 1,
           n = scanner->n_places - scanner->next_place;
    int r;

    if (scanner->next_head < scanner->head.n_rows || n == 0)
        return 0;
    n = n < most ? n : most;
    scanner->next_head = 0;
    r = rows_begin(&scanner->head, scan->n_columns, n);
    for (size_t i = 0; i < n && r >= 0; i++) {
        const struct head_row *at = &scanner->places[scanner->next_place++];
        struct reader_row row;

        if (i + READER_AHEAD < n)
            reader_expect(&scanner->reader, at + READER_AHEAD);
        r = reader_row(&scanner->reader, scan->agent, scan->layout, at, &row);
        if (r == 0) {
            add_row(scanner, &row);
        } else if (r > 0) {
            scanner->scan->ret_damaged++;
            log_peer(LOG_ERROR, "journal_row_damaged", LOG_U("chunk", at->chunk),
                     LOG_U("offset", at->offset));
        }
    }
    reader_close(&scanner->reader);
    if (scanner->next_place == scanner->n_places)
        let_go(scanner);
    return r < 0 ? pass(r) : 0;
}

/* The next rows of the head before `to_us`, as many as fit. */
static int add_head_rows(struct scanner *scanner, int64_t to_us, size_t max)
{
    struct rows *rows = &scanner->rows;
    const struct rows *head = &scanner->head;

    for (size_t n = 0; n < max; n++) {
        size_t from, at = rows->n_rows;
        int r = copy_head(scanner);

        if (r)
            return pass(r);
        from = scanner->next_head;
        if (from == head->n_rows || head->times_us[from] >= to_us)
            return 0;
        scanner->next_head++;
        rows->n_rows++;
        rows->times_us[at] = head->times_us[from];
        for (size_t i = 0; i < rows->n_columns; i++) {
            rows_column(rows, i)[at] = rows_column(head, i)[from];
            rows_mark(rows, i, at,
                      head->has_marks[i] && (rows_marks(head, i)[from / 64] >> from % 64 & 1));
        }
    }
    return 0;
}

/* At most: some of them may be damaged. */
static size_t count_places_before(const struct scanner *scanner, int64_t time_us)
{
    size_t at = scanner->next_head, next = scanner->next_place;

    while (at < scanner->head.n_rows && scanner->head.times_us[at] < time_us)
        at++;
    while (next < scanner->n_places && scanner->places[next].time_us < time_us)
        next++;
    return at - scanner->next_head + next - scanner->next_place;
}

/* ---- pieces ---- */

static size_t first_at_or_after(const struct rows *rows, int64_t time_us)
{
    size_t low = 0, high = rows->n_rows;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (rows->times_us[middle] < time_us)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void tell(struct scanner *scanner)
{
    struct store_scan *scan = scanner->scan;
    const struct rows *rows = &scanner->rows;
    struct store_piece piece = {
        .times_us = rows->times_us,
        .values = scanner->values,
        .absent = scanner->absent,
        .first = first_at_or_after(rows, scanner->from_us),
        .end = first_at_or_after(rows, scan->to_us),
    };

    if (piece.first == piece.end)
        return;
    for (size_t i = 0; i < scan->n_columns; i++) {
        scanner->values[i] = rows_column(rows, i);
        scanner->absent[i] = rows->has_marks[i] ? rows_marks(rows, i) : NULL;
    }
    scan->ret_rows += piece.end - piece.first;
    scanner->goes_on = scan->on_piece(scan->ctx, &piece);
}

static int tell_head_rows(struct scanner *scanner, int64_t to_us)
{
    int r = 0;

    while (!r && scanner->goes_on && count_places_before(scanner, to_us)) {
        r = rows_begin(&scanner->rows, scanner->scan->n_columns, PIECE_ROWS);
        if (!r)
            r = add_head_rows(scanner, to_us, PIECE_ROWS);
        if (!r)
            tell(scanner);
    }
    return pass(r);
}

/* ---- blocks ---- */

/* False: the layout is not in the block, or the block is damaged. */
static int open_part(struct scanner *scanner,
                     const struct found_block *found,
                     struct block_part *ret,
                     bool *ret_is_there)
{
    struct block block;
    int r = block_open(found->bytes, &scanner->opened, &block);

    *ret_is_there = r == 0 && block.agent == scanner->scan->agent &&
                    block_find(&block, scanner->scan->layout, ret);
    if (r == BLOCK_BAD) {
        scanner->scan->ret_damaged += found->prefix.n_rows;
        log_peer(LOG_ERROR, "block_damaged", LOG_U("agent", found->key.agent),
                 LOG_I("first_us", found->key.first_us));
        return 0;
    }
    return pass(r);
}

static int add_block(struct scanner *scanner, const struct found_block *found)
{
    struct block_part part;
    bool is_there;
    int r = open_part(scanner, found, &part, &is_there);

    if (r || !is_there)
        return pass(r);
    r = rows_add_part(&scanner->rows, &part, scanner->scan->columns, &scanner->room);
    if (r == BLOCK_BAD) {
        scanner->scan->ret_damaged += part.n_rows;
        return 0;
    }
    return pass(r);
}

/* Blocks whose times meet, and the rows of the head among them, as one piece. */
static int tell_cluster(struct scanner *scanner, const struct found_block *blocks, size_t n)
{
    size_t n_rows = 0, n_places;
    int64_t last_us = blocks[0].prefix.last_us;
    int r = 0;

    for (size_t i = 0; i < n; i++) {
        n_rows += blocks[i].prefix.n_rows;
        last_us = blocks[i].prefix.last_us > last_us ? blocks[i].prefix.last_us : last_us;
    }
    n_places = count_places_before(scanner, last_us + 1);
    r = rows_begin(&scanner->rows, scanner->scan->n_columns, n_rows + n_places);
    for (size_t i = 0; i < n && !r; i++)
        r = add_block(scanner, &blocks[i]);
    if (!r)
        r = add_head_rows(scanner, last_us + 1, n_places);
    if (!r)
        r = rows_sort(&scanner->rows);
    if (!r)
        tell(scanner);
    return pass(r);
}

static int by_seal(const void *a, const void *b)
{
    const struct found_block *x = a, *y = b;

    return (x->key.seal > y->key.seal) - (x->key.seal < y->key.seal);
}

/* The first n of what was found: whole clusters. */
static int tell_blocks(struct scanner *scanner, size_t n)
{
    struct found_block *blocks = (void *) scanner->found.data;
    int r = 0;

    for (size_t first = 0, end; first < n && !r && scanner->goes_on; first = end) {
        end = found_cluster(blocks, n, first);
        r = tell_head_rows(scanner, blocks[first].key.first_us);
        /* Rows of one time come as they were committed. */
        if (end - first > 1)
            qsort(&blocks[first], end - first, sizeof(*blocks), by_seal);
        if (!r && scanner->goes_on)
            r = tell_cluster(scanner, &blocks[first], end - first);
    }
    return pass(r);
}

/* Whole clusters of what was found, until it is enough: *ret_n blocks, from now on ours. *ret_next:
 * the time behind their last one. */
static int copy_blocks(struct scanner *scanner, size_t *ret_n, int64_t *ret_next)
{
    struct found_block *blocks = (void *) scanner->found.data;
    size_t n = scanner->found.len / sizeof(*blocks), end = 0, at = 0;

    buf_clear(&scanner->copied);
    *ret_next = INT64_MIN;
    while (end < n && scanner->copied.len < COPY_BYTES) {
        size_t first = end;

        for (end = found_cluster(blocks, n, first); first < end; first++) {
            buf_append_span(&scanner->copied, blocks[first].bytes);
            if (*ret_next <= blocks[first].prefix.last_us)
                *ret_next = blocks[first].prefix.last_us + 1;
        }
    }
    if (buf_failed(&scanner->copied))
        return fault(-ENOMEM, "no memory for %zu blocks", end);
    for (size_t i = 0; i < end; i++) {
        blocks[i].bytes.data = scanner->copied.data + at;
        at += blocks[i].bytes.len;
    }
    *ret_n = end;
    return 0;
}

/* Copies the next blocks of a day from scanner->from_us on. */
static int find_more(struct scanner *scanner,
                     struct day *day,
                     uint64_t *n_damaged,
                     size_t *ret_n,
                     int64_t *ret_next)
{
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    const struct store_scan *scan = scanner->scan;
    struct find_blocks find = { scan->agent, scanner->from_us, scan->to_us, scanner->seal };
    int r = db_check(mdb_txn_begin(day->env, NULL, MDB_RDONLY, &txn), "cannot begin to read a day");

    buf_clear(&scanner->found);
    if (!r)
        r = found_blocks(day, txn, &find, &scanner->found, n_damaged);
    if (r == STORE_NOT_FOUND) {
        day_found_damage(day, "pages that lead nowhere");
        r = 0;
    }
    return r ? pass(r) : pass(copy_blocks(scanner, ret_n, ret_next));
}

static int read_day(struct scanner *scanner, struct day *day)
{
    uint64_t n_damaged, n_said = 0;
    size_t n = 0;
    int64_t next_us = INT64_MIN;
    int r;

    do {
        n_damaged = 0;
        r = find_more(scanner, day, &n_damaged, &n, &next_us);
        /* What cannot be believed is met each time. */
        if (n_damaged > n_said) {
            scanner->scan->ret_damaged += n_damaged - n_said;
            n_said = n_damaged;
        }
        if (!r)
            r = tell_blocks(scanner, n);
        if (n && scanner->from_us < next_us)
            scanner->from_us = next_us;
    } while (!r && n < scanner->found.len / sizeof(struct found_block) && scanner->goes_on);
    return pass(r);
}

static int read_days(struct scanner *scanner)
{
    struct days *days = &scanner->store->days;
    int32_t last = day_of(scanner->scan->to_us - 1);
    int32_t number = days_next(days, day_of(scanner->scan->from_us));
    int r = 0;

    for (; number <= last && number != INT32_MAX && !r && scanner->goes_on;
         number = days_next(days, number + 1)) {
        struct day *day;

        r = days_use(days, number, &day);
        if (r == STORE_NOT_FOUND) {
            r = 0;
            continue;
        }
        if (r)
            return pass(r);
        r = read_day(scanner, day);
        days_release(days, day);
    }
    return pass(r);
}

int store_scan(struct store *store, struct store_scan *scan)
{
    struct scanner scanner = { .store = store,
                               .scan = scan,
                               .agent = agents_known(&store->agents, scan->agent),
                               .reader = { .journal = &store->journal },
                               .goes_on = true };
    int r;

    ensure(!store->options.is_shared);
    scan->ret_rows = scan->ret_damaged = 0;
    if (!scanner.agent || scan->from_us >= scan->to_us)
        return 0;
    scanner.values = reallocarray(NULL, scan->n_columns + 1, sizeof(*scanner.values));
    scanner.absent = reallocarray(NULL, scan->n_columns + 1, sizeof(*scanner.absent));
    r = scanner.values && scanner.absent
            ? begin(&scanner)
            : fault(-ENOMEM, "no memory for %zu columns", scan->n_columns);
    if (!r) {
        scanner.from_us = scan->from_us;
        r = copy_head(&scanner);
        if (!r)
            r = read_days(&scanner);
        if (!r)
            r = tell_head_rows(&scanner, scan->to_us);
        end(&scanner);
    }
    scanner_deinit(&scanner);
    return pass(r);
}

/* ---- spans ---- */

static void add_span(struct store_span *spans, size_t *n, const struct store_span *more)
{
    for (size_t i = 0; i < *n; i++) {
        if (spans[i].layout != more->layout)
            continue;
        spans[i].n_rows += more->n_rows;
        spans[i].first_us = more->first_us < spans[i].first_us ? more->first_us : spans[i].first_us;
        spans[i].last_us = more->last_us > spans[i].last_us ? more->last_us : spans[i].last_us;
        return;
    }
    spans[(*n)++] = *more;
}

static void add_spans(struct store_span *spans, size_t *n, const struct buf *from)
{
    const struct day_span *sealed = (const void *) from->data;

    for (size_t i = 0; i < from->len / sizeof(*sealed); i++) {
        struct store_span span = { .layout = sealed[i].layout,
                                   .first_us = sealed[i].first_us,
                                   .last_us = sealed[i].last_us,
                                   .n_rows = sealed[i].n_rows };

        add_span(spans, n, &span);
    }
}

static void add_head_span(struct store_span *spans, size_t *n, const struct head *head)
{
    struct store_span span = { .layout = head->layout, .n_rows = head->n_rows };

    if (head->n_rows == 0)
        return;
    span.first_us = head->rows[0].time_us;
    span.last_us = head->rows[head->n_rows - 1].time_us;
    add_span(spans, n, &span);
}

int store_spans(struct store *store,
                uint32_t agent_number,
                struct arena *arena,
                struct store_span **ret,
                size_t *ret_n)
{
    struct agent *agent = agents_known(&store->agents, agent_number);
    struct store_span *spans;
    size_t n = 0, n_sealed;

    *ret = NULL;
    *ret_n = 0;
    if (!agent)
        return 0;
    pthread_mutex_lock(&agent->lock);
    n_sealed = (agent->spans.len + agent->rolled.len) / sizeof(struct day_span);
    spans = arena_alloc_array(arena, n_sealed + agent->heads.n_heads + 1, sizeof(*spans));
    if (spans) {
        add_spans(spans, &n, &agent->spans);
        add_spans(spans, &n, &agent->rolled);
    }
    for (size_t i = 0; spans && i < agent->heads.n_heads; i++)
        add_head_span(spans, &n, &agent->heads.heads[i]);
    pthread_mutex_unlock(&agent->lock);
    if (!spans)
        return fault(-ENOMEM, "no room for the spans of agent %u", agent_number);
    *ret = spans;
    *ret_n = n;
    return 0;
}
