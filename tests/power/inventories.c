/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Inventories beside the batches. Revision n of an agent is one table, which follows from both, and
 * differs a little from the one before: it is packed against an older one.
 */

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/crypto/crypto.h"
#include "work.h"

#define ROWS 200u
#define CHECKED 20u /* revisions of an agent, the newest */

struct waiting {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool is_done;
    int r;
};

static void make_table(uint32_t agent, uint64_t revision, struct buf *to, uint8_t *ret_sha256)
{
    static const char *const columns[] = { "name", "version" };

    store_content_put_columns(to, columns, 2);
    for (uint32_t i = 0; i < ROWS; i++) {
        char text[64];

        snprintf(text, sizeof(text), "package-%04u", i);
        store_content_put_value(to, text);
        snprintf(text, sizeof(text), "%x-%u-%llu", i * 2654435761u, agent,
                 i == revision % ROWS ? (unsigned long long) revision : 0);
        store_content_put_value(to, text);
    }
    if (buf_failed(to))
        work_fail("no memory");
    crypto_sha256(buf_span(to), ret_sha256);
}

static void on_done(struct store_inventory_put *put, int r)
{
    struct waiting *waiting = put->ctx;

    pthread_mutex_lock(&waiting->lock);
    waiting->is_done = true;
    waiting->r = r;
    pthread_cond_signal(&waiting->cond);
    pthread_mutex_unlock(&waiting->lock);
}

static void upload(struct work *work, uint32_t agent, uint64_t revision)
{
    struct waiting waiting = { .lock = PTHREAD_MUTEX_INITIALIZER,
                               .cond = PTHREAD_COND_INITIALIZER };
    struct store_inventory_put *put = NULL;

    work_need("begin an inventory", store_inventory_put_new(&put, 1));
    strcpy(put->tables[0].name, "packages");
    make_table(agent, revision, &put->tables[0].canonical, put->tables[0].sha256);
    put->agent = work->agents[agent];
    put->received = clock_wall();
    put->time_us = put->received.us;
    put->done = on_done;
    put->ctx = &waiting;
    work_need("look at an inventory", store_inventory_prepare(work->store, put));
    work_need("give an inventory", store_inventory_submit(work->store, put));
    pthread_mutex_lock(&waiting.lock);
    while (!waiting.is_done)
        pthread_cond_wait(&waiting.cond, &waiting.lock);
    pthread_mutex_unlock(&waiting.lock);
    work_need("write an inventory", waiting.r);
    if (put->revision != revision)
        work_fail("agent %u: revision %llu became %llu", agent, (unsigned long long) revision,
                  (unsigned long long) put->revision);
    store_inventory_put_free(put);
}

static uint64_t newest_of(struct work *work, uint32_t agent)
{
    struct store_inventory told = { 0 };
    struct arena arena;
    int r;

    arena_init(&arena, 1 << 20);
    r = store_inventory_get(work->store, work->agents[agent], INT64_MAX, &arena, &told);
    arena_deinit(&arena);
    if (r != STORE_NOT_FOUND)
        work_need("look at inventories", r);
    return told.revision;
}

void work_inventory_round(struct work *work, unsigned round)
{
    uint32_t agent = round % WORK_AGENTS;
    uint64_t revision = newest_of(work, agent) + 1;

    upload(work, agent, revision);
    work_tell(work, "V %u %llu\n", agent, (unsigned long long) revision);
}

static bool add_row(void *ctx, uint64_t row, const struct span *values)
{
    (void) row;
    for (size_t i = 0; i < 2; i++) {
        uint32_t len = (uint32_t) values[i].len;

        buf_append(ctx, &len, sizeof(len));
        buf_append_span(ctx, values[i]);
    }
    return true;
}

static void check_revision(struct work *work, uint32_t agent, uint64_t revision)
{
    CLEANUP(store_contents_freep) struct store_contents *contents = NULL;
    CLEANUP(buf_deinit) struct buf wanted = { 0 };
    CLEANUP(buf_deinit) struct buf got = { 0 };
    uint8_t sha256[STORE_SHA256_BYTES];
    struct store_inventory told;
    struct store_content content;
    struct arena arena;
    int r;

    make_table(agent, revision, &wanted, sha256);
    arena_init(&arena, 1 << 20);
    r = store_inventory_revision(work->store, work->agents[agent], revision, &arena, &told);
    if (r || told.n_tables != 1 || memcmp(told.tables[0].sha256, sha256, sizeof(sha256)) != 0)
        work_fail("agent %u: revision %llu is not what it was (%d)", agent,
                  (unsigned long long) revision, r);
    arena_deinit(&arena);
    work_need("read inventories", store_contents_new(&contents, work->store));
    r = store_contents_open(contents, sha256, &content);
    if (!r) {
        static const char *const columns[] = { "name", "version" };

        store_content_put_columns(&got, columns, 2);
        r = store_contents_rows(contents, (struct span){ 0 }, 0, add_row, &got);
    }
    if (r || !span_equal(buf_span(&got), buf_span(&wanted)))
        work_fail("agent %u: the table of revision %llu is not what it was (%d)", agent,
                  (unsigned long long) revision, r);
}

void work_check_inventories(struct work *work, const struct work_told *told)
{
    for (uint32_t agent = 0; agent < WORK_AGENTS; agent++) {
        uint64_t newest = newest_of(work, agent);

        if (newest < told->revisions[agent])
            work_fail("agent %u: revision %llu was acknowledged, %llu is there", agent,
                      (unsigned long long) told->revisions[agent], (unsigned long long) newest);
        for (uint64_t i = newest > CHECKED ? newest - CHECKED + 1 : 1; i <= newest; i++)
            check_revision(work, agent, i);
        upload(work, agent, newest + 1);
        check_revision(work, agent, newest + 1);
    }
}
