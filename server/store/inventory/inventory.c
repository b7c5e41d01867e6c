/* SPDX-License-Identifier: Apache-2.0 */
#include "server/store/inventory/inventory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/file.h"
#include "common/base/text.h"
#include "common/log/log.h"
#include "server/store/whole.h"

#define GROUP_PUTS 256u
#define READER_CHECK_S 60

const char *const inventory_table_names[INVENTORY_N_TABLES] = {
    [INVENTORY_CONTENTS] = "contents",
    [INVENTORY_REFS] = "refs",
    [INVENTORY_REVISIONS_TABLE] = "revisions",
    [INVENTORY_AGENTS] = "agents",
    [INVENTORY_META] = "meta",
};

/* ---- damage ---- */

static void found_env_damaged(struct inventory *inventory, const char *why)
{
    char path[sizeof(inventory->path) + 16];
    int fd;

    if (atomic_exchange(&inventory->is_damaged, true))
        return;
    log_event(LOG_ERROR, "inventory_damaged", LOG_S("path", inventory->path), LOG_S("why", why),
              LOG_S("remedy", "it is set aside at the next start, and agents send theirs again; "
                              "restore it from a backup for its history"));
    snprintf(path, sizeof(path), "%s/damaged", inventory->path);
    fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    fd_closep(&fd);
}

int inventory_check(struct inventory *inventory, int rc, const char *what)
{
    if (!db_is_damage(rc))
        return pass(db_check(rc, what));
    found_env_damaged(inventory, mdb_strerror(rc));
    return STORE_DAMAGED;
}

/* With the lock held: its place, or that of none. */
static size_t find_damaged(const struct inventory *inventory, const uint8_t *sha256)
{
    size_t n = inventory->known.n_damaged < INVENTORY_DAMAGED ? inventory->known.n_damaged
                                                              : INVENTORY_DAMAGED;

    for (size_t i = 0; i < n; i++)
        if (memcmp(inventory->known.damaged[i], sha256, STORE_SHA256_BYTES) == 0)
            return i;
    return INVENTORY_DAMAGED;
}

bool inventory_is_damaged(struct inventory *inventory, const uint8_t sha256[STORE_SHA256_BYTES])
{
    bool is_damaged;

    pthread_mutex_lock(&inventory->known.lock);
    is_damaged = find_damaged(inventory, sha256) < INVENTORY_DAMAGED;
    pthread_mutex_unlock(&inventory->known.lock);
    return is_damaged;
}

void inventory_found_damaged(struct inventory *inventory, const uint8_t sha256[STORE_SHA256_BYTES])
{
    char hex[2 * STORE_SHA256_BYTES + 1];
    bool is_new;

    pthread_mutex_lock(&inventory->known.lock);
    is_new = find_damaged(inventory, sha256) == INVENTORY_DAMAGED;
    if (is_new)
        memcpy(inventory->known.damaged[inventory->known.n_damaged++ % INVENTORY_DAMAGED], sha256,
               STORE_SHA256_BYTES);
    pthread_mutex_unlock(&inventory->known.lock);
    if (is_new)
        log_event(LOG_ERROR, "inventory_content_damaged",
                  LOG_S("sha256", text_of_hex(sha256, STORE_SHA256_BYTES, hex)),
                  LOG_S("remedy", "an agent that still has this table sends it again; "
                                  "sentinel-hub verify names all that is damaged"));
}

void inventory_found_whole(struct inventory *inventory, const uint8_t sha256[STORE_SHA256_BYTES])
{
    size_t at;

    pthread_mutex_lock(&inventory->known.lock);
    at = find_damaged(inventory, sha256);
    if (at < INVENTORY_DAMAGED) /* what no content can be named */
        memset(inventory->known.damaged[at], 0, STORE_SHA256_BYTES);
    pthread_mutex_unlock(&inventory->known.lock);
}

/* ---- opening ---- */

static int make_directory(const char *above, const char *path)
{
    if (mkdir(above, 0700) < 0 && errno != EEXIST)
        return fault(-errno, "cannot make %s", above);
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return fault(-errno, "cannot make %s", path);
    return 0;
}

/* The names of all that leads to the files: a start that was cut may have made them. */
static int sync_names(const struct inventory *inventory, const char *above)
{
    int r = db_sync_directory(inventory->path);

    if (!r)
        r = db_sync_directory(above);
    return r ? pass(r) : pass(db_sync_directory(inventory->store->directory));
}

/* The answer is LMDB's. */
static int open_tables(struct inventory *inventory)
{
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    MDB_val key = db_val("format", 6), value;
    uint32_t format = INVENTORY_FORMAT;
    int rc = mdb_txn_begin(inventory->env, NULL, 0, &txn);

    for (int i = 0; i < INVENTORY_N_TABLES && !rc; i++)
        rc = mdb_dbi_open(txn, inventory_table_names[i], MDB_CREATE, &inventory->tables[i]);
    if (!rc)
        rc = mdb_get(txn, inventory->tables[INVENTORY_META], &key, &value);
    if (rc == 0)
        return mdb_txn_commit(take(txn));
    if (rc != MDB_NOTFOUND)
        return rc;
    value = db_val(&format, sizeof(format));
    rc = mdb_put(txn, inventory->tables[INVENTORY_META], &key, &value, 0);
    return rc ? rc : mdb_txn_commit(take(txn));
}

static int open_once(struct inventory *inventory)
{
    uint64_t map = inventory->store->options.inventory_bytes + INVENTORY_MAP_SLACK;
    int rc;

    map += inventory->store->options.inventory_bytes / 4;
    rc = db_env_open(&inventory->env, inventory->path, map, INVENTORY_N_TABLES);
    if (!rc) {
        rc = open_tables(inventory);
        if (rc) {
            mdb_env_close(inventory->env);
            inventory->env = NULL;
        }
    }
    return rc;
}

/* What is in it stays for who can mend it. */
static int set_aside(struct inventory *inventory, const char *above)
{
    char path[sizeof(inventory->path) + 32];

    snprintf(path, sizeof(path), "%s.damaged-%lld", inventory->path, (long long) time(NULL));
    log_event(LOG_ERROR, "inventory_set_aside", LOG_S("path", path),
              LOG_S("remedy", "agents send their inventories again; restore the history from a "
                              "backup"));
    if (rename(inventory->path, path) < 0)
        return fault(-errno, "cannot rename %s", inventory->path);
    return pass(make_directory(above, inventory->path));
}

static void init(struct inventory *inventory, struct store *store)
{
    pthread_condattr_t attr;

    *inventory = (struct inventory){ .store = store };
    atomic_store(&inventory->max_revisions, store->options.inventory_revisions);
    atomic_store(&inventory->retention_us, store->options.inventory_retention_us);
    atomic_store(&inventory->max_bytes, store->options.inventory_bytes);
    inventory->queue.end = &inventory->queue.first;
    ensure(pthread_mutex_init(&inventory->queue.lock, NULL) == 0);
    ensure(pthread_mutex_init(&inventory->known.lock, NULL) == 0);
    ensure(pthread_condattr_init(&attr) == 0);
    ensure(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
    ensure(pthread_cond_init(&inventory->queue.wake, &attr) == 0);
    ensure(pthread_cond_init(&inventory->queue.trimmed, NULL) == 0);
    pthread_condattr_destroy(&attr);
}

int inventory_open(struct inventory *inventory, struct store *store)
{
    char above[sizeof(inventory->path)], marker[sizeof(inventory->path) + 16];
    int rc, r;

    init(inventory, store);
    if (snprintf(above, sizeof(above), "%s/default", store->directory) >= (int) sizeof(above) - 16)
        return fault(-ENAMETOOLONG, "the path of the database is too long");
    snprintf(inventory->path, sizeof(inventory->path), "%.460s/inventory", above);
    snprintf(marker, sizeof(marker), "%s/damaged", inventory->path);
    r = make_directory(above, inventory->path);
    if (!r && access(marker, F_OK) == 0)
        r = set_aside(inventory, above);
    if (r)
        return pass(r);
    rc = open_once(inventory);
    if (db_is_damage(rc)) {
        r = set_aside(inventory, above);
        if (r)
            return pass(r);
        rc = open_once(inventory);
    }
    r = db_check(rc, "cannot open the inventories");
    return r ? pass(r) : pass(sync_names(inventory, above));
}

void inventory_close(struct inventory *inventory)
{
    if (!inventory->store)
        return;
    ensure(!inventory->queue.has_thread && !inventory->queue.first);
    if (inventory->env)
        mdb_env_close(inventory->env);
    pthread_mutex_destroy(&inventory->queue.lock);
    pthread_mutex_destroy(&inventory->known.lock);
    pthread_cond_destroy(&inventory->queue.wake);
    pthread_cond_destroy(&inventory->queue.trimmed);
    *inventory = (struct inventory){ 0 };
}

uint64_t inventory_file_bytes(const struct inventory *inventory)
{
    return db_file_bytes(inventory->path);
}

/* ---- the thread ---- */

static uint64_t cost_of(const struct store_inventory_put *put)
{
    uint64_t n_bytes = sizeof(*put) + put->n_tables * sizeof(*put->tables);

    for (size_t i = 0; i < put->n_tables; i++)
        n_bytes += put->tables[i].canonical.len + put->tables[i].packed.len;
    return n_bytes;
}

/* The first of the queue, bounded; at least one. With the lock held. */
static size_t take_group(struct inventory *inventory, struct inventory_answer *answers)
{
    uint64_t n_bytes = 0;
    size_t n = 0;

    while (n < GROUP_PUTS && inventory->queue.first) {
        struct store_inventory_put *put = inventory->queue.first;
        uint64_t cost = cost_of(put);

        if (n > 0 && n_bytes + cost > INVENTORY_GROUP_BYTES)
            break;
        n_bytes += cost;
        inventory->queue.first = put->next;
        if (!put->next)
            inventory->queue.end = &inventory->queue.first;
        inventory->queue.n_bytes -= cost;
        answers[n++] = (struct inventory_answer){ .put = put };
    }
    return n;
}

static void write_group(struct inventory *inventory, struct inventory_answer *answers, size_t n)
{
    struct store *store = inventory->store;
    int r = STORE_STOPPED;

    if (!atomic_load(&store->has_failed))
        r = store_disk_is_above(store) ? STORE_FULL : inventory_write(inventory, answers, n);
    if (r < 0) {
        store_fail(store);
        r = STORE_STOPPED;
    }
    for (size_t i = 0; i < n; i++)
        answers[i].put->done(answers[i].put, r ? r : answers[i].r);
}

static void trim(struct inventory *inventory, uint64_t n_wanted)
{
    int r =
        atomic_load(&inventory->store->has_failed) ? STORE_STOPPED : inventory_trim_all(inventory);

    if (r < 0)
        store_fail(inventory->store);
    pthread_mutex_lock(&inventory->queue.lock);
    inventory->queue.n_trims_done = n_wanted;
    inventory->queue.trim_r = r;
    pthread_cond_broadcast(&inventory->queue.trimmed);
    pthread_mutex_unlock(&inventory->queue.lock);
}

/* The kernel's clock, on which a condition waits whatever source tests give to ours. */
static struct timespec in_s(time_t s)
{
    struct timespec at;

    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec += s;
    return at;
}

static bool is_past(struct timespec at)
{
    struct timespec now = in_s(0);

    return now.tv_sec > at.tv_sec || (now.tv_sec == at.tv_sec && now.tv_nsec >= at.tv_nsec);
}

static void *inventory_main(void *arg)
{
    struct inventory *inventory = arg;
    struct timespec next_trim = in_s(0), next_check = in_s(READER_CHECK_S);
    bool ends = false;

    while (!ends) {
        struct inventory_answer answers[GROUP_PUTS];
        struct timespec until = in_s(READER_CHECK_S);
        uint64_t n_wanted;
        size_t n;
        int rc = 0, n_dead;

        pthread_mutex_lock(&inventory->queue.lock);
        while (!inventory->queue.first && !inventory->queue.is_stopping &&
               inventory->queue.n_trims_wanted == inventory->queue.n_trims_done &&
               !is_past(next_trim) && rc != ETIMEDOUT)
            rc = pthread_cond_timedwait(&inventory->queue.wake, &inventory->queue.lock, &until);
        n = take_group(inventory, answers);
        n_wanted = inventory->queue.n_trims_wanted;
        ends = inventory->queue.is_stopping && n == 0;
        rc = n_wanted != inventory->queue.n_trims_done;
        pthread_mutex_unlock(&inventory->queue.lock);
        if (n > 0)
            write_group(inventory, answers, n);
        if (rc || is_past(next_trim)) {
            trim(inventory, n_wanted);
            next_trim = in_s(INVENTORY_TRIM_S);
        }
        if (is_past(next_check)) {
            (void) mdb_reader_check(inventory->env, &n_dead);
            next_check = in_s(READER_CHECK_S);
        }
    }
    return NULL;
}

int inventory_start(struct inventory *inventory)
{
    int rc;

    inventory->queue.has_thread = true;
    rc = pthread_create(&inventory->thread, NULL, inventory_main, inventory);
    if (rc) {
        inventory->queue.has_thread = false;
        return fault(-rc, "cannot start the inventory's writer");
    }
    return 0;
}

void inventory_stop(struct inventory *inventory)
{
    if (!inventory->store || !inventory->queue.has_thread)
        return;
    pthread_mutex_lock(&inventory->queue.lock);
    inventory->queue.is_stopping = true;
    pthread_cond_signal(&inventory->queue.wake);
    pthread_mutex_unlock(&inventory->queue.lock);
    pthread_join(inventory->thread, NULL);
    pthread_mutex_lock(&inventory->queue.lock);
    inventory->queue.has_thread = false;
    pthread_mutex_unlock(&inventory->queue.lock);
}

/* ---- the store's face ---- */

int store_inventory_put_new(struct store_inventory_put **ret, size_t n_tables)
{
    struct store_inventory_put *put = calloc(1, sizeof(*put));

    ensure(n_tables <= STORE_INVENTORY_TABLES_MAX);
    if (put)
        put->tables = calloc(n_tables + 1, sizeof(*put->tables));
    if (!put || !put->tables) {
        free(put);
        return fault(-ENOMEM, "no memory for an inventory");
    }
    put->n_tables = n_tables;
    *ret = put;
    return 0;
}

struct store_inventory_put *store_inventory_put_free(struct store_inventory_put *put)
{
    if (!put)
        return NULL;
    for (size_t i = 0; i < put->n_tables; i++) {
        buf_deinit(&put->tables[i].canonical);
        buf_deinit(&put->tables[i].packed);
    }
    free(put->tables);
    free(put);
    return NULL;
}

int store_inventory_submit(struct store *store, struct store_inventory_put *put)
{
    struct inventory *inventory = &store->inventory;
    uint64_t cost = cost_of(put);
    int r = 0;

    ensure(put->done && put->agent > 0 && agents_get(&store->agents, put->agent));
    pthread_mutex_lock(&inventory->queue.lock);
    if (inventory->queue.is_stopping || !inventory->queue.has_thread ||
        atomic_load(&store->has_failed)) {
        r = STORE_STOPPED;
    } else if (inventory->queue.first && inventory->queue.n_bytes + cost > INVENTORY_QUEUE_BYTES) {
        r = STORE_BUSY;
    } else {
        put->next = NULL;
        *inventory->queue.end = put;
        inventory->queue.end = &put->next;
        inventory->queue.n_bytes += cost;
        pthread_cond_signal(&inventory->queue.wake);
    }
    pthread_mutex_unlock(&inventory->queue.lock);
    return r;
}

void store_set_inventory_limits(struct store *store,
                                uint32_t max_revisions,
                                int64_t retention_us,
                                uint64_t max_bytes)
{
    atomic_store(&store->inventory.max_revisions, max_revisions);
    atomic_store(&store->inventory.retention_us, retention_us);
    /* The map was made for as much. */
    if (max_bytes <= store->options.inventory_bytes)
        atomic_store(&store->inventory.max_bytes, max_bytes);
}

void inventory_trim_soon(struct inventory *inventory)
{
    pthread_mutex_lock(&inventory->queue.lock);
    inventory->queue.n_trims_wanted++;
    pthread_cond_signal(&inventory->queue.wake);
    pthread_mutex_unlock(&inventory->queue.lock);
}

int store_inventory_trim(struct store *store)
{
    struct inventory *inventory = &store->inventory;
    uint64_t wanted;
    int r = STORE_STOPPED;

    pthread_mutex_lock(&inventory->queue.lock);
    if (inventory->queue.has_thread && !inventory->queue.is_stopping) {
        wanted = ++inventory->queue.n_trims_wanted;
        pthread_cond_signal(&inventory->queue.wake);
        while (inventory->queue.n_trims_done < wanted)
            pthread_cond_wait(&inventory->queue.trimmed, &inventory->queue.lock);
        r = inventory->queue.trim_r;
    }
    pthread_mutex_unlock(&inventory->queue.lock);
    return r < 0 ? pass(r) : r;
}
