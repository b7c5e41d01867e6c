/* SPDX-License-Identifier: Apache-2.0 */
#include "test_query_rig.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/file.h"

static char dir[64];
static uint64_t next_run;
struct store *store;
struct query query;
struct arena arena;
struct query_problem problem;
const struct query_selector everyone;

static void note_done(struct store_batch *batch, int r, uint64_t run_last)
{
    (void) run_last;
    atomic_store((atomic_int *) batch->ctx, r ? -1 : 1);
    store_batch_free(batch);
}

static void intern_done(struct store_intern *request, int r)
{
    (void) r;
    free(request);
}

/* Definitions are known at once after the first store_intern(): ask until then. */
static void intern(struct store_intern *request)
{
    for (;;) {
        struct store_intern *copy = malloc(sizeof(*copy));

        *copy = *request;
        copy->done = intern_done;
        if (store_intern(store, copy) == 0) {
            request->ret_layout = copy->ret_layout;
            free(copy);
            return;
        }
        usleep(1000); /* the copy is the store's, and intern_done()'s */
    }
}

uint32_t layout_of_all(const struct store_definition *definitions, size_t n)
{
    /* What a request points to must outlive its last copy. */
    uint32_t *ids = arena_alloc_array(&arena, n, sizeof(*ids));
    struct store_definition *copy = arena_alloc_array(&arena, n, sizeof(*copy));
    struct store_intern request = { .is_layout = true, .layout = ids, .n_layout = n };

    ck_assert(ids && copy);
    memcpy(copy, definitions, n * sizeof(*copy));
    for (size_t i = 0; i < n; i++)
        intern(&(struct store_intern){
            .definitions = &copy[i], .n_definitions = 1, .ret_ids = &ids[i] });
    intern(&request);
    return request.ret_layout;
}

uint32_t layout_of(const char *metric, const char *part)
{
    struct store_attribute *attribute = arena_alloc(&arena, sizeof(*attribute));

    ck_assert_ptr_nonnull(attribute);
    *attribute = (struct store_attribute){ "part", part };
    return layout_of_all(&(struct store_definition){ .name = metric,
                                                     .unit = "1",
                                                     .kind = STORE_GAUGE,
                                                     .attributes = attribute,
                                                     .n_attributes = 1 },
                         1);
}

uint32_t agent_of(const char *id)
{
    uint32_t number;

    ck_assert_int_eq(store_agent_intern(store, id, &number), 0);
    return number;
}

void add_rows(const char *agent, const struct store_row *rows, size_t n_rows)
{
    struct store_batch *batch;
    atomic_int is_done = 0;
    size_t n_bytes = 0;

    for (size_t i = 0; i < n_rows; i++)
        n_bytes += store_row_bytes(rows[i].n_values, rows[i].n_absent);
    ck_assert_int_eq(store_batch_new(&batch, n_bytes), 0);
    batch->agent = agent_of(agent);
    batch->signal = STORE_METRICS;
    next_run++; /* a run of its own for each batch */
    memcpy(batch->spool, &next_run, sizeof(next_run));
    batch->sequence = 1;
    batch->received = clock_wall();
    batch->done = note_done;
    batch->ctx = &is_done;
    for (size_t i = 0; i < n_rows; i++)
        store_batch_add(batch, &rows[i], NULL);
    ck_assert_int_eq(store_submit(store, batch), 0);
    while (!atomic_load(&is_done))
        usleep(100);
    ck_assert_int_eq(is_done, 1);
}

void add(const char *agent, uint32_t layout, int64_t time_us, double value)
{
    add_rows(agent,
             &(struct store_row){
                 .time_us = time_us, .layout = layout, .n_values = 1, .values = &value },
             1);
}

void label(const char *agent, const char *key, const char *value)
{
    const struct query_selector selector = { .ids = &agent, .n_ids = 1 };
    const struct store_attribute set = { key, value };
    struct query_labels labels = { .selector = &selector, .set = &set, .n_set = 1 };

    ck_assert_msg(query_set_labels(&query, &labels, &arena, &problem) == 0, "%s",
                  problem.description);
}

static void open_store_there(void)
{
    struct store_options options = { .directory = dir,
                                     .segment_bytes = 64 << 20,
                                     .queue_bytes = 64 << 20,
                                     .full_percent = 100,
                                     .allow_any_filesystem = true };
    struct store_why why;

    ck_assert_msg(store_open(&store, &options, &why) == 0, "%s", why.text);
    query.store = store;
}

void open_empty_store(void)
{
    strcpy(dir, "/tmp/query.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    ck_assert_int_eq(store_create(dir), 0);
    query = (struct query){
        .max_samples = 1000, .max_points = 1000, .max_series = 100, .token_key = "key"
    };
    open_store_there();
    arena_init(&arena, 64 << 20);
    next_run = 0;
}

void reopen_store(void (*meanwhile)(const char *directory))
{
    store_stop(store);
    store = store_close(store);
    meanwhile(dir);
    open_store_there();
}

void close_store(void)
{
    store_stop(store);
    store = store_close(store);
    arena_deinit(&arena);
    ck_assert_int_eq(file_remove_tree(dir), 0);
}
