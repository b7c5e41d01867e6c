/* SPDX-License-Identifier: Apache-2.0 */
#include "test_store_logs.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/file.h"
#include "server/store/state/state.h"
#include "suite.h"

char store_path[256];

void make_database(void)
{
    const char *tmp = getenv("TMPDIR");

    snprintf(store_path, sizeof(store_path), "%s/store-XXXXXX", tmp ? tmp : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(store_path));
    ck_assert_int_eq(store_create(store_path), 0);
}

void remove_database(void)
{
    ck_assert_int_eq(file_remove_tree(store_path), 0);
}

struct store_options store_settings(uint64_t segment_bytes)
{
    return (struct store_options){
        .directory = store_path,
        .segment_bytes = segment_bytes ? segment_bytes : 64u << 20,
        .queue_bytes = 64u << 20,
        .full_percent = 100,
        .allow_any_filesystem = true,
    };
}

struct store *open_store(uint64_t segment_bytes)
{
    struct store_options options = store_settings(segment_bytes);
    struct store_why why;
    struct store *store = NULL;

    ck_assert_int_eq(store_open(&store, &options, &why), 0);
    return store;
}

/* ---- waiting ---- */

struct waiter {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool is_done;
    int r;
    uint64_t last;
};

#define WAITER                                                              \
    {                                                                       \
        .lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER \
    }

static void wake(struct waiter *waiter, int r, uint64_t last)
{
    pthread_mutex_lock(&waiter->lock);
    waiter->is_done = true;
    waiter->r = r;
    waiter->last = last;
    pthread_cond_signal(&waiter->cond);
    pthread_mutex_unlock(&waiter->lock);
}

static int await(struct waiter *waiter)
{
    pthread_mutex_lock(&waiter->lock);
    while (!waiter->is_done)
        pthread_cond_wait(&waiter->cond, &waiter->lock);
    pthread_mutex_unlock(&waiter->lock);
    return waiter->r;
}

struct interning {
    struct store_intern request;
    struct waiter waiter;
};

static void on_interned(struct store_intern *request, int r)
{
    wake(&((struct interning *) (void *) request)->waiter, r, 0);
}

static void intern(struct store *store, struct interning *interning)
{
    int r;

    interning->request.done = on_interned;
    r = store_intern(store, &interning->request);
    if (r == STORE_QUEUED)
        r = await(&interning->waiter);
    ck_assert_int_eq(r, 0);
}

uint32_t intern_definition(struct store *store, const struct store_definition *definition)
{
    uint32_t id = 0;
    struct interning interning = {
        .request = { .definitions = definition, .n_definitions = 1, .ret_ids = &id },
        .waiter = WAITER,
    };

    intern(store, &interning);
    ck_assert_uint_gt(id, 0);
    return id;
}

uint32_t intern_metric(struct store *store, const char *name)
{
    struct store_definition definition = { .name = name, .unit = "1", .kind = STORE_GAUGE };

    return intern_definition(store, &definition);
}

uint32_t intern_layout(struct store *store, const uint32_t *definitions, size_t n)
{
    struct interning interning = {
        .request = { .is_layout = true, .layout = definitions, .n_layout = n },
        .waiter = WAITER,
    };

    intern(store, &interning);
    ck_assert_uint_gt(interning.request.ret_layout, 0);
    return interning.request.ret_layout;
}

uint32_t layout_of(struct store *store, uint32_t n_columns)
{
    struct store_definition *definitions = calloc(n_columns, sizeof(*definitions));
    char(*names)[16] = calloc(n_columns, sizeof(*names));
    uint32_t *ids = calloc(n_columns, sizeof(*ids)), layout;
    struct interning interning = {
        .request = { .definitions = definitions, .n_definitions = n_columns, .ret_ids = ids },
        .waiter = WAITER,
    };

    for (uint32_t i = 0; i < n_columns; i++) {
        snprintf(names[i], sizeof(names[i]), "m%05u", i);
        definitions[i] =
            (struct store_definition){ .name = names[i], .unit = "1", .kind = STORE_GAUGE };
    }
    intern(store, &interning);
    layout = intern_layout(store, ids, n_columns);
    free(definitions);
    free(names);
    free(ids);
    return layout;
}

uint32_t agent_of(struct store *store, const char *id)
{
    uint32_t number = 0;

    ck_assert_int_eq(store_agent_intern(store, id, &number), 0);
    return number;
}

static void on_put(struct store_batch *batch, int r, uint64_t run_last)
{
    wake(batch->ctx, r, run_last);
}

int put_batch(struct store *store, struct store_batch *batch, uint64_t *ret_last)
{
    struct waiter waiter = WAITER;
    int r;

    batch->ctx = &waiter;
    batch->done = on_put;
    r = store_submit(store, batch);
    if (r == 0)
        r = await(&waiter);
    if (ret_last)
        *ret_last = waiter.last;
    store_batch_free(batch);
    return r;
}

int put_rows(struct store *store, struct put put, uint64_t *ret_last)
{
    double *values = calloc(put.n_values + 1, sizeof(*values));
    struct store_batch *batch = NULL;

    ck_assert_int_eq(store_batch_new(&batch, put.n_rows * store_row_bytes(put.n_values, 0)), 0);
    batch->agent = put.agent;
    batch->signal = STORE_METRICS;
    batch->spool[0] = put.spool;
    batch->sequence = put.sequence;
    batch->crc32c = (uint32_t) put.sequence * 7;
    for (uint32_t i = 0; i < put.n_rows; i++) {
        struct store_row row = {
            .time_us = put.time_us + (int64_t) i * 1000000,
            .layout = put.layout,
            .n_values = put.n_values,
            .values = values,
        };

        for (uint32_t c = 0; c < put.n_values; c++)
            values[c] = i * 1000.0 + c;
        store_batch_add(batch, &row, NULL);
    }
    free(values);
    return put_batch(store, batch, ret_last);
}

int put_skip(struct store *store, struct put put, uint64_t records)
{
    struct store_batch *batch = NULL;

    ck_assert_int_eq(store_batch_new(&batch, 0), 0);
    batch->agent = put.agent;
    batch->signal = STORE_METRICS;
    batch->spool[0] = put.spool;
    batch->sequence = put.sequence;
    batch->is_skip = true;
    batch->skip_reason = 3;
    batch->skip_records = records;
    return put_batch(store, batch, NULL);
}

/* ---- damage ---- */

static void on_damage(void *ctx, const struct store_damage *damage)
{
    (void) ctx;
    if (!strstr(damage->path, ".damaged-"))
        ck_abort_msg("%s: %s: %s", damage->path, damage->key, damage->what);
}

void check_database(void)
{
    struct store_survey survey = { .directory = store_path,
                                   .is_deep = true,
                                   .on_damage = on_damage };
    struct store_why why;

    ck_assert_msg(store_survey(&survey, &why) == 0, "%s", why.text);
}

void spoil_value(const char *environment, const char *table, size_t n, size_t at)
{
    CLEANUP(buf_deinit) struct buf copy = { 0 }, name = { 0 };
    MDB_env *env = NULL;
    MDB_cursor *cursor;
    MDB_val key, value;
    MDB_txn *txn;
    MDB_dbi dbi;
    char path[512];

    snprintf(path, sizeof(path), "%s/%s", store_path, environment);
    ck_assert_int_eq(db_env_open(&env, path, UINT64_C(1) << 30, STATE_N_TABLES), 0);
    ck_assert_int_eq(mdb_txn_begin(env, NULL, 0, &txn), 0);
    ck_assert_int_eq(mdb_dbi_open(txn, table, 0, &dbi), 0);
    ck_assert_int_eq(mdb_cursor_open(txn, dbi, &cursor), 0);
    ck_assert_int_eq(mdb_cursor_get(cursor, &key, &value, MDB_FIRST), 0);
    while (n-- > 0)
        ck_assert_int_eq(mdb_cursor_get(cursor, &key, &value, MDB_NEXT), 0);
    buf_append(&name, key.mv_data, key.mv_size); /* what it is in may move */
    buf_append(&copy, value.mv_data, value.mv_size);
    ck_assert_uint_lt(at, copy.len);
    copy.data[at] ^= 0x10;
    key = db_val(name.data, name.len);
    value = db_val(copy.data, copy.len);
    ck_assert_int_eq(mdb_cursor_put(cursor, &key, &value, MDB_CURRENT), 0);
    mdb_cursor_close(cursor);
    ck_assert_int_eq(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
}

/* ---- reading ---- */

uint64_t bits_of(double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

static bool on_scanned(void *ctx, const struct store_piece *piece)
{
    struct scanned *scanned = ctx;

    for (size_t row = piece->first; row < piece->end; row++) {
        ck_assert_uint_lt(scanned->n, SCAN_MAX);
        if (scanned->n)
            ck_assert_int_ge(piece->times_us[row], scanned->rows[scanned->n - 1].time_us);
        scanned->rows[scanned->n].time_us = piece->times_us[row];
        scanned->rows[scanned->n].bits = bits_of(piece->values[0][row]);
        scanned->rows[scanned->n++].is_present = store_piece_has(piece, 0, row);
    }
    return true;
}

const struct scanned *
scan_column(struct store *store, uint32_t agent, uint32_t layout, uint32_t column)
{
    static struct scanned scanned;
    struct store_scan scan = {
        .agent = agent,
        .layout = layout,
        .from_us = INT64_MIN,
        .to_us = INT64_MAX,
        .columns = &column,
        .n_columns = 1,
        .on_piece = on_scanned,
        .ctx = &scanned,
    };

    scanned.n = 0;
    ck_assert_int_eq(store_scan(store, &scan), 0);
    ck_assert_uint_eq(scan.ret_rows, scanned.n);
    scanned.n_damaged = scan.ret_damaged;
    return &scanned;
}

/* What it points to is gone. */
struct store_agent facts_of(struct store *store, uint32_t agent)
{
    struct store_agent facts;
    struct arena arena;

    arena_init(&arena, 1 << 20);
    ck_assert_int_eq(store_agent_get(store, agent, &arena, &facts), 0);
    arena_deinit(&arena);
    return facts;
}

int in_child(void (*fn)(void *ctx), void *ctx)
{
    int status = 0;
    pid_t pid = fork();

    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        fn(ctx);
        _exit(0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    return status;
}

#if defined(__SANITIZE_THREAD__)
#define HAS_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define HAS_TSAN 1
#endif
#endif

#ifdef HAS_TSAN
/*
 * LMDB's readers publish and read transaction ids through plain volatile words in shared memory, by
 * design. Only the functions that do so are left out.
 */
const char *__tsan_default_suppressions(void);
__attribute__((visibility("default"))) const char *__tsan_default_suppressions(void)
{
    return "race:mdb_txn_end\nrace:mdb_txn_renew0\nrace:mdb_env_write_meta\nrace:mdb_env_pick_"
           "meta\n"
           "race:mdb_find_oldest\nrace:mdb_env_info\nrace:mdb_reader_check0\n";
}
#endif

Suite *suite(void)
{
    Suite *suite = suite_create("server/store");

    suite_add_tcase(suite, case_rows());
    suite_add_tcase(suite, case_runs());
    suite_add_tcase(suite, case_disk());
    suite_add_tcase(suite, case_catalog());
    suite_add_tcase(suite, case_state());
    suite_add_tcase(suite, case_seal());
    suite_add_tcase(suite, case_rollup());
    suite_add_tcase(suite, case_follow());
    suite_add_tcase(suite, case_verify());
    suite_add_tcase(suite, case_backup());
    suite_add_tcase(suite, case_hard());
    suite_add_tcase(suite, case_mend());
    suite_add_tcase(suite, case_lost());
    suite_add_tcase(suite, case_logs());
    suite_add_tcase(suite, case_logs_days());
    suite_add_tcase(suite, case_tail());
    suite_add_tcase(suite, case_logs_hard());
    suite_add_tcase(suite, case_logs_search());
    suite_add_tcase(suite, case_content());
    suite_add_tcase(suite, case_inventory());
    suite_add_tcase(suite, case_inventory_damage());
    suite_add_tcase(suite, case_erase());
    return suite;
}
