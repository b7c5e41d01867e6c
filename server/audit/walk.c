/* SPDX-License-Identifier: Apache-2.0 */
#include "server/audit/walk.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"

/* ---- the table ---- */

struct ends {
    struct walk_end end;
    bool is_found;
};

static bool see_end(void *ctx, struct span key, struct span value)
{
    struct ends *ends = ctx;

    (void) value;
    ends->is_found = row_key_read(key, &ends->end.day, &ends->end.number);
    return !ends->is_found; /* a key that is none is passed over */
}

static int find_end(struct audit *audit, struct span prefix, bool is_last, struct walk_end *ret)
{
    struct ends ends = { .is_found = false };
    int r = store_state_range(audit->store, STORE_TABLE_AUDIT, prefix, is_last, see_end, &ends);

    if (r != 0)
        return fold(r);
    if (!ends.is_found)
        return AUDIT_NOT_FOUND;
    *ret = ends.end;
    return 0;
}

int walk_table_end(struct audit *audit, bool is_last, struct walk_end *ret)
{
    return pass(find_end(audit, span_of_text("E"), is_last, ret));
}

int walk_day_end(struct audit *audit, uint32_t day, bool is_last, struct walk_end *ret)
{
    uint8_t prefix[ROW_DAY_KEY_BYTES];

    row_day_key(day, prefix);
    return pass(find_end(audit, span_of(prefix, sizeof(prefix)), is_last, ret));
}

void walk_page_init(struct walk_page *page)
{
    arena_init(&page->arena, WALK_PAGE * ((size_t) ROW_MAX_BYTES + 64));
    page->n = 0;
}

void walk_page_deinit(struct walk_page *page)
{
    arena_deinit(&page->arena);
}

static bool add_to_page(void *ctx, struct span key, struct span value)
{
    struct walk_page *page = ctx;
    struct walk_row *row = &page->rows[page->n];
    char *copy;

    if (page->n >= WALK_PAGE || !row_key_read(key, &row->day, &row->number))
        return true;
    /* A longer one is no entry: what fits says so too. */
    if (value.len > ROW_MAX_BYTES)
        value.len = ROW_MAX_BYTES;
    copy = arena_copy(&page->arena, value);
    if (!copy) {
        page->is_exhausted = true;
        return false;
    }
    row->value = span_of(copy, value.len);
    page->n++;
    return true;
}

int walk_page_read(struct audit *audit, uint32_t day, uint64_t number, struct walk_page *page)
{
    uint8_t key[ROW_KEY_BYTES];

    row_key(day, number, key);
    arena_reset(&page->arena, page->arena.limit_bytes);
    page->n = 0;
    page->is_exhausted = false;
    int r = store_state_range(audit->store, STORE_TABLE_AUDIT, span_of(key, sizeof(key) - 1), false,
                              add_to_page, page);
    if (r == 0 && page->is_exhausted)
        return fault(-ENOMEM, "no memory for a page of the audit");
    return fold(r);
}

/* ---- closed days ---- */

static int is_day(const struct dirent *entry)
{
    uint32_t day;

    return segment_name_read(entry->d_name, &day);
}

int walk_closed_days(const char *directory, uint32_t **ret, size_t *ret_n)
{
    struct dirent **entries = NULL;
    int n = scandir(directory, &entries, is_day, alphasort);
    uint32_t *days;

    if (n < 0)
        return errno == ENOENT ? (*ret = NULL, *ret_n = 0, 0)
                               : fault(-errno, "cannot read %s", directory);
    days = malloc((size_t) n * sizeof(*days) + 1);
    for (int i = 0; i < n; i++) {
        if (days)
            ensure(segment_name_read(entries[i]->d_name, &days[i]));
        free(entries[i]);
    }
    free(entries);
    if (!days)
        return fault(-ENOMEM, "no memory for the days of the audit");
    *ret = days;
    *ret_n = (size_t) n;
    return 0;
}

/* ---- walking ---- */

/* What one day's walk knows. */
struct way {
    struct walk *walk; /* its `beyond` moves along */
    uint32_t day;
    bool is_stopped;
};

static bool is_beyond(const struct walk *walk, uint64_t number)
{
    if (walk->beyond == 0)
        return true;
    return walk->is_backwards ? number < walk->beyond : number > walk->beyond;
}

/* One that was seen, or lies before where to begin, is passed over. */
static void give(struct way *way, const struct walk_row *row)
{
    struct walk *walk = way->walk;

    if (way->is_stopped || !is_beyond(walk, row->number))
        return;
    way->is_stopped = !walk->on_row(walk->ctx, row);
    walk->beyond = row->number;
}

static void give_bad(struct way *way, const struct segment_why *why)
{
    struct walk *walk = way->walk;

    if (!way->is_stopped && walk->on_bad)
        way->is_stopped = !walk->on_bad(walk->ctx, way->day, why->entry, why->text);
}

static bool is_wanted(const struct walk *walk, const struct segment_frame *frame)
{
    if (frame->latest_us < walk->from_us || frame->earliest_us > walk->to_us)
        return false;
    if (walk->beyond == 0)
        return true;
    return walk->is_backwards ? frame->first < walk->beyond : frame->last > walk->beyond;
}

static void give_frame(struct way *way, const struct segment_frame *frame, struct span rest)
{
    struct segment_row row;
    uint32_t n = 0;

    while (!way->is_stopped && segment_row_next(&rest, &row)) {
        const struct walk_row out = { way->day, row.number, row.value };

        give(way, &out);
        n++;
    }
    if (!way->is_stopped && (n != frame->n_rows || rest.len > 0)) {
        const struct segment_why why = { frame->first + n, "the file of its day is damaged there" };

        give_bad(way, &why);
    }
}

static int
give_frame_backwards(struct way *way, const struct segment_frame *frame, struct span rest)
{
    struct segment_row *rows = calloc(frame->n_rows, sizeof(*rows));
    size_t n = 0;

    if (!rows)
        return fault(-ENOMEM, "no memory for a closed day of the audit");
    while (n < frame->n_rows && segment_row_next(&rest, &rows[n]))
        n++;
    if (n != frame->n_rows || rest.len > 0) {
        const struct segment_why why = { frame->first + n, "the file of its day is damaged there" };

        give_bad(way, &why);
    }
    while (n-- > 0 && !way->is_stopped) {
        const struct walk_row out = { way->day, rows[n].number, rows[n].value };

        give(way, &out);
    }
    free(rows);
    return 0;
}

static int walk_segment(struct way *way, const struct segment *segment)
{
    CLEANUP(buf_deinit) struct buf rows = { 0 };
    const bool is_backwards = way->walk->is_backwards;

    for (size_t i = 0; i < segment->n_frames && !way->is_stopped; i++) {
        size_t at = is_backwards ? segment->n_frames - 1 - i : i;
        const struct segment_frame *frame = &segment->frames[at];
        struct segment_why why;
        int r;

        if (!is_wanted(way->walk, frame))
            continue;
        r = segment_load(segment, at, &rows, &why);
        if (r < 0)
            return pass(r);
        if (r == SEGMENT_BAD)
            give_bad(way, &why);
        else if (is_backwards)
            r = give_frame_backwards(way, frame, buf_span(&rows));
        else
            give_frame(way, frame, buf_span(&rows));
        if (r < 0)
            return pass(r);
    }
    return 0;
}

/* Outcomes: SEGMENT_ABSENT. */
static int walk_closed(struct way *way)
{
    CLEANUP(segment_close) struct segment segment = SEGMENT_NULL;
    struct segment_why why;
    int r = segment_open(&segment, way->walk->audit->directory, way->day, &why);

    if (r != 0 && r != SEGMENT_BAD)
        return pass(r);
    /* Frames before the damage are good. */
    if (r == SEGMENT_BAD && way->walk->is_backwards)
        give_bad(way, &why);
    int walked = walk_segment(way, &segment);
    if (walked == 0 && r == SEGMENT_BAD && !way->walk->is_backwards)
        give_bad(way, &why);
    return pass(walked);
}

/* Where it goes on in rows first .. last of the day; false: nowhere. */
static bool begin_at(const struct walk *walk, uint64_t first, uint64_t last, uint64_t *ret)
{
    uint64_t at = walk->is_backwards ? last : first;

    if (walk->beyond && walk->is_backwards && walk->beyond <= at)
        at = walk->beyond - 1;
    if (walk->beyond && !walk->is_backwards && walk->beyond >= at)
        at = walk->beyond + 1;
    *ret = at;
    return at >= first && at <= last;
}

static size_t count_rows(const struct walk_page *page, uint64_t first, uint64_t last)
{
    size_t n = 0;

    for (size_t i = 0; i < page->n; i++)
        n += page->rows[i].number >= first && page->rows[i].number <= last;
    return n;
}

/* Entries first .. last, which share a page. *ret_is_over: the day is, or nobody wants more. */
static int
walk_part(struct way *way, struct walk_page *page, uint64_t first, uint64_t last, bool *ret_is_over)
{
    const struct walk *walk = way->walk;
    int r = walk_page_read(walk->audit, way->day, first, page);

    *ret_is_over = true;
    if (r != 0)
        return pass(r);
    if (count_rows(page, first, last) != last - first + 1) {
        r = walk_closed(way); /* it is being moved; or rows were taken out, which verify names */
        if (r != SEGMENT_ABSENT)
            return pass(r);
    }
    for (size_t i = 0; i < page->n; i++) {
        const struct walk_row *row = &page->rows[walk->is_backwards ? page->n - 1 - i : i];

        if (row->number >= first && row->number <= last)
            give(way, row);
    }
    *ret_is_over = way->is_stopped;
    return 0;
}

static int walk_parts(struct way *way, struct walk_page *page, uint64_t first, uint64_t last)
{
    const bool is_backwards = way->walk->is_backwards;
    const uint64_t in_page = WALK_PAGE - 1;
    bool is_over = false;
    uint64_t at;
    int r = 0;

    if (!begin_at(way->walk, first, last, &at))
        return 0;
    while (r == 0 && !is_over) {
        uint64_t low = is_backwards ? at & ~in_page : at, high = is_backwards ? at : at | in_page;

        low = low < first ? first : low;
        high = high > last ? last : high;
        r = walk_part(way, page, low, high, &is_over);
        if (is_backwards ? low == first : high == last)
            break;
        at = is_backwards ? low - 1 : high + 1;
    }
    return pass(r);
}

/* *ret_is_empty: there are no rows of the day. */
static int walk_open(struct way *way, bool *ret_is_empty)
{
    CLEANUP(walk_page_deinit) struct walk_page page;
    struct walk_end first, last;
    struct audit *audit = way->walk->audit;

    walk_page_init(&page);
    *ret_is_empty = true;
    int r = walk_day_end(audit, way->day, false, &first);
    if (r == 0)
        r = walk_day_end(audit, way->day, true, &last);
    if (r == AUDIT_NOT_FOUND)
        return 0;
    if (r != 0)
        return pass(r);
    *ret_is_empty = false;
    return pass(walk_parts(way, &page, first.number, last.number));
}

static int walk_day(struct way *way)
{
    bool is_empty = false;
    int r = walk_closed(way);

    way->walk->n_closed += r == 0;
    if (r != SEGMENT_ABSENT)
        return pass(r);
    r = walk_open(way, &is_empty);
    if (r != 0)
        return pass(r);
    if (is_empty) { /* moved just now, or a day without entries */
        r = walk_closed(way);
        way->walk->n_closed += r == 0;
    }
    return r == SEGMENT_ABSENT ? 0 : pass(r);
}

/* First and last day that there is; false: none. */
static int bounds(struct audit *audit, uint32_t *ret_first, uint32_t *ret_last, bool *ret_is_any)
{
    uint32_t *days = NULL, first = UINT32_MAX, last = 0;
    struct walk_end end;
    size_t n = 0;
    int r = walk_closed_days(audit->directory, &days, &n);

    if (r != 0)
        return pass(r);
    if (n > 0) {
        first = days[0];
        last = days[n - 1];
    }
    free(days);
    for (int is_last = 0; is_last < 2 && r == 0; is_last++) {
        r = walk_table_end(audit, is_last != 0, &end);
        if (r == 0 && end.day < first)
            first = end.day;
        if (r == 0 && end.day > last)
            last = end.day;
        r = r == AUDIT_NOT_FOUND ? 0 : r;
    }
    *ret_is_any = first <= last;
    *ret_first = first;
    *ret_last = last;
    return pass(r);
}

int walk_run(struct walk *walk)
{
    struct way way = { .walk = walk };
    uint32_t first, last;
    bool is_any;
    int r = bounds(walk->audit, &first, &last, &is_any);

    if (r != 0 || !is_any)
        return pass(r);
    first = first > walk->first_day ? first : walk->first_day;
    last = last < walk->last_day ? last : walk->last_day;
    for (uint32_t i = 0; first <= last && i <= last - first && r == 0 && !way.is_stopped; i++) {
        way.day = walk->is_backwards ? last - i : first + i;
        r = walk_day(&way);
    }
    return pass(r);
}
