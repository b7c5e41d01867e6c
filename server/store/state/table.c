/* SPDX-License-Identifier: Apache-2.0 */

/* The registry's rows and other small things in `state`. */

#include <errno.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/list.h"
#include "server/store/whole.h"

static enum state_table table_of(enum store_table table)
{
    ensure(table >= STORE_TABLE_META && table < STORE_N_TABLES);
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

/* ---- what depends on what is there ---- */

struct store_change {
    struct state *state;
    MDB_txn *txn;
};

struct change_job {
    struct state_job job;
    struct state *state;
    int (*fn)(struct store_change *change, void *ctx);
    void *ctx;
};

/* In a transaction of its own within the group's, so that an outcome leaves nothing behind. */
static int change_apply(struct state_job *base, MDB_txn *txn)
{
    const struct change_job *job = container_of(base, struct change_job, job);
    CLEANUP(db_txn_abortp) MDB_txn *own = NULL;
    int r = db_check(mdb_txn_begin(job->state->env, txn, 0, &own), "cannot begin a change");

    if (r)
        return pass(r);
    struct store_change change = { .state = job->state, .txn = own };
    r = job->fn(&change, job->ctx);
    ensure(r <= 0 || r == STORE_FULL || r >= STORE_OUTCOME_FREE);
    if (r)
        return pass(r);
    return pass(db_check(mdb_txn_commit(take(own)), "cannot end a change"));
}

int store_state_change(struct store *store,
                       int (*fn)(struct store_change *change, void *ctx),
                       void *ctx)
{
    struct change_job job = {
        .job = { .apply = change_apply }, .state = &store->state, .fn = fn, .ctx = ctx
    };

    return pass(state_run(&store->state, &job.job));
}

int store_change_get(struct store_change *change,
                     enum store_table table,
                     struct span key,
                     struct span *ret)
{
    MDB_val k = db_val_of(key), value;
    int r;

    if (key.len == 0 || key.len > STORE_KEY_BYTES)
        return STORE_NOT_FOUND;
    r = db_check(mdb_get(change->txn, change->state->tables[table_of(table)], &k, &value),
                 "cannot read the state");
    if (r == 0)
        *ret = db_span(value);
    return pass(r);
}

int store_change_put(struct store_change *change, const struct store_write *write)
{
    MDB_val key = db_val_of(write->key);
    int r;

    ensure(write->key.len > 0 && write->key.len <= STORE_KEY_BYTES);
    if (write->value.data && write->is_behind_all) {
        MDB_val value = db_val_of(write->value);
        int rc = mdb_put(change->txn, change->state->tables[table_of(write->table)], &key, &value,
                         MDB_APPEND);

        if (rc != MDB_KEYEXIST) /* that is: behind another one */
            return pass(db_check(rc, "cannot write the state"));
        key = db_val_of(write->key);
    }
    if (write->value.data)
        return pass(state_put(change->state, change->txn, table_of(write->table), write->key,
                              write->value));
    r = db_check(mdb_del(change->txn, change->state->tables[table_of(write->table)], &key, NULL),
                 "cannot delete in the state");
    return r == STORE_NOT_FOUND ? 0 : pass(r);
}

int store_change_each(struct store_change *change,
                      enum store_table table,
                      struct span prefix,
                      bool (*fn)(void *ctx, struct span key, struct span value),
                      void *ctx)
{
    const struct state_walk walk = { .prefix = prefix, .fn = fn, .ctx = ctx };

    return pass(state_walk(change->txn, change->state->tables[table_of(table)], &walk));
}

/* ---- reading ---- */

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

int store_state_range(struct store *store,
                      enum store_table table,
                      struct span prefix,
                      bool is_backwards,
                      bool (*fn)(void *ctx, struct span key, struct span value),
                      void *ctx)
{
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    const struct state_walk walk = {
        .prefix = prefix, .is_backwards = is_backwards, .fn = fn, .ctx = ctx
    };
    int r =
        db_check(mdb_txn_begin(store->state.env, NULL, MDB_RDONLY, &txn), "cannot read the state");

    if (r)
        return fold(r);
    return pass(state_walk(txn, store->state.tables[table_of(table)], &walk));
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
