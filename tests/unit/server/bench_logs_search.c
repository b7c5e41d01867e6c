/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What searching logs costs in a store of some size: not a test, not built by default.
 *
 *   ninja -C .build/plain tests/unit/bench_logs_search && .build/plain/tests/unit/bench_logs_search
 *
 * LOGS_MEGABYTES (1,000) of lines of five styles, of eight agents, in sealed blocks.
 */

#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/base/file.h"
#include "lines.h"
#include "server/store/whole.h"
#include "suite.h"

#define AGENTS 8u
#define BATCH_LINES 4000u
#define ARENA_BYTES ((size_t) 64 << 20)
#define START_US (INT64_C(1790000000) / 86400 * DAY_US + DAY_US / 4)

static uint32_t agents[AGENTS];
static uint64_t sequences[AGENTS], n_bytes, n_lines;

static char directory[] = "/tmp/logs-search-XXXXXX";
static sem_t stored;

static void on_stored(struct store_batch *batch, int r, uint64_t run_last)
{
    (void) run_last;
    ck_assert_int_eq(r, STORE_OK);
    store_batch_free(batch);
    sem_post(&stored);
}

static int64_t cpu_us(void)
{
    struct timespec at;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &at);
    return (int64_t) at.tv_sec * 1000000 + at.tv_nsec / 1000;
}

static void put_some(struct store *store, struct lines *lines, size_t a, enum lines_style style)
{
    static struct lines_line line;
    static struct logblock_record records[BATCH_LINES];
    static char texts[BATCH_LINES * 1024];
    struct logblock_source source = { span_of_text("file"), span_of_text(lines_style_name(style)),
                                      NULL, 0 };
    CLEANUP(store_packer_freep) struct store_packer *packer = NULL;
    struct store_batch *batch;
    size_t at = 0;

    ck_assert_int_eq(store_packer_new(&packer), 0);
    for (size_t i = 0; i < BATCH_LINES; i++) {
        lines_next(lines, &line);
        memcpy(texts + at, line.text, line.len);
        records[i] = (struct logblock_record){ .time_us = line.time_us,
                                               .observed_us = line.time_us,
                                               .severity = line.severity,
                                               .source_offset = at,
                                               .body = span_of(texts + at, line.len) };
        at += line.len;
    }
    ck_assert_int_eq(store_batch_new_logs(packer, &source, records, BATCH_LINES, NULL, &batch), 0);
    batch->agent = agents[a];
    batch->signal = STORE_LOGS;
    batch->spool[0] = 1;
    batch->sequence = ++sequences[a];
    batch->done = on_stored;
    ck_assert_int_eq(store_submit(store, batch), 0);
    ck_assert_int_eq(sem_wait(&stored), 0);
    n_bytes += at;
    n_lines += BATCH_LINES;
}

static void fill(struct store *store, uint64_t goal)
{
    static struct lines lines[AGENTS][LINES_STYLES];

    for (size_t a = 0; a < AGENTS; a++)
        for (int style = 0; style < LINES_STYLES; style++)
            lines_init(&lines[a][style], (enum lines_style) style, a + 1, START_US);
    for (size_t i = 0; n_bytes < goal; i++) {
        size_t a = i % AGENTS, style = i / AGENTS % LINES_STYLES;

        put_some(store, &lines[a][style], a, (enum lines_style) style);
    }
    ck_assert_int_eq(store_seal(store), 0);
}

static void ask(struct store *store, const char *text, bool is_word, bool is_oldest_first)
{
    CLEANUP(logblock_terms_freep) struct logblock_terms *terms = NULL;
    struct logblock_term term = { span_of_text(text), is_word };
    struct store_log_search search = { .agents = agents,
                                       .n_agents = AGENTS,
                                       .from_us = INT64_MIN,
                                       .to_us = INT64_MAX,
                                       .is_oldest_first = is_oldest_first,
                                       .max_entries = 100,
                                       .max_entry_bytes = 4u << 20 };
    int64_t started_us = clock_mono().us, cpu_started_us = cpu_us();
    struct arena arena;

    arena_init(&arena, ARENA_BYTES);
    ck_assert_int_eq(logblock_terms_new(&terms, &term, 1), 0);
    search.terms = terms;
    ck_assert_int_eq(store_logs_search(store, &search, &arena), 0);
    printf("%-28s %s %s: %7.1f ms, CPU %7.1f ms, %3zu entries, %4llu blocks read, %4llu skipped, "
           "%5.1f MB decoded\n",
           text, is_word ? "word" : "text", is_oldest_first ? "oldest" : "newest",
           (double) (clock_mono().us - started_us) / 1000,
           (double) (cpu_us() - cpu_started_us) / 1000, search.ret_n,
           (unsigned long long) search.ret_blocks_read,
           (unsigned long long) search.ret_blocks_skipped, (double) search.ret_bytes_read / 1e6);
    arena_deinit(&arena);
}

static struct store *open_new_store(void)
{
    struct store_options options = { .directory = directory,
                                     .segment_bytes = 256u << 20,
                                     .queue_bytes = 64u << 20,
                                     .full_percent = 100,
                                     .allow_any_filesystem = true };
    struct store *store = NULL;
    struct store_why why;

    ck_assert_int_eq(sem_init(&stored, 0, 0), 0);
    ck_assert_ptr_nonnull(mkdtemp(directory));
    ck_assert_int_eq(store_create(directory), 0);
    ck_assert_int_eq(store_open(&store, &options, &why), 0);
    return store;
}

START_TEST(what_searching_costs)
{
    const char *megabytes = getenv("LOGS_MEGABYTES");
    struct store *store = open_new_store();
    static const struct {
        const char *text;
        bool is_word;
    } asked[] = {
        { "gateway", true },         { "GET", true },
        { "error", false },          { "nowhere_at_all", true },
        { "nowhere at all", true },  { "203.0.113.77", true },
        { "nowhere_at_all", false },
    };

    for (size_t a = 0; a < AGENTS; a++) {
        char id[16];

        snprintf(id, sizeof(id), "web-%zu", a);
        ck_assert_int_eq(store_agent_intern(store, id, &agents[a]), 0);
    }
    fill(store, (megabytes ? strtoull(megabytes, NULL, 10) : 1000) * 1000000);
    for (int is_compact = 0; is_compact < 2; is_compact++) {
        if (is_compact)
            ck_assert_int_eq(store_compact(store), 0);
        printf("%s: %llu lines, %.0f MB of bodies, %.1f MB of blocks' files\n",
               is_compact ? "compacted" : "sealed", (unsigned long long) n_lines,
               (double) n_bytes / 1e6, (double) days_file_bytes(&store->logs) / 1e6);
        for (size_t i = 0; i < 2 * sizeof(asked) / sizeof(*asked); i++)
            ask(store, asked[i / 2].text, asked[i / 2].is_word, i % 2);
    }
    store_close(store);
    ck_assert_int_eq(file_remove_tree(directory), 0);
}
END_TEST

Suite *suite(void)
{
    Suite *s = suite_create("bench");
    TCase *tcase = tcase_create("logs_search");

    tcase_set_timeout(tcase, 3600);
    tcase_add_test(tcase, what_searching_costs);
    suite_add_tcase(s, tcase);
    return s;
}
