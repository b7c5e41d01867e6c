/* SPDX-License-Identifier: Apache-2.0 */

/* The registry's rows and other small things in `state`. */

#include <errno.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/list.h"
#include "server/store/whole.h"

static enum state_table table_of(enum store_table table)
{
    ensure(table >= STORE_TABLE_META && table <= STORE_TABLE_LABELS);
    return (enum state_table) table;
}

struct write_job {
    struct state_job job;
    struct state *state;
    const struct store_write *writes;
    size_t n;
};

static int write_apply(struct state_job *base, MDB_txn *txn)
{
    const struct write_job *job = container_of(base, struct write_job, job);
    int r = 0;

    for (size_t i = 0; i < job->n && !r; i++) {
        const struct store_write *write = &job->writes[i];
        enum state_table table = table_of(write->table);

        if (write->value.data) {
            r = state_put(job->state, txn, table, write->key, write->value);
        } else {
            MDB_val key = db_val_of(write->key);

            r = db_check(mdb_del(txn, job->state->tables[table], &key, NULL),
                         "cannot delete in the state");
            if (r == STORE_NOT_FOUND)
                r = 0;
        }
    }
    return pass(r);
}

int store_state_write(struct store *store, const struct store_write *writes, size_t n)
{
    struct write_job job = {
        .job = { .apply = write_apply },
        .state = &store->state,
        .writes = writes,
        .n = n,
    };

    for (size_t i = 0; i < n; i++) {
        /* Before the transaction: a fault within it would stop the store. */
        if (writes[i].key.len == 0 || writes[i].key.len > STORE_KEY_BYTES)
            return fault(-EINVAL, "a key of %zu bytes; it has 1 to %d", writes[i].key.len,
                         STORE_KEY_BYTES);
    }
    if (n == 0)
        return 0;
    return pass(state_run(&store->state, &job.job));
}

struct get {
    struct span key;
    struct arena *arena;
    struct span value;
    bool is_found, is_copied;
};

static bool get_row(void *ctx, struct span key, struct span value)
{
    struct get *get = ctx;

    if (span_equal(key, get->key)) {
        char *copy = arena_copy(get->arena, value);

        get->is_found = true;
        get->is_copied = copy != NULL;
        get->value = span_of(copy, value.len);
    }
    return false; /* the first row at or behind the key */
}

int store_state_get(struct store *store,
                    enum store_table table,
                    struct span key,
                    struct arena *arena,
                    struct span *ret)
{
    struct get get = { .key = key, .arena = arena };
    int r = state_each(&store->state, table_of(table), key, get_row, &get);

    if (r)
        return pass(r);
    if (!get.is_found)
        return STORE_NOT_FOUND;
    if (!get.is_copied)
        return fault(-ENOMEM, "no room for a row of %zu bytes", get.value.len);
    *ret = get.value;
    return 0;
}

int store_state_each(struct store *store,
                     enum store_table table,
                     bool (*fn)(void *ctx, struct span key, struct span value),
                     void *ctx)
{
    return pass(state_each(&store->state, table_of(table), (struct span){ 0 }, fn, ctx));
}

/*
 * The number of the snapshot that a reader gets now. Not mdb_env_info()'s: that is read from the
 * meta page, which shows a commit of another process some milliseconds (its sync) before readers
 * see it; who remembers such a number as read would miss the change.
 */
uint64_t store_state_version(struct store *store)
{
    uint64_t version = UINT64_MAX; /* no snapshot to be had: look again */
    MDB_txn *txn;

    if (mdb_txn_begin(store->state.env, NULL, MDB_RDONLY, &txn) == 0) {
        version = mdb_txn_id(txn);
        mdb_txn_abort(txn);
    }
    return version;
}
