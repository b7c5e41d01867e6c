/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Searching logs: day after day in the search's direction. Of a day everything that may have a
 * record is listed, by the times that keys, prefixes and heads say, without a look at blocks; then
 * read from the near end on, until what is left can only be behind the page. So the first page of a
 * frequent word reads a few blocks, and of a word that is rare only the filters of the others are
 * touched.
 *
 * It ends where a page or a budget does, and what has a record near the end was looked at for
 * nothing: where many agents' blocks overlap that is most of it. So the calls of one search tell
 * each other what they saw (seen.h), and one that is spent before anything may be handed out
 * says so and is called again.
 *
 * A search sees each agent as of one moment (logs_view_begin()), so it meets each record once,
 * whatever is sealed meanwhile; and none of the blocks is replaced, but by a compaction that was
 * under way at that moment. Then a block is gone that was listed: the day is begun anew, as that
 * can happen once.
 *
 * Transactions of LMDB are short: let go after some blocks, and after some mebibytes decoded.
 */

#include <errno.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/log/log.h"
#include "server/store/days/scan.h"
#include "server/store/journal/reader.h"
#include "server/store/logs/page.h"
#include "server/store/logs/seen.h"
#include "server/store/whole.h"

#define TURN_ITEMS 64u                 /* looked at in one transaction */
#define TURN_BYTES (UINT64_C(4) << 20) /* decoded in one */
#define RESTARTS 8u                    /* of a day: more than can be */

/* What may have a record: a block, or a pack of the head. */
struct item {
    int64_t first_us;
    int64_t near_us; /* nothing of it is nearer than this, in the search's direction */
    uint32_t view;   /* which agent */
    uint32_t n_records;
    bool is_pack;
    uint16_t part;
    union {
        uint64_t seal;
        size_t pack;
    };
};

struct searcher {
    struct store *store;
    struct store_log_search *search;
    int64_t from_us, to_us; /* what is left of the range behind search->after */
    struct logs_view *views;
    size_t n_views;
    struct logs_page page;
    struct logblock_room *room;
    struct reader reader;
    /* The day under way. */
    struct day *day; /* NULL: nothing of it is sealed */
    MDB_txn *txn;
    struct buf items, found, parts;
    uint32_t n_turn_items;
    uint64_t n_turn_bytes;
    /* How far it came. */
    bool has_near; /* the time that the first item could have at best */
    int64_t near_us;
    bool is_over, is_restarted;
    int64_t until_us; /* by clock_mono(), from the first item on; 0: before that */
    bool has_news;    /* something was seen that was not in the calls before */
    bool is_unseen;   /* something was looked at that could not be noted */
};

/* ---- the range ---- */

static bool is_oldest_first(const struct searcher *s)
{
    return s->search->is_oldest_first;
}

static void set_range(struct searcher *s)
{
    const struct store_log_search *search = s->search;
    int64_t after_us = search->after.time_us;

    s->from_us = search->from_us;
    s->to_us = search->to_us;
    if (!search->has_after)
        return;
    if (search->is_oldest_first && s->from_us < after_us)
        s->from_us = after_us;
    if (!search->is_oldest_first && after_us < INT64_MAX && s->to_us > after_us + 1)
        s->to_us = after_us + 1;
}

/* The time of the first record, in the search's direction, that the item can have. */
static int64_t near_end(const struct searcher *s, const struct item *item)
{
    if (is_oldest_first(s))
        return item->near_us > s->from_us ? item->near_us : s->from_us;
    return item->near_us < s->to_us - 1 ? item->near_us : s->to_us - 1;
}

static bool
is_behind_after(const struct searcher *s, uint32_t agent, const struct logblock_record *record)
{
    struct store_log_place place = { record->time_us, agent, record->place };

    return !s->search->has_after || logs_page_is_before(&s->page, &s->search->after, &place);
}

/* What is wanted of a block, as far as the page is not full of better. */
static struct logblock_wanted wanted_now(const struct searcher *s)
{
    const struct store_log_search *search = s->search;
    struct logblock_wanted wanted = { .from_us = s->from_us,
                                      .to_us = s->to_us,
                                      .min_severity = search->min_severity,
                                      .terms = search->terms,
                                      .is_wanted = search->is_body_wanted,
                                      .ctx = search->ctx };
    int64_t cut_us = s->page.cut.time_us;

    if (!s->page.has_cut)
        return wanted;
    if (search->is_oldest_first && cut_us < INT64_MAX && wanted.to_us > cut_us + 1)
        wanted.to_us = cut_us + 1;
    if (!search->is_oldest_first && wanted.from_us < cut_us)
        wanted.from_us = cut_us;
    return wanted;
}

/* ---- transactions ---- */

static void end_turn(struct searcher *s)
{
    if (s->txn)
        mdb_txn_abort(take(s->txn));
    reader_close(&s->reader);
    s->n_turn_items = 0;
    s->n_turn_bytes = 0;
}

static int begin_turn(struct searcher *s)
{
    if (s->n_turn_items++ >= TURN_ITEMS || s->n_turn_bytes >= TURN_BYTES)
        end_turn(s);
    if (s->txn || !s->day)
        return 0;
    return pass(db_check(mdb_txn_begin(s->day->env, NULL, MDB_RDONLY, &s->txn),
                         "cannot begin to read a day"));
}

/* ---- what was seen before ---- */

static struct seen_key seen_key_of(const struct searcher *s, const struct item *item)
{
    const struct logs_view *view = &s->views[item->view];

    if (item->is_pack)
        return (struct seen_key){ .seal = view->packs[item->pack].chunk,
                                  .first_us = view->packs[item->pack].offset,
                                  .agent = view->agent->facts.number,
                                  .n_records = item->n_records,
                                  .is_pack = true };
    return (struct seen_key){ .seal = item->seal,
                              .first_us = item->first_us,
                              .agent = view->agent->facts.number,
                              .n_records = item->n_records,
                              .part = item->part };
}

/* Unless it is known that nothing is in it. */
static void add_item(struct searcher *s, struct item *item, int64_t last_us)
{
    struct seen_key key = seen_key_of(s, item);
    enum seen_state state = SEEN_NOT;
    int64_t seen_us = 0;

    if (s->search->seen)
        state = seen_find(s->search->seen, &key, &seen_us);
    item->near_us = is_oldest_first(s) ? item->first_us : last_us;
    if (state == SEEN_UP_TO)
        item->near_us = seen_us;
    if (state != SEEN_NOTHING)
        buf_append(&s->items, item, sizeof(*item));
}

/* What an item has that is wanted, as far as it was looked at in the whole range. */
struct sight {
    bool is_whole;
    enum seen_state state;
    int64_t up_to_us;
};

static struct sight begin_sight(void)
{
    return (struct sight){ .is_whole = true, .state = SEEN_NOTHING };
}

static void see(const struct searcher *s,
                const struct item *item,
                const struct logblock_record *records,
                size_t n,
                struct sight *sight)
{
    uint32_t agent = s->views[item->view].agent->facts.number;

    for (size_t i = 0; i < n; i++) {
        int64_t time_us = records[i].time_us;

        if (!is_behind_after(s, agent, &records[i]))
            continue;
        if (sight->state == SEEN_NOTHING ||
            (is_oldest_first(s) ? time_us < sight->up_to_us : time_us > sight->up_to_us))
            sight->up_to_us = time_us;
        sight->state = SEEN_UP_TO;
    }
}

static void note_seen(struct searcher *s, const struct item *item, const struct sight *sight)
{
    struct seen_key key = seen_key_of(s, item);
    bool is_news = false;

    if (!s->search->seen || !sight->is_whole)
        return;
    if (!seen_note(s->search->seen, &key, sight->state, sight->up_to_us, &is_news))
        s->is_unseen = true;
    s->has_news |= is_news;
}

/* ---- what a day has ---- */

static void list_packs(struct searcher *s, size_t v, int32_t day)
{
    const struct logs_view *view = &s->views[v];

    for (size_t i = 0; i < view->n_packs; i++) {
        const struct log_pack *pack = &view->packs[i];
        struct item item = { .first_us = pack->first_us,
                             .view = (uint32_t) v,
                             .n_records = pack->n_records,
                             .is_pack = true,
                             .pack = i };

        if (day_of(pack->first_us) == day && pack->last_us >= s->from_us &&
            pack->first_us < s->to_us)
            add_item(s, &item, pack->last_us);
    }
}

static int list_blocks(struct searcher *s, size_t v)
{
    const struct logs_view *view = &s->views[v];
    struct find_blocks find = { view->agent->facts.number, s->from_us, s->to_us, view->seal };
    const struct found_block *found;
    int r;

    buf_clear(&s->found);
    r = found_blocks(s->day, s->txn, &find, &s->found, &s->search->ret_damaged);
    if (r == STORE_NOT_FOUND) {
        day_found_damage(s->day, "pages that lead nowhere");
        s->search->ret_damaged++;
        end_turn(s); /* the transaction may be of no more use */
        r = begin_turn(s);
    }
    found = (const void *) s->found.data;
    for (size_t i = 0; i < s->found.len / sizeof(*found) && !r; i++) {
        struct item item = { .first_us = found[i].key.first_us,
                             .view = (uint32_t) v,
                             .n_records = found[i].prefix.n_rows,
                             .part = found[i].key.part,
                             .seal = found[i].key.seal };

        add_item(s, &item, found[i].prefix.last_us);
    }
    return pass(r);
}

static int falling(const void *a, const void *b)
{
    const struct item *x = a, *y = b;

    return (x->near_us < y->near_us) - (x->near_us > y->near_us);
}

static int rising(const void *a, const void *b)
{
    return falling(b, a);
}

static int list_day(struct searcher *s, int32_t day)
{
    int r = begin_turn(s);

    buf_clear(&s->items);
    for (size_t v = 0; v < s->n_views && !r; v++) {
        list_packs(s, v, day);
        if (s->day)
            r = list_blocks(s, v);
    }
    end_turn(s);
    if (r)
        return pass(r);
    if (buf_failed(&s->items))
        return fault(-ENOMEM, "no memory for a list of blocks");
    if (s->items.len > 0)
        qsort(s->items.data, s->items.len / sizeof(struct item), sizeof(struct item),
              is_oldest_first(s) ? rising : falling);
    return 0;
}

/* ---- reading ---- */

static int offer(struct searcher *s,
                 uint32_t agent,
                 const struct logblock_source *source,
                 const struct logblock_record *record)
{
    return is_behind_after(s, agent, record)
               ? pass(logs_page_offer(&s->page, agent, source, record))
               : 0;
}

/* From the near end on, as times mostly rise: what is behind the page is then not copied first. */
static int offer_all(struct searcher *s,
                     uint32_t agent,
                     const struct logblock_source *source,
                     const struct logblock_record *records,
                     size_t n)
{
    int r = 0;

    for (size_t i = 0; i < n && !r; i++)
        r = offer(s, agent, source, &records[is_oldest_first(s) ? i : n - 1 - i]);
    return pass(r);
}

/* What is whole of it counts all the same. */
static void found_damage(struct searcher *s, const struct item *item, const struct sight *sight)
{
    s->search->ret_damaged++;
    note_seen(s, item, sight); /* said once, where nothing is */
    log_peer(LOG_ERROR, item->is_pack ? "log_pack_damaged" : "log_block_damaged",
             LOG_U("agent", s->views[item->view].agent->facts.number),
             LOG_I("first_us", item->first_us));
}

static void count_bytes(struct searcher *s, uint64_t n_head, uint64_t n)
{
    s->search->ret_bytes_read += n;
    s->search->ret_cost_bytes += n_head + n;
    s->n_turn_bytes += n_head + n;
}

static bool is_source_wanted(const struct searcher *s, const struct logblock_source *source)
{
    return !s->search->is_source_wanted || s->search->is_source_wanted(s->search->ctx, source);
}

/* One of the blocks of an item. `at` is added to places. Outcomes: LOGBLOCK_BAD. */
static int read_part(struct searcher *s,
                     const struct item *item,
                     struct span bytes,
                     struct logblock_place at,
                     struct sight *sight)
{
    struct logblock_wanted wanted = wanted_now(s);
    struct logblock_record *records = NULL;
    struct logblock block;
    uint64_t n_bytes = 0;
    size_t n = 0;
    int r = logblock_open(bytes, s->room, &block);

    if (r)
        return pass(r);
    if (is_source_wanted(s, &block.source)) {
        r = logblock_find(&block, &wanted, s->room, &records, &n, &n_bytes);
        if (r)
            return pass(r);
        logblock_move_records(records, n, at);
    }
    sight->is_whole = sight->is_whole && !s->page.has_cut;
    see(s, item, records, n, sight);
    count_bytes(s, block.n_head_bytes, n_bytes);
    if (n_bytes > 0)
        s->search->ret_blocks_read++;
    else
        s->search->ret_blocks_skipped++;
    return pass(offer_all(s, s->views[item->view].agent->facts.number, &block.source, records, n));
}

/* Blocks that stand one behind the other. Outcomes: LOGBLOCK_BAD (where the next one begins is not
 * known). */
static int split(struct searcher *s, struct span bytes)
{
    int r = 0;

    buf_clear(&s->parts);
    while (!r && bytes.len > 0) {
        struct span part = bytes;
        struct logblock block;

        r = logblock_next(&bytes, s->room, &block);
        part.len -= bytes.len;
        if (!r)
            buf_append(&s->parts, &part, sizeof(part));
    }
    if (buf_failed(&s->parts))
        return fault(-ENOMEM, "no memory for a list of blocks");
    return r < 0 ? pass(r) : r;
}

/* From the near end on, as times mostly rise. What can be read is, and damage is said. */
static int read_blocks(struct searcher *s,
                       const struct item *item,
                       struct span bytes,
                       struct logblock_place at)
{
    struct sight sight = begin_sight();
    bool is_damaged;
    size_t n;
    int r = split(s, bytes);

    if (r < 0)
        return pass(r);
    is_damaged = r > 0;
    n = s->parts.len / sizeof(struct span);
    for (size_t i = 0; i < n; i++) {
        const struct span *parts = (const void *) s->parts.data;

        r = read_part(s, item, parts[is_oldest_first(s) ? i : n - 1 - i], at, &sight);
        if (r < 0)
            return pass(r);
        is_damaged = is_damaged || r > 0;
    }
    if (is_damaged)
        found_damage(s, item, &sight);
    else
        note_seen(s, item, &sight);
    return 0;
}

/* A block that was listed and is not there was replaced, with others: *is_restarted. */
static int look_at_block(struct searcher *s, const struct item *item)
{
    struct day_key day_key = { s->views[item->view].agent->facts.number, item->first_us, item->seal,
                               item->part };
    uint8_t name[DAY_KEY_BYTES];
    MDB_val key = db_val(name, sizeof(name)), value;
    const struct sight nothing = begin_sight();
    struct day_prefix prefix;
    struct span bytes;
    int rc;

    day_key_put(name, &day_key);
    rc = mdb_get(s->txn, s->day->blocks, &key, &value);
    if (rc == MDB_NOTFOUND) {
        s->is_restarted = true;
        return 0;
    }
    if (db_is_damage(rc)) {
        day_found_damage(s->day, "pages that lead nowhere");
        found_damage(s, item, &nothing);
        end_turn(s);
        return 0;
    }
    if (rc)
        return fold(db_check(rc, "cannot read a day"));
    if (day_prefix_get(key, value, &prefix, &bytes))
        return pass(read_blocks(s, item, bytes, (struct logblock_place){ 0 }));
    found_damage(s, item, &nothing);
    return 0;
}

static bool is_record_wanted(const struct logblock_wanted *wanted,
                             const struct logblock_record *record)
{
    return record->time_us >= wanted->from_us && record->time_us < wanted->to_us &&
           record->severity >= wanted->min_severity &&
           (!wanted->terms || logblock_holds(wanted->terms, record->body)) &&
           (!wanted->is_wanted || wanted->is_wanted(wanted->ctx, record->body));
}

static int look_at_pack(struct searcher *s, const struct item *item)
{
    const struct log_pack *pack = &s->views[item->view].packs[item->pack];
    uint32_t agent = s->views[item->view].agent->facts.number;
    struct logblock_place place = { pack->chunk, pack->offset, 0 };
    struct logblock_wanted wanted = wanted_now(s);
    struct sight sight = begin_sight();
    struct logblock_record *records;
    struct logblock_source source;
    struct span bytes;
    size_t n = 0, n_wanted = 0;
    int r = reader_pack(&s->reader, agent, pack, &bytes);

    if (r == 0 && logblock_is_block(bytes))
        return pass(read_blocks(s, item, bytes, place));
    if (r == 0)
        r = logblock_unpack(bytes, place, s->room, &source, &records, &n);
    if (r > 0) {
        found_damage(s, item, &sight);
        return 0;
    }
    if (r < 0)
        return pass(r);
    if (is_source_wanted(s, &source)) {
        count_bytes(s, 0, bytes.len);
        for (size_t i = 0; i < n; i++)
            if (is_record_wanted(&wanted, &records[i]))
                records[n_wanted++] = records[i];
    }
    sight.is_whole = !s->page.has_cut;
    see(s, item, records, n_wanted, &sight);
    note_seen(s, item, &sight);
    return pass(offer_all(s, agent, &source, records, n_wanted));
}

/* ---- the end ---- */

static bool is_spent(struct searcher *s)
{
    const struct store_log_search *search = s->search;

    if (search->budget_bytes && search->ret_cost_bytes >= search->budget_bytes)
        return true;
    if (!search->budget_us)
        return false;
    if (!s->until_us)
        s->until_us = clock_mono().us + search->budget_us;
    return clock_mono().us >= s->until_us;
}

/* In the midst of what can have a record of the first time: nothing may be handed out yet, but all
 * that was looked at is noted. */
static bool is_paused(struct searcher *s)
{
    if (!s->search->seen || !s->has_news || s->is_unseen || s->page.has_cut)
        return false;
    logs_page_forget(&s->page, INT64_MIN, INT64_MAX);
    s->search->ret_is_paused = true;
    return true;
}

/* Whether the search ends here: the page is full of better, or nobody waits, or it cost too much.
 * The last only when the next page would begin behind where this one did, or this one can go on. */
static bool is_over_before(struct searcher *s, const struct item *item)
{
    struct store_log_search *search = s->search;
    int64_t near_us = near_end(s, item);

    if (!logs_page_wants(&s->page, near_us))
        return true;
    if (search->is_unwanted && search->is_unwanted(search->ctx)) {
        logs_page_forget(&s->page, INT64_MIN, INT64_MAX);
        return true;
    }
    if (!s->has_near) {
        s->has_near = true;
        s->near_us = near_us;
    }
    if (!is_spent(s))
        return false;
    if (near_us == s->near_us)
        return is_paused(s);
    logs_page_end_before(&s->page, near_us);
    search->ret_is_budget_reached = true;
    /* Before all, or behind all, of this time. */
    search->ret_place = (struct store_log_place){ .time_us = near_us };
    if (!search->is_oldest_first)
        search->ret_place =
            (struct store_log_place){ near_us, UINT32_MAX, { UINT64_MAX, UINT32_MAX, UINT32_MAX } };
    return true;
}

static int read_items(struct searcher *s)
{
    const struct item *items = (const void *) s->items.data;
    int r = 0;

    s->is_restarted = false;
    for (size_t i = 0; i < s->items.len / sizeof(*items) && !r && !s->is_restarted; i++) {
        s->is_over = is_over_before(s, &items[i]);
        if (s->is_over)
            break;
        r = begin_turn(s);
        if (!r)
            r = items[i].is_pack ? look_at_pack(s, &items[i]) : look_at_block(s, &items[i]);
    }
    end_turn(s);
    return pass(r);
}

static int read_day(struct searcher *s, int32_t number)
{
    struct days *days = &s->store->logs;
    uint64_t n_damaged = s->search->ret_damaged;
    int r = days_use(days, number, &s->day);

    if (r == STORE_NOT_FOUND) {
        s->day = NULL;
        r = 0;
    }
    s->is_restarted = true;
    for (unsigned i = 0; !r && s->is_restarted; i++) {
        if (i == RESTARTS) {
            r = fault(-ENOTRECOVERABLE, "blocks of %s go while they are read", s->day->path);
            break;
        }
        s->search->ret_damaged = n_damaged;
        if (i > 0)
            logs_page_forget(&s->page, number * DAY_US, number * DAY_US + DAY_US - 1);
        r = list_day(s, number);
        if (!r)
            r = read_items(s);
    }
    if (s->day)
        days_release(days, take(s->day));
    return pass(r);
}

/* ---- days ---- */

static int by_number(const void *a, const void *b)
{
    const int32_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

/* Of blocks and of packs, in order; some more than once. */
static int list_days(struct searcher *s, struct buf *ret)
{
    int32_t first = day_of(s->from_us), last = day_of(s->to_us - 1);

    for (int32_t day = days_next(&s->store->logs, first); day <= last && day != INT32_MAX;
         day = days_next(&s->store->logs, day + 1))
        buf_append(ret, &day, sizeof(day));
    for (size_t v = 0; v < s->n_views; v++)
        for (size_t i = 0; i < s->views[v].n_packs; i++) {
            int32_t day = day_of(s->views[v].packs[i].first_us);

            if (i == 0 || day != day_of(s->views[v].packs[i - 1].first_us))
                buf_append(ret, &day, sizeof(day));
        }
    if (buf_failed(ret))
        return fault(-ENOMEM, "no memory for a list of days");
    if (ret->len > 0)
        qsort(ret->data, ret->len / sizeof(int32_t), sizeof(int32_t), by_number);
    return 0;
}

static int read_days(struct searcher *s)
{
    CLEANUP(buf_deinit) struct buf list = { 0 };
    int r = list_days(s, &list);
    size_t n = list.len / sizeof(int32_t);
    const int32_t *days = (const void *) list.data;

    for (size_t i = 0; i < n && !r && !s->is_over; i++) {
        size_t at = is_oldest_first(s) ? i : n - 1 - i;

        /* Of some that are the same the last. */
        if (i + 1 < n && days[at] == days[is_oldest_first(s) ? at + 1 : at - 1])
            continue;
        r = read_day(s, days[at]);
    }
    return pass(r);
}

static int begin_views(struct searcher *s)
{
    const struct store_log_search *search = s->search;
    int r = 0;

    s->views = reallocarray(NULL, search->n_agents + 1, sizeof(*s->views));
    s->room = logblock_room_new();
    if (!s->views || !s->room)
        return fault(-ENOMEM, "no memory to search logs of %zu agents", search->n_agents);
    for (size_t i = 0; i < search->n_agents && !r; i++) {
        r = logs_view_begin(s->store, search->agents[i], s->from_us, s->to_us,
                            &s->views[s->n_views]);
        s->n_views += r == 0;
        if (r == STORE_NOT_FOUND)
            r = 0;
    }
    return pass(r);
}

static void searcher_deinit(struct searcher *s)
{
    end_turn(s);
    for (size_t i = 0; i < s->n_views; i++)
        logs_view_end(&s->views[i]);
    free(s->views);
    logblock_room_free(s->room);
    logs_page_deinit(&s->page);
    buf_deinit(&s->items);
    buf_deinit(&s->found);
    buf_deinit(&s->parts);
}

/* The page, and where the next one begins. */
static int answer(struct searcher *s, struct arena *arena)
{
    struct store_log_search *search = s->search;
    int r = logs_page_finish(&s->page, arena, &search->ret_entries, &search->ret_n);

    if (r)
        return pass(r);
    search->ret_has_more = s->is_over || s->page.has_cut;
    if (search->ret_is_budget_reached || search->ret_is_paused)
        return 0;
    if (search->ret_n > 0) {
        const struct store_log_entry *last = &search->ret_entries[search->ret_n - 1];

        search->ret_place =
            (struct store_log_place){ last->record.time_us, last->agent, last->record.place };
    } else if (search->has_after) {
        search->ret_place = search->after;
    }
    return 0;
}

int store_logs_search(struct store *store, struct store_log_search *search, struct arena *arena)
{
    struct searcher searcher = { .store = store,
                                 .search = search,
                                 .page = { .is_oldest_first = search->is_oldest_first,
                                           .max_entries = search->max_entries,
                                           .max_bytes = search->max_entry_bytes },
                                 .reader = { .journal = &store->journal } };
    int r = 0;

    ensure(!store->options.is_shared);
    ensure(search->max_entries >= 1 && search->max_entries <= STORE_LOG_ENTRIES_MAX);
    search->ret_entries = NULL;
    search->ret_n = 0;
    search->ret_is_budget_reached = search->ret_has_more = search->ret_is_paused = false;
    search->ret_place = (struct store_log_place){ 0 };
    search->ret_bytes_read = search->ret_blocks_read = search->ret_blocks_skipped = 0;
    search->ret_damaged = search->ret_cost_bytes = 0;
    set_range(&searcher);
    if (searcher.from_us < searcher.to_us) {
        r = begin_views(&searcher);
        if (!r)
            r = read_days(&searcher);
    }
    if (!r)
        r = answer(&searcher, arena);
    searcher_deinit(&searcher);
    return pass(r);
}
