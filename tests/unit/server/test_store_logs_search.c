/* SPDX-License-Identifier: Apache-2.0 */

/* Searching logs: what comes is held against everything there is, looked at one by one. */

#include "test_store_logs.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/rand.h"
#include "server/store/days/scan.h"
#include "server/store/whole.h"

#define AGENTS 3
#define ARENA_BYTES ((size_t) 256 << 20)

static struct rand rng;
static struct arena all_arena, page_arena;
static uint32_t agents[AGENTS];
static uint32_t n_put[AGENTS];
static uint64_t sequences[AGENTS];

static void start(void)
{
    make_database();
    rand_init(&rng, 77);
    arena_init(&all_arena, ARENA_BYTES);
    arena_init(&page_arena, ARENA_BYTES);
    memset(n_put, 0, sizeof(n_put));
    memset(sequences, 0, sizeof(sequences));
}

static void stop(void)
{
    arena_deinit(&all_arena);
    arena_deinit(&page_arena);
    remove_database();
}

static uint64_t below(uint64_t bound)
{
    return rand_below(&rng, bound);
}

static void make_agents(struct store *store)
{
    for (size_t a = 0; a < AGENTS; a++) {
        char id[16];

        snprintf(id, sizeof(id), "web-%zu", a);
        agents[a] = agent_of(store, id);
    }
}

static void put_lines(struct store *store, size_t a, uint32_t n, int64_t time_us, int64_t step_us)
{
    struct log_put put = { .agent = agents[a],
                           .spool = 1,
                           .sequence = ++sequences[a],
                           .source = (unsigned) below(6),
                           .first = n_put[a],
                           .n = n,
                           .time_us = time_us,
                           .step_us = step_us,
                           .body_bytes = n < 400 && below(3) == 0 ? 32768 / n + 1 : 0 };

    ck_assert_int_eq(put_logs(store, put, NULL), STORE_OK);
    n_put[a] += n;
}

static struct store_log_search all_of(void)
{
    return (struct store_log_search){ .agents = agents,
                                      .n_agents = AGENTS,
                                      .from_us = INT64_MIN,
                                      .to_us = INT64_MAX,
                                      .is_oldest_first = true,
                                      .max_entries = STORE_LOG_ENTRIES_MAX,
                                      .max_entry_bytes = SIZE_MAX };
}

static int compare(const struct store_log_entry *a, const struct store_log_entry *b)
{
    if (a->record.time_us != b->record.time_us)
        return a->record.time_us < b->record.time_us ? -1 : 1;
    if (a->agent != b->agent)
        return a->agent < b->agent ? -1 : 1;
    if (a->record.place.chunk != b->record.place.chunk)
        return a->record.place.chunk < b->record.place.chunk ? -1 : 1;
    if (a->record.place.offset != b->record.place.offset)
        return a->record.place.offset < b->record.place.offset ? -1 : 1;
    return a->record.place.index < b->record.place.index
               ? -1
               : a->record.place.index > b->record.place.index;
}

/* Everything, oldest first; held against what the blocks and packs have. */
static struct store_log_search read_all(struct store *store)
{
    struct store_log_search all = all_of();
    size_t n = 0;

    arena_reset(&all_arena, ARENA_BYTES);
    ck_assert_int_eq(store_logs_search(store, &all, &all_arena), 0);
    ck_assert(!all.ret_has_more && !all.ret_is_budget_reached && all.ret_damaged == 0);
    for (size_t i = 1; i < all.ret_n; i++)
        ck_assert_int_lt(compare(&all.ret_entries[i - 1], &all.ret_entries[i]), 0);
    for (size_t a = 0; a < AGENTS; a++) {
        const struct lines *lines = read_logs(store, agents[a]);

        n += lines->n;
        for (size_t i = 0; i < all.ret_n; i++) {
            const struct store_log_entry *entry = &all.ret_entries[i];
            uint32_t number;

            if (entry->agent != agents[a])
                continue;
            number = check_line(&entry->source, &entry->record);
            ck_assert_uint_lt(number, lines->n);
            ck_assert_uint_eq(lines->lines[number].n, number);
            ck_assert_int_eq(lines->lines[number].time_us, entry->record.time_us);
            ck_assert_mem_eq(&lines->lines[number].place, &entry->record.place,
                             sizeof(entry->record.place));
        }
    }
    ck_assert_uint_eq(all.ret_n, n);
    return all;
}

/* ---- any search ---- */

/* The bodies of the rig are in small letters but for these. */
static const char *const texts[] = { "index.html", "GET /INDEX", "from 10.0.0.7", "1",  "17 g",
                                     "html",       "x",          "get",           "000" };

static bool naive_holds(const char *text, bool is_word, struct span body)
{
    size_t len = strlen(text);

    for (size_t at = 0; at + len <= body.len; at++) {
        bool is_at = strncasecmp((const char *) body.data + at, text, len) == 0;
        bool is_bounded =
            (at == 0 || !strchr("abcdefghijklmnopqrstuvwxyzGET0123456789_",
                                body.data[at - 1] ? body.data[at - 1] : ' ')) &&
            (at + len == body.len || !strchr("abcdefghijklmnopqrstuvwxyzGET0123456789_",
                                             body.data[at + len] ? body.data[at + len] : ' '));

        if (is_at && (!is_word || is_bounded))
            return true;
    }
    return false;
}

static bool is_file(void *ctx, const struct logblock_source *source)
{
    (void) ctx;
    return span_equal(source->type, span_of_text("file"));
}

static bool is_even(void *ctx, struct span body)
{
    (void) ctx;
    return body.len % 2 == 0;
}

static bool is_none(void *ctx, struct span body)
{
    (void) ctx;
    (void) body;
    return false;
}

struct asked {
    struct store_log_search search;
    const char *text; /* NULL: any */
    uint32_t some[AGENTS];
    size_t n_paused;
};

static void ask_anything(struct asked *asked)
{
    struct store_log_search *search = &asked->search;

    *search = all_of();
    search->is_oldest_first = below(2);
    search->max_entries = 1 + below(below(2) ? 7 : 300);
    search->max_entry_bytes = below(3) ? SIZE_MAX : below(400);
    search->budget_bytes = below(3) ? 0 : below(30000);
    search->min_severity = below(3) ? 0 : (uint32_t) below(25);
    search->is_source_wanted = below(3) ? NULL : is_file;
    search->is_body_wanted = below(4) ? NULL : is_even;
    if (below(2)) {
        search->from_us = NOON_US - (int64_t) below(2 * (uint64_t) DAY_US);
        search->to_us = search->from_us + (int64_t) below(3 * (uint64_t) DAY_US);
    }
    search->agents = asked->some;
    search->n_agents = 0;
    for (size_t a = 0; a < AGENTS; a++)
        if (below(3))
            asked->some[search->n_agents++] = agents[a];
    asked->text = below(3) ? texts[below(sizeof(texts) / sizeof(*texts))] : NULL;
}

static bool is_asked_for(const struct asked *asked, const struct store_log_entry *entry)
{
    const struct store_log_search *search = &asked->search;
    bool is_agent = false;

    for (size_t i = 0; i < search->n_agents; i++)
        is_agent |= search->agents[i] == entry->agent;
    return is_agent && entry->record.time_us >= search->from_us &&
           entry->record.time_us < search->to_us &&
           entry->record.severity >= search->min_severity &&
           (!search->is_source_wanted || is_file(NULL, &entry->source)) &&
           (!search->is_body_wanted || is_even(NULL, entry->record.body)) &&
           (!asked->text || naive_holds(asked->text, false, entry->record.body));
}

/* Seals, compacts, or writes what is not asked for. */
static void disturb(struct store *store)
{
    switch (below(12)) {
    case 0:
        ck_assert_int_eq(store_seal(store), 0);
        break;
    case 1:
        ck_assert_int_eq(store_compact(store), 0);
        break;
    case 2:
        put_lines(store, below(AGENTS), 1, NOON_US + 9 * DAY_US, 1);
        break;
    default:
        break;
    }
}

/* Page by page; each entry is the next one of those that are asked for. */
static void
follow_pages(struct store *store, struct asked *asked, const struct store_log_search *all)
{
    struct store_log_search *search = &asked->search;
    size_t i = 0, n_pages = 0;

    do {
        arena_reset(&page_arena, ARENA_BYTES);
        ck_assert_int_eq(store_logs_search(store, search, &page_arena), 0);
        ck_assert_uint_eq(search->ret_damaged, 0);
        ck_assert_uint_le(search->ret_n, search->max_entries);
        for (size_t k = 0; k < search->ret_n; k++) {
            const struct store_log_entry *entry;

            do {
                ck_assert_uint_lt(i, all->ret_n);
                entry = &all->ret_entries[search->is_oldest_first ? i : all->ret_n - 1 - i];
                i++;
            } while (!is_asked_for(asked, entry));
            ck_assert_int_eq(compare(entry, &search->ret_entries[k]), 0);
            ck_assert(span_equal(entry->record.body, search->ret_entries[k].record.body));
            (void) check_line(&search->ret_entries[k].source, &search->ret_entries[k].record);
        }
        asked->n_paused += search->ret_is_paused;
        ck_assert(!search->ret_is_paused || (search->ret_n == 0 && search->ret_has_more));
        search->has_after |= !search->ret_is_paused;
        if (!search->ret_is_paused)
            search->after = search->ret_place;
        if (all->to_us == search->to_us)
            disturb(store);
        ck_assert_uint_lt(n_pages++, 20000);
    } while (search->ret_has_more);
    for (; i < all->ret_n; i++)
        ck_assert(!is_asked_for(
            asked, &all->ret_entries[search->is_oldest_first ? i : all->ret_n - 1 - i]));
}

START_TEST(any_search_gives_what_there_is_in_order_page_by_page)
{
    struct store *store = open_store(96 << 10);

    rand_init(&rng, 100 + (uint64_t) _i);
    make_agents(store);
    for (size_t round = 0; round < 80; round++) {
        bool is_spread = below(3) == 0;

        /* Some at the same times; some over days, and falling. */
        put_lines(store, below(AGENTS), 1 + (uint32_t) below(40),
                  is_spread ? NOON_US + (int64_t) below(2 * (uint64_t) DAY_US) - DAY_US
                            : NOON_US + (int64_t) below(50) * SECOND_US,
                  is_spread ? (int64_t) below(2000000000) - 1000000000 : (int64_t) below(2));
        disturb(store);
    }
    for (size_t round = 0; round < 30; round++) {
        CLEANUP(logblock_terms_freep) struct logblock_terms *terms = NULL;
        CLEANUP(store_log_seen_freep) struct store_log_seen *seen = NULL;
        struct store_log_search all = read_all(store);
        struct asked asked;

        ck_assert_int_eq(store_log_seen_new(store, &seen), 0);
        ask_anything(&asked);
        asked.search.seen = below(3) ? seen : NULL;
        /* What comes meanwhile is no part of it. */
        all.to_us = asked.search.to_us =
            asked.search.to_us < NOON_US + 4 * DAY_US ? asked.search.to_us : NOON_US + 4 * DAY_US;
        if (asked.text) {
            struct logblock_term term = { span_of_text(asked.text), false };

            ck_assert_int_eq(logblock_terms_new(&terms, &term, 1), 0);
            asked.search.terms = terms;
        }
        follow_pages(store, &asked, &all);
    }
    store_close(store);
    check_database();
}
END_TEST

/* ---- no more than needed ---- */

/* Twenty blocks, one behind the other, of an agent. */
static struct store *store_of_blocks(void)
{
    struct store *store = open_store(0);

    make_agents(store);
    for (int64_t i = 0; i < 20; i++) {
        struct log_put put = { agents[0],
                               1,
                               (uint64_t) i + 1,
                               0,
                               (uint32_t) i * 1000,
                               1000,
                               NOON_US + i * 10 * SECOND_US,
                               1000 };

        ck_assert_int_eq(put_logs(store, put, NULL), STORE_OK);
        ck_assert_int_eq(store_seal(store), 0);
    }
    return store;
}

START_TEST(a_page_of_a_frequent_word_reads_few_blocks_and_of_a_rare_one_only_filters)
{
    CLEANUP(logblock_terms_freep) struct logblock_terms *frequent = NULL, *rare = NULL;
    struct logblock_term words[] = { { span_of_text("index"), true },
                                     { span_of_text("12345"), true } };
    struct store *store = store_of_blocks();
    struct store_log_search search = all_of();

    ck_assert_int_eq(logblock_terms_new(&frequent, &words[0], 1), 0);
    ck_assert_int_eq(logblock_terms_new(&rare, &words[1], 1), 0);
    search.max_entries = 100;
    for (int is_oldest = 0; is_oldest < 2; is_oldest++) {
        search.is_oldest_first = is_oldest;
        search.terms = frequent;
        ck_assert_int_eq(store_logs_search(store, &search, &page_arena), 0);
        ck_assert_uint_eq(search.ret_n, 100);
        ck_assert(search.ret_has_more);
        ck_assert_uint_eq(search.ret_blocks_read, 1);
        ck_assert_int_eq(day_of(search.ret_entries[0].record.time_us), day_of(NOON_US));
        search.terms = rare;
        ck_assert_int_eq(store_logs_search(store, &search, &page_arena), 0);
        ck_assert_uint_eq(search.ret_n, 1);
        ck_assert_uint_eq(check_line(&search.ret_entries[0].source, &search.ret_entries[0].record),
                          12345);
        ck_assert(!search.ret_has_more);
        ck_assert_uint_lt(search.ret_blocks_read, 7);
        ck_assert_uint_eq(search.ret_blocks_read + search.ret_blocks_skipped, 20);
    }
    store_close(store);
}
END_TEST

START_TEST(a_budget_ends_a_search_and_the_next_one_goes_on_behind)
{
    struct store *store = store_of_blocks();
    struct store_log_search search = all_of();
    size_t n = 0, n_ends = 0;

    search.is_oldest_first = _i;
    search.budget_bytes = 100000;
    search.is_body_wanted = is_even;
    do {
        arena_reset(&page_arena, ARENA_BYTES);
        ck_assert_int_eq(store_logs_search(store, &search, &page_arena), 0);
        ck_assert_uint_lt(search.ret_bytes_read, 400000);
        n += search.ret_n;
        n_ends += search.ret_is_budget_reached;
        ck_assert(search.ret_has_more == search.ret_is_budget_reached);
        search.has_after = true;
        search.after = search.ret_place;
    } while (search.ret_has_more);
    ck_assert_uint_gt(n_ends, 5);
    search = all_of();
    search.is_body_wanted = is_even;
    ck_assert_int_eq(store_logs_search(store, &search, &page_arena), 0);
    ck_assert_uint_eq(n, search.ret_n);
    store_close(store);
}
END_TEST

/* Many blocks of the same hour, none of them with what is asked for: each is decoded once, a bit of
 * them by each call. Without that each page of a small budget decodes all that overlap. */
START_TEST(no_block_is_decoded_twice_however_many_overlap)
{
    struct store *store = open_store(0);
    struct store_log_seen *seen;
    struct store_log_search search = all_of();
    uint64_t n_bytes = 0, n_all;
    size_t n_calls = 0, n_paused = 0;

    ck_assert_int_eq(store_log_seen_new(store, &seen), 0);
    make_agents(store);
    for (size_t i = 0; i < 30; i++) {
        struct log_put put = { agents[i % AGENTS],
                               1,
                               i / AGENTS + 1,
                               0,
                               (uint32_t) i * 1000,
                               1000,
                               NOON_US + (int64_t) i * SECOND_US,
                               4 * SECOND_US };

        ck_assert_int_eq(put_logs(store, put, NULL), STORE_OK);
        ck_assert_int_eq(store_seal(store), 0);
    }
    search.is_body_wanted = is_none;
    search.is_oldest_first = _i;
    ck_assert_int_eq(store_logs_search(store, &search, &page_arena), 0);
    n_all = search.ret_bytes_read;
    search.budget_bytes = n_all / 10;
    search.seen = seen;
    do {
        ck_assert_int_eq(store_logs_search(store, &search, &page_arena), 0);
        ck_assert_uint_lt(search.ret_bytes_read, n_all / 5);
        n_bytes += search.ret_bytes_read;
        n_paused += search.ret_is_paused;
        search.has_after |= !search.ret_is_paused;
        if (!search.ret_is_paused)
            search.after = search.ret_place;
        ck_assert_uint_lt(n_calls++, 1000);
    } while (search.ret_has_more);
    ck_assert_uint_eq(n_bytes, n_all);
    ck_assert_uint_le(n_calls, 12);
    ck_assert_uint_lt(n_paused, n_calls);
    store_log_seen_free(seen);
    store_close(store);
}
END_TEST

START_TEST(more_searches_than_there_may_be_are_refused)
{
    struct store *store = open_store(0);
    struct store_log_seen *seen[STORE_LOG_SEARCHES], *more;

    for (size_t i = 0; i < STORE_LOG_SEARCHES; i++)
        ck_assert_int_eq(store_log_seen_new(store, &seen[i]), 0);
    ck_assert_int_eq(store_log_seen_new(store, &more), STORE_TOO_MUCH);
    store_log_seen_free(seen[0]);
    ck_assert_int_eq(store_log_seen_new(store, &seen[0]), 0);
    for (size_t i = 0; i < STORE_LOG_SEARCHES; i++)
        store_log_seen_free(seen[i]);
    store_close(store);
}
END_TEST

static bool after_some(void *ctx)
{
    int *n = ctx;

    return --*n < 0;
}

START_TEST(a_search_that_nobody_waits_for_ends)
{
    struct store *store = store_of_blocks();
    struct store_log_search search = all_of();
    int n = 3;

    search.is_unwanted = after_some;
    search.ctx = &n;
    ck_assert_int_eq(store_logs_search(store, &search, &page_arena), 0);
    ck_assert_uint_eq(search.ret_n, 0);
    ck_assert(search.ret_has_more);
    ck_assert_uint_le(search.ret_blocks_read, 3);
    store_close(store);
}
END_TEST

START_TEST(a_range_without_records_and_agents_that_there_are_not_give_nothing)
{
    struct store *store = store_of_blocks();
    struct store_log_search search = all_of();
    uint32_t nobody = 4711;

    search.to_us = search.from_us = NOON_US;
    ck_assert_int_eq(store_logs_search(store, &search, &page_arena), 0);
    ck_assert(search.ret_n == 0 && !search.ret_has_more);
    search.to_us = NOON_US + DAY_US;
    search.agents = &nobody;
    search.n_agents = 1;
    ck_assert_int_eq(store_logs_search(store, &search, &page_arena), 0);
    ck_assert(search.ret_n == 0 && !search.ret_has_more);
    store_close(store);
}
END_TEST

START_TEST(a_damaged_block_is_counted_and_the_others_are_found)
{
    struct store *store = store_of_blocks();
    struct store_log_search search = all_of();
    char path[64];
    time_t seconds = NOON_US / SECOND_US;
    struct tm tm;

    store_close(store);
    gmtime_r(&seconds, &tm);
    strftime(path, sizeof(path), "default/logs/%Y%m%d", &tm);
    spoil_value(path, "blocks", 4, (size_t) 2000 + 32); /* in its bodies */
    spoil_value(path, "blocks", 9, 40);                 /* in its head */
    store = open_store(0);
    make_agents(store);
    search.max_entries = STORE_LOG_ENTRIES_MAX;
    search.from_us = NOON_US;
    search.to_us = NOON_US + 100 * SECOND_US;
    ck_assert_int_eq(store_logs_search(store, &search, &page_arena), 0);
    ck_assert_uint_eq(search.ret_n, 8000);
    ck_assert_uint_eq(search.ret_damaged, 2);
    store_close(store);
}
END_TEST

static wall_us at_noon(void)
{
    return (wall_us){ NOON_US };
}

/* Where the blocks of the only value of the first agent end in it. */
static void find_ends(struct store *store, size_t *ends, size_t n)
{
    struct find_blocks find = { agents[0], INT64_MIN, INT64_MAX, UINT64_MAX };
    struct logblock_room *room = logblock_room_new();
    struct buf found = { 0 };
    const struct found_block *only;
    struct logblock block;
    struct day *day;
    MDB_txn *txn;
    uint64_t n_damaged = 0;
    struct span left;

    ck_assert_int_eq(days_use(&store->logs, day_of(NOON_US), &day), 0);
    ck_assert_int_eq(mdb_txn_begin(day->env, NULL, MDB_RDONLY, &txn), 0);
    ck_assert_int_eq(found_blocks(day, txn, &find, &found, &n_damaged), 0);
    ck_assert_uint_eq(found.len, sizeof(*only));
    only = (const void *) found.data;
    left = only->bytes;
    for (size_t i = 0; i < n; i++) {
        ck_assert_int_eq(logblock_next(&left, room, &block), LOGBLOCK_OK);
        ends[i] = sizeof(struct day_prefix) + only->bytes.len - left.len;
    }
    ck_assert_uint_eq(left.len, 0);
    mdb_txn_abort(txn);
    days_release(&store->logs, day);
    buf_deinit(&found);
    logblock_room_free(room);
}

/* Of three, one behind the other: the bodies of the second one, or its head, which says where the
 * third one begins. */
START_TEST(what_stands_before_and_behind_damage_in_a_block_is_found)
{
    struct store *store;
    struct store_log_search search = all_of();
    char path[64];
    time_t seconds = NOON_US / SECOND_US;
    struct tm tm;
    size_t ends[3], n_found = 0;
    uint64_t n_damaged = 0;

    clock_set_source(at_noon, NULL); /* nothing is over yet, and compacted */
    store = open_store(0);
    make_agents(store);
    for (uint32_t i = 0; i < 3; i++)
        ck_assert_int_eq(put_logs(store,
                                  (struct log_put){ agents[0], 1, i + 1, 0, i * 100, 100,
                                                    NOON_US + i * SECOND_US, 1, 500 },
                                  NULL),
                         STORE_OK);
    ck_assert_int_eq(store_seal(store), 0);
    find_ends(store, ends, 3);
    store_close(store);
    gmtime_r(&seconds, &tm);
    strftime(path, sizeof(path), "default/logs/%Y%m%d", &tm);
    spoil_value(path, "blocks", 0, _i ? ends[0] + 40 : ends[1] - 20);
    store = open_store(0);
    make_agents(store);
    search.is_oldest_first = _i;
    search.max_entries = 30;
    do {
        ck_assert_int_eq(store_logs_search(store, &search, &page_arena), 0);
        n_found += search.ret_n;
        n_damaged += search.ret_damaged;
        search.has_after = true;
        search.after = search.ret_place;
    } while (search.ret_has_more);
    ck_assert_uint_eq(n_found, _i ? 100 : 200);
    ck_assert_uint_gt(n_damaged, 0);
    store_close(store);
}
END_TEST

/* ---- a compaction that was under way ---- */

/* As a compaction does it: the block that has the most seals gets another key. */
static void replace_last_block(struct store *store)
{
    struct find_blocks find = { agents[0], INT64_MIN, INT64_MAX, UINT64_MAX };
    struct buf found = { 0 };
    const struct found_block *last;
    struct day *day;
    MDB_txn *txn;
    uint8_t name[DAY_KEY_BYTES];
    MDB_val key = db_val(name, sizeof(name));
    struct day_key moved;
    struct day_prefix prefix;
    uint64_t n_damaged = 0;
    uint8_t *copy;
    size_t len;

    ck_assert_int_eq(days_use(&store->logs, day_of(NOON_US), &day), 0);
    ck_assert_int_eq(mdb_txn_begin(day->env, NULL, 0, &txn), 0);
    ck_assert_int_eq(found_blocks(day, txn, &find, &found, &n_damaged), 0);
    last = (const struct found_block *) (const void *) found.data +
           found.len / sizeof(struct found_block) - 1;
    moved = last->key;
    prefix = last->prefix;
    len = last->bytes.len;
    copy = malloc(len);
    ck_assert_ptr_nonnull(copy);
    memcpy(copy, last->bytes.data, len);
    day_key_put(name, &moved);
    ck_assert_int_eq(mdb_del(txn, day->blocks, &key, NULL), 0);
    moved.part++;
    ck_assert_int_eq(seal_put_block(day, txn, &moved, &prefix, span_of(copy, len)), 0);
    ck_assert_int_eq(mdb_txn_commit(txn), 0);
    days_release(&store->logs, day);
    buf_deinit(&found);
    free(copy);
}

struct replacing {
    struct store *store;
    int n_asked, n_blocks;
};

/* When it has listed what there is, and before it reads. */
static bool replace_at_first(void *ctx)
{
    struct replacing *replacing = ctx;

    if (++replacing->n_asked == 1)
        replace_last_block(replacing->store);
    return false;
}

static bool count_blocks(void *ctx, const struct logblock_source *source)
{
    struct replacing *replacing = ctx;

    (void) source;
    replacing->n_blocks++;
    return true;
}

START_TEST(a_compaction_that_was_under_way_when_a_search_began_doubles_and_loses_nothing)
{
    struct store *store = store_of_blocks();

    for (int is_whole = 0; is_whole < 2; is_whole++) {
        struct replacing replacing = { .store = store };
        struct store_log_search search = all_of();

        search.is_unwanted = replace_at_first;
        search.is_source_wanted = count_blocks;
        search.ctx = &replacing;
        search.from_us = NOON_US + 150 * SECOND_US;
        /* A page that ends before the block that is gone does not miss it. */
        search.max_entries = is_whole ? 5000 : 3500;
        ck_assert_int_eq(store_logs_search(store, &search, &page_arena), 0);
        ck_assert_uint_eq(search.ret_n, search.max_entries);
        for (size_t i = 0; i < search.ret_n; i++)
            ck_assert_uint_eq(
                check_line(&search.ret_entries[i].source, &search.ret_entries[i].record),
                15000 + i);
        /* Four blocks, then all five anew. */
        ck_assert_int_eq(replacing.n_blocks, is_whole ? 4 + 5 : 4);
        ck_assert_uint_eq(search.ret_damaged, 0);
    }
    store_close(store);
}
END_TEST

/* ---- beside ---- */

struct beside {
    struct store *store;
    _Atomic uint32_t n_committed;
    atomic_bool is_over;
    _Atomic uint64_t n_reads;
};

static void *search_beside(void *arg)
{
    struct beside *beside = arg;
    struct arena arena;

    arena_init(&arena, ARENA_BYTES);
    while (!atomic_load(&beside->is_over)) {
        uint32_t n_before = atomic_load(&beside->n_committed), n = 0;
        struct store_log_search search = all_of();

        search.max_entries = 333;
        do {
            arena_reset(&arena, ARENA_BYTES);
            ck_assert_int_eq(store_logs_search(beside->store, &search, &arena), 0);
            ck_assert_uint_eq(search.ret_damaged, 0);
            for (size_t i = 0; i < search.ret_n; i++)
                ck_assert_uint_eq(
                    check_line(&search.ret_entries[i].source, &search.ret_entries[i].record), n++);
            search.has_after = true;
            search.after = search.ret_place;
        } while (search.ret_has_more);
        ck_assert_uint_ge(n, n_before);
        atomic_fetch_add(&beside->n_reads, 1);
    }
    arena_deinit(&arena);
    return NULL;
}

START_TEST(searches_beside_seals_and_compactions_see_each_record_once)
{
    struct store *store = open_store(64 << 10);
    struct beside beside = { .store = store };
    pthread_t thread;

    make_agents(store);
    ck_assert_int_eq(pthread_create(&thread, NULL, search_beside, &beside), 0);
    for (uint32_t i = 0; i < 200 || (atomic_load(&beside.n_reads) < 50 && i < 3000); i++) {
        put_lines(store, 0, 20, NOON_US + (int64_t) i * SECOND_US, 1);
        atomic_store(&beside.n_committed, (i + 1) * 20);
        if (i % 3 == 0)
            ck_assert_int_eq(store_seal(store), 0);
        if (i % 20 == 10)
            ck_assert_int_eq(store_compact(store), 0);
    }
    atomic_store(&beside.is_over, true);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    store_close(store);
}
END_TEST

TCase *case_logs_search(void)
{
    TCase *tcase = tcase_create("logs_search");

    tcase_set_timeout(tcase, 300);
    tcase_add_checked_fixture(tcase, start, stop);
    tcase_add_loop_test(tcase, any_search_gives_what_there_is_in_order_page_by_page, 0, 4);
    tcase_add_test(tcase,
                   a_page_of_a_frequent_word_reads_few_blocks_and_of_a_rare_one_only_filters);
    tcase_add_loop_test(tcase, a_budget_ends_a_search_and_the_next_one_goes_on_behind, 0, 2);
    tcase_add_loop_test(tcase, no_block_is_decoded_twice_however_many_overlap, 0, 2);
    tcase_add_test(tcase, more_searches_than_there_may_be_are_refused);
    tcase_add_test(tcase, a_search_that_nobody_waits_for_ends);
    tcase_add_test(tcase, a_range_without_records_and_agents_that_there_are_not_give_nothing);
    tcase_add_test(tcase, a_damaged_block_is_counted_and_the_others_are_found);
    tcase_add_loop_test(tcase, what_stands_before_and_behind_damage_in_a_block_is_found, 0, 2);
    tcase_add_test(tcase,
                   a_compaction_that_was_under_way_when_a_search_began_doubles_and_loses_nothing);
    tcase_add_test(tcase, searches_beside_seals_and_compactions_see_each_record_once);
    return tcase;
}
