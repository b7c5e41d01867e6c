/* SPDX-License-Identifier: Apache-2.0 */

/* What must be there after a cut. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "work.h"

struct look {
    struct work *work;
    uint32_t agent, layout; /* ours */
    uint64_t last;          /* of the run */
    uint8_t (*seen)[WORK_ROWS];
};

static bool on_piece(void *ctx, const struct store_piece *piece)
{
    struct look *look = ctx;
    uint32_t n_columns = work_n_columns(look->layout);

    for (size_t at = piece->first; at < piece->end; at++) {
        int64_t second = piece->times_us[at] % WORK_DAY_US / 1000000;
        uint64_t sequence = (uint64_t) second / WORK_ROWS;
        uint32_t row = (uint32_t) ((uint64_t) second % WORK_ROWS);

        if (sequence == 0 || sequence > look->last || row >= work_n_rows(look->agent, sequence) ||
            work_time(look->work, sequence, row) != piece->times_us[at] ||
            work_layout(sequence) != look->layout)
            work_fail("agent %u has a row that was never sent: %lld", look->agent,
                      (long long) piece->times_us[at]);
        if (look->seen[sequence][row]++)
            work_fail("agent %u has row %u of batch %llu twice", look->agent, row,
                      (unsigned long long) sequence);
        for (uint32_t c = 0; c < n_columns; c++) {
            uint64_t want = 0, got;
            bool has = work_value(look->agent, sequence, row, c, &want);

            memcpy(&got, &piece->values[c][at], sizeof(got));
            if (store_piece_has(piece, c, at) != has || (has && got != want))
                work_fail("agent %u, batch %llu, row %u, column %u: another value", look->agent,
                          (unsigned long long) sequence, row, c);
        }
    }
    return true;
}

static void scan(struct look *look)
{
    uint32_t columns[WORK_COLUMNS];
    struct store_scan scan = { .agent = look->work->agents[look->agent],
                               .from_us = 0,
                               .to_us = INT64_MAX,
                               .columns = columns,
                               .on_piece = on_piece,
                               .ctx = look };

    for (uint32_t i = 0; i < WORK_COLUMNS; i++)
        columns[i] = i;
    for (look->layout = 0; look->layout < WORK_LAYOUTS; look->layout++) {
        scan.layout = look->work->layouts[look->layout];
        scan.n_columns = work_n_columns(look->layout);
        if (store_scan(look->work->store, &scan) || scan.ret_damaged)
            work_fail("agent %u cannot be read; %llu rows are damaged", look->agent,
                      (unsigned long long) scan.ret_damaged);
    }
}

/* All rows of a batch, or, where the retention has been at work, none. Returns how many. */
static uint32_t
look_at_batch(const struct look *look, const struct work_told *told, uint64_t sequence)
{
    int32_t day = work_day(look->work, sequence);
    uint32_t n = 0, want = work_n_rows(look->agent, sequence);

    for (uint32_t row = 0; row < want; row++)
        n += look->seen[sequence][row];
    if (n && day < told->gone)
        work_fail("agent %u: batch %llu is back, though day %d went", look->agent,
                  (unsigned long long) sequence, day);
    if (n != want && !(n == 0 && day < told->may_go))
        work_fail("agent %u: batch %llu of day %d has %u rows of %u; days before %d may have gone",
                  look->agent, (unsigned long long) sequence, day, n, want, told->may_go);
    return n;
}

static void check_batches(const struct look *look, const struct work_told *told)
{
    uint64_t n_samples = 0, n_skipped = 0;
    uint32_t of_day[WORK_MAX / WORK_DAY_BATCHES + 3][2] = { 0 };
    struct store_agent facts;
    struct arena arena;

    for (uint64_t s = 1; s <= look->last; s++) {
        uint32_t n = look_at_batch(look, told, s), want = work_n_rows(look->agent, s);
        uint64_t bits;

        of_day[work_day(look->work, s) - look->work->base_day][0] += n;
        of_day[work_day(look->work, s) - look->work->base_day][1] += want;
        n_skipped += work_is_skip(s) ? s : 0;
        for (uint32_t row = 0; row < want; row++) {
            for (uint32_t c = 0; c < work_n_columns(work_layout(s)); c++)
                n_samples += work_value(look->agent, s, row, c, &bits);
        }
    }
    for (size_t i = 0; i < sizeof(of_day) / sizeof(of_day[0]); i++) {
        if (of_day[i][0] && of_day[i][0] != of_day[i][1])
            work_fail("agent %u: half of day %zu went", look->agent, i);
    }
    arena_init(&arena, 1 << 20);
    if (store_agent_get(look->work->store, look->work->agents[look->agent], &arena, &facts))
        work_fail("agent %u is not known", look->agent);
    if (facts.n_samples != n_samples || facts.n_skipped != n_skipped || facts.n_lost)
        work_fail("agent %u counts %llu samples and %llu skipped, not %llu and %llu", look->agent,
                  (unsigned long long) facts.n_samples, (unsigned long long) facts.n_skipped,
                  (unsigned long long) n_samples, (unsigned long long) n_skipped);
    arena_deinit(&arena);
}

static void check_agent(struct work *work, const struct work_told *told, uint32_t agent)
{
    struct look look = { .work = work, .agent = agent };
    uint8_t spool[STORE_SPOOL_BYTES];
    struct store_run run = { 0 };
    uint64_t acked = told->acked[agent];

    work_spool(agent, spool);
    if (store_run_get(work->store, work->agents[agent], STORE_METRICS, spool, &run))
        run.last_sequence = 0;
    look.last = run.last_sequence;
    if (look.last < acked || look.last > acked + WORK_WINDOW)
        work_fail("agent %u: %llu batches were acknowledged, the last is %llu", agent,
                  (unsigned long long) acked, (unsigned long long) look.last);
    if (look.last && run.last_crc32c != (uint32_t) look.last * 7)
        work_fail("agent %u: the checksum of the last batch is another", agent);
    look.seen = calloc(WORK_MAX, sizeof(*look.seen));
    if (!look.seen || look.last >= WORK_MAX)
        work_fail("no room for %llu batches", (unsigned long long) look.last);
    scan(&look);
    check_batches(&look, told);
    free(look.seen);
}

static void check_names(struct work *work, const struct work_told *told, uint32_t agent)
{
    uint32_t number;
    char id[32];

    snprintf(id, sizeof(id), "power-%u", agent);
    if (store_agent_find(work->store, id, &number) || number != told->agents[agent])
        work_fail("agent %u has another number", agent);
    for (uint32_t i = 0; i < WORK_LAYOUTS; i++) {
        const struct store_layout *layout = store_layout_get(work->store, told->layouts[i]);

        if (!layout || layout->n_columns != work_n_columns(i) ||
            work->layouts[i] != told->layouts[i])
            work_fail("layout %u is another", i);
    }
}

void work_check(struct work *work, const struct work_told *told)
{
    for (uint32_t agent = 0; agent < WORK_AGENTS; agent++) {
        if (told->is_interned[agent])
            check_names(work, told, agent);
        check_agent(work, told, agent);
    }
}
