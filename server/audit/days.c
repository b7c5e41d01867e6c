/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Days: from the table into files, and away.
 *
 * A day is closed when it is older than the hot ones, or the table has more entries than it may,
 * and never before the chain is in a later one: nothing can come to it any more. Its file is
 * written whole and durable; then rows go that are the same there, byte by byte. A hub that is
 * killed between goes on with that at its next tick.
 *
 * Closed days that are too old go in two steps: first an entry says up to which number, then, an
 * hour later, the files go. So a copy of the database never lacks the entry that explains what the
 * copy of the files lacks.
 */

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/faultpoint.h"
#include "common/log/log.h"
#include "server/audit/walk.h"

#define DELETE_ROWS 1000 /* of one transaction: others wait meanwhile */
#define DROP_AFTER_US (INT64_C(3600) * 1000000)

/* ---- writing the file ---- */

struct closing {
    struct segment_writer writer;
    int r;
};

static bool close_row(void *ctx, const struct walk_row *row)
{
    struct closing *closing = ctx;
    struct row_frame frame;
    /* One that cannot be read goes along as it is: it shows what was done to it. */
    int64_t time_us = row_read_frame(row->value, &frame) ? frame.time_us : 0;

    closing->r = segment_add(&closing->writer, row->number, time_us, row->value);
    return closing->r == 0;
}

/* Outcomes: AUDIT_FULL. */
static int write_day(struct audit *audit, uint32_t day)
{
    struct closing closing = { .r = 0 };
    struct walk walk = { .audit = audit,
                         .first_day = day,
                         .last_day = day,
                         .from_us = INT64_MIN,
                         .to_us = INT64_MAX,
                         .on_row = close_row,
                         .ctx = &closing };
    int r = segment_begin(&closing.writer, audit->directory, day);

    if (r == 0)
        r = walk_run(&walk);
    if (r == 0)
        r = closing.r;
    if (r == 0)
        r = segment_end(&closing.writer);
    segment_writer_deinit(&closing.writer);
    return r == SEGMENT_FULL ? AUDIT_FULL : fold(r);
}

/* ---- taking the rows ---- */

struct taking {
    uint32_t day;
    const struct segment_row *rows;
    size_t n, n_differ;
};

static int take_rows(struct store_change *change, void *ctx)
{
    struct taking *taking = ctx;
    int r = 0;

    taking->n_differ = 0;
    for (size_t i = 0; i < taking->n && r == 0; i++) {
        const struct segment_row *row = &taking->rows[i];
        uint8_t key[ROW_KEY_BYTES];
        struct span value;

        row_key(taking->day, row->number, key);
        const struct store_write write = { STORE_TABLE_AUDIT,
                                           span_of(key, sizeof(key)),
                                           { NULL, 0 } };
        r = store_change_get(change, STORE_TABLE_AUDIT, write.key, &value);
        if (r == 0 && !span_equal(value, row->value))
            taking->n_differ++;
        else if (r == 0)
            r = store_change_put(change, &write);
        r = r == STORE_NOT_FOUND ? 0 : r;
    }
    return pass(r);
}

/* Outcomes: AUDIT_FULL. */
static int take_frame(struct audit *audit, uint32_t day, struct span rest, uint64_t *n_differ)
{
    struct segment_row *rows = calloc(DELETE_ROWS, sizeof(*rows));
    int r = 0;

    if (!rows)
        return fault(-ENOMEM, "no memory to close a day of the audit");
    while (r == 0 && rest.len > 0) {
        struct taking taking = { .day = day, .rows = rows };

        while (taking.n < DELETE_ROWS && segment_row_next(&rest, &rows[taking.n]))
            taking.n++;
        if (taking.n == 0)
            break;
        r = store_state_change(audit->store, take_rows, &taking);
        *n_differ += taking.n_differ;
        faultpoint("audit_rows_taken");
    }
    free(rows);
    return r == STORE_FULL ? AUDIT_FULL : fold(r);
}

/* Rows of a day that has a file. Outcomes: AUDIT_FULL, AUDIT_BROKEN (the file, or rows differ). */
static int take_day(struct audit *audit, uint32_t day)
{
    CLEANUP(segment_close) struct segment segment = SEGMENT_NULL;
    CLEANUP(buf_deinit) struct buf rows = { 0 };
    struct segment_why why;
    uint64_t n_differ = 0;
    int r = segment_open(&segment, audit->directory, day, &why);

    if (r != 0)
        return r > 0 ? AUDIT_BROKEN : pass(r);
    for (size_t i = 0; i < segment.n_frames && r == 0; i++) {
        r = segment_load(&segment, i, &rows, &why);
        if (r != 0)
            return r > 0 ? AUDIT_BROKEN : pass(r);
        r = take_frame(audit, day, buf_span(&rows), &n_differ);
    }
    if (r == 0 && n_differ > 0)
        return AUDIT_BROKEN;
    return pass(r);
}

/* ---- which days ---- */

static void say_odd(uint32_t day)
{
    char name[16];

    segment_name(day, name);
    log_event(LOG_ERROR, "audit_day_differs", LOG_S("day", name),
              LOG_S("remedy", "its file and its rows in the database are not the same, and both "
                              "stay: sentinel-hub audit verify says what is wrong"));
}

/* Whether the day has a file; one that is not whole counts. */
static bool has_file(struct audit *audit, uint32_t day)
{
    char path[SEGMENT_PATH_BYTES], name[16];

    segment_name(day, name);
    return snprintf(path, sizeof(path), "%s/%s", audit->directory, name) < (int) sizeof(path) &&
           access(path, F_OK) == 0;
}

/* Outcomes: AUDIT_FULL. */
static int close_day(struct audit *audit, uint32_t day)
{
    char name[16];
    int r = 0;

    if (!has_file(audit, day)) /* a hub that was killed while it took the rows left one */
        r = write_day(audit, day);
    if (r == 0)
        r = take_day(audit, day);
    if (r == AUDIT_BROKEN)
        say_odd(day);
    else if (r != 0)
        return pass(r);
    segment_name(day, name);
    log_event(LOG_INFO, "audit_day_closed", LOG_S("day", name));
    return 0;
}

static bool is_due(const struct audit_limits *limits,
                   const struct row_head *head,
                   const struct walk_end *first,
                   uint32_t today)
{
    uint32_t hot_days = (uint32_t) (limits->hot_us / DAY_US);

    return first->day + hot_days < today || head->number - first->number >= limits->hot_entries;
}

/* The first day of the table behind `day` that has rows. Outcomes: AUDIT_NOT_FOUND. */
static int next_day(struct audit *audit, uint32_t day, uint32_t last, struct walk_end *ret)
{
    for (uint32_t at = day + 1; at <= last; at++) {
        int r = walk_day_end(audit, at, false, ret);

        if (r != AUDIT_NOT_FOUND)
            return pass(r);
    }
    return AUDIT_NOT_FOUND;
}

int audit_days_close(struct audit *audit, const struct audit_limits *limits, wall_us now)
{
    struct walk_end first;
    struct row_head head;
    int r = audit_head(audit, &head);

    if (r == 0)
        r = walk_table_end(audit, false, &first);
    while (r == 0 && first.day < head.day) {
        if (!has_file(audit, first.day) && !is_due(limits, &head, &first, row_day_of(now.us)))
            return 0;
        r = close_day(audit, first.day);
        if (r == 0)
            r = next_day(audit, first.day, head.day, &first);
    }
    if (r == AUDIT_FULL)
        log_event(LOG_WARN, "audit_day_waits", LOG_S("reason", "there is no room for its file"));
    return r > 0 ? 0 : pass(r);
}

/* ---- away ---- */

static bool see_dropped(void *ctx, struct span key, struct span value)
{
    struct row_dropped *dropped = ctx;

    if (span_equal(key, span_of_text(row_dropped_key)) && !row_dropped_read(value, dropped))
        *dropped = (struct row_dropped){ .last = 0 };
    return false;
}

int audit_days_dropped(struct audit *audit, struct row_dropped *ret)
{
    *ret = (struct row_dropped){ .last = 0 };
    return fold(store_state_range(audit->store, STORE_TABLE_AUDIT, span_of_text(row_dropped_key),
                                  false, see_dropped, ret));
}

struct dropping {
    uint64_t first;
    struct row_dropped dropped;
};

static int put_dropped(struct store_change *change, void *ctx)
{
    const struct dropping *dropping = ctx;
    uint8_t value[ROW_DROPPED_BYTES];
    char first[24], last[24];
    const struct audit_field fields[] = { { "first", first }, { "last", last } };
    const struct audit_entry entry = {
        .event = AUDIT_RETAINED_OUT, .actor = "hub", .fields = fields, .n_fields = 2
    };
    const struct store_write write = { STORE_TABLE_AUDIT, span_of_text(row_dropped_key),
                                       span_of(value, sizeof(value)) };

    snprintf(first, sizeof(first), "%" PRIu64, dropping->first);
    snprintf(last, sizeof(last), "%" PRIu64, dropping->dropped.last);
    row_dropped_write(&dropping->dropped, value);
    int r = audit_put_in(change, &entry);
    return r != 0 ? pass(r) : pass(store_change_put(change, &write));
}

static int remove_file(struct audit *audit, uint32_t day)
{
    char path[SEGMENT_PATH_BYTES], name[16];

    segment_name(day, name);
    snprintf(path, sizeof(path), "%s/%s", audit->directory, name);
    if (unlink(path) < 0 && errno != ENOENT)
        return fault(-errno, "cannot remove %s", path);
    log_event(LOG_INFO, "audit_day_gone", LOG_S("day", name));
    return 0;
}

/* Removes the file when that was said for long enough; else widens what is to be said. */
static int drop_day(struct audit *audit, uint32_t day, struct dropping *wanted, int64_t now_us)
{
    CLEANUP(segment_close) struct segment segment = SEGMENT_NULL;
    struct row_dropped said;
    struct segment_why why;
    int r = audit_days_dropped(audit, &said);

    if (r != 0)
        return pass(r);
    r = segment_open(&segment, audit->directory, day, &why);
    if (r < 0)
        return pass(r);
    if (r == SEGMENT_ABSENT)
        return 0;
    /* Of a damaged one nobody knows the last entry; it goes with the next that is whole. */
    if (segment.last > 0 && segment.last <= said.last)
        return now_us - said.time_us >= DROP_AFTER_US ? pass(remove_file(audit, day)) : 0;
    if (wanted->dropped.last == 0)
        wanted->first = segment.first;
    if (segment.last > wanted->dropped.last)
        wanted->dropped.last = segment.last;
    return 0;
}

int audit_days_drop(struct audit *audit, const struct audit_limits *limits, wall_us now)
{
    struct dropping wanted = { .dropped = { .time_us = now.us } };
    uint32_t *days = NULL, today = row_day_of(now.us);
    uint32_t cold_days = (uint32_t) (limits->cold_us / DAY_US);
    size_t n = 0;
    int r = walk_closed_days(audit->directory, &days, &n);

    for (size_t i = 0; i < n && r == 0 && days[i] + cold_days < today; i++)
        r = drop_day(audit, days[i], &wanted, now.us);
    free(days);
    if (r == 0 && wanted.dropped.last > 0)
        r = store_state_change(audit->store, put_dropped, &wanted);
    return r == STORE_FULL ? 0 : fold(r);
}

/* ---- after a kill ---- */

static int is_partial(const struct dirent *entry)
{
    const char *dot = strchr(entry->d_name, '.');

    return dot && strcmp(dot, ".partial") == 0;
}

int audit_days_clean(struct audit *audit)
{
    struct dirent **entries = NULL;
    int n = scandir(audit->directory, &entries, is_partial, NULL), r = 0;

    if (n < 0)
        return errno == ENOENT ? 0 : fault(-errno, "cannot read %s", audit->directory);
    for (int i = 0; i < n; i++) {
        char path[SEGMENT_PATH_BYTES + 256];

        snprintf(path, sizeof(path), "%s/%s", audit->directory, entries[i]->d_name);
        if (r == 0 && unlink(path) < 0 && errno != ENOENT)
            r = fault(-errno, "cannot remove %s", path);
        free(entries[i]);
    }
    free(entries);
    return pass(r);
}
