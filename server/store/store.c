/* SPDX-License-Identifier: Apache-2.0 */
#include "server/store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/file.h"
#include "common/log/log.h"
#include "server/store/journal/batch.h"
#include "server/store/whole.h"

#define PATH_BYTES 480

/* ---- the directory ---- */

/* From linux/magic.h, which names only some of them. */
static const struct {
    uint32_t magic;
    const char *name;
} unfit_file_systems[] = {
    { 0x00006969u, "NFS" },  { 0x0000517bu, "SMB" }, { 0xff534d42u, "CIFS" },
    { 0xfe534d42u, "SMB2" }, { 0x01021997u, "9p" },  { 0x65735546u, "FUSE" },
};

static int look_at_file_system(const char *directory, struct store_why *ret_why)
{
    struct statfs st;

    if (statfs(directory, &st) < 0) {
        if (errno != ENOENT && errno != ENOTDIR)
            return fault(-errno, "cannot look at %s", directory);
        snprintf(ret_why->text, sizeof(ret_why->text),
                 "there is no directory %.200s: make a database with 'sentinel-hub init'",
                 directory);
        return STORE_NOT_FOUND;
    }
    for (size_t i = 0; i < sizeof(unfit_file_systems) / sizeof(unfit_file_systems[0]); i++) {
        if ((uint32_t) st.f_type == unfit_file_systems[i].magic) {
            snprintf(
                ret_why->text, sizeof(ret_why->text),
                "%.200s lies on %s, which does not keep what it acknowledged: use a local disk",
                directory, unfit_file_systems[i].name);
            return STORE_UNFIT;
        }
    }
    return 0;
}

static int path_of(char to[static PATH_BYTES], const char *directory, const char *name)
{
    if (snprintf(to, PATH_BYTES, "%s/%s", directory, name) >= PATH_BYTES)
        return fault(-ENAMETOOLONG, "the path of the database is too long");
    return 0;
}

/* Held until the descriptor is closed, so also when the process is killed. Outcomes: STORE_LOCKED.
 */
static int take_lock(const char *directory, int *ret_fd)
{
    char path[PATH_BYTES];
    int fd, r = path_of(path, directory, "lock");

    if (r)
        return pass(r);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return fault(-errno, "cannot open %s", path);
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        r = errno == EWOULDBLOCK ? STORE_LOCKED : fault(-errno, "cannot lock %s", path);
        close(fd);
        return r;
    }
    *ret_fd = fd;
    return 0;
}

/* Beside its place first: what is found in place is whole. */
static int create_state(const char *directory, const char *path)
{
    char beside[PATH_BYTES], above[PATH_BYTES];
    int r = path_of(beside, directory, "state.new");

    if (!r)
        r = path_of(above, directory, "..");
    if (!r)
        r = file_remove_tree(beside);
    if (!r)
        r = state_create(beside);
    if (r)
        return pass(r);
    if (rename(beside, path) < 0)
        return fault(-errno, "cannot put the database in its place, %s", path);
    r = db_sync_directory(directory);
    return r ? pass(r) : pass(db_sync_directory(above));
}

int store_create(const char *directory)
{
    char path[PATH_BYTES];
    CLEANUP(fd_closep) int lock_fd = -1;
    int r = path_of(path, directory, "state");

    if (!r)
        r = take_lock(directory, &lock_fd);
    if (r)
        return r == STORE_LOCKED ? r : pass(r);
    if (access(path, F_OK) == 0)
        return fault(-EEXIST, "there is a database in %s already", directory);
    return fold(create_state(directory, path));
}

/* ---- disk and failure ---- */

bool store_disk_is_above(struct store *store)
{
    struct statvfs st;
    mono_us now = clock_mono();
    bool is_above;

    pthread_mutex_lock(&store->disk.lock);
    if (now.us >= store->disk.next_check.us && statvfs(store->directory, &st) == 0) {
        /* As df counts: what only root may use is neither used nor free. */
        uint64_t used = st.f_blocks - st.f_bfree, all = used + st.f_bavail;

        store->disk.is_above =
            (double) used * 100 > (double) store->options.full_percent * (double) all;
        store->disk.free_bytes = (uint64_t) st.f_bavail * st.f_frsize;
        store->disk.next_check.us = now.us + STORE_DISK_CHECK_US;
    }
    is_above = store->disk.is_above;
    pthread_mutex_unlock(&store->disk.lock);
    return is_above;
}

bool store_disk_has_room(struct store *store, uint64_t n_bytes)
{
    struct statvfs st;
    uint64_t used, all;

    /* A file system that does not count its blocks says when it is full. */
    if (statvfs(store->directory, &st) < 0 || st.f_blocks == 0 || st.f_frsize == 0)
        return true;
    used = st.f_blocks - st.f_bfree;
    all = used + st.f_bavail;
    used += n_bytes / st.f_frsize + 1;
    return (double) used * 100 < (double) store->options.full_percent * (double) all;
}

void store_fail(struct store *store)
{
    if (atomic_exchange(&store->has_failed, true))
        return;
    if (store->options.on_fatal)
        store->options.on_fatal(store->options.ctx);
}

/* ---- what the state's writer calls ---- */

static void on_settle(void *ctx, int r)
{
    struct store *store = ctx;

    agents_settle(&store->agents, r);
    catalog_settle(&store->catalog, r);
}

static void on_fault(void *ctx)
{
    store_fail(ctx);
}

static void sweep_what_was_forgotten(struct store *store)
{
    objects_sweep_soon(&store->objects);
    inventory_trim_soon(&store->inventory);
}

static void on_tick(void *ctx)
{
    struct store *store = ctx;

    agents_flush(&store->agents);
    if (agents_forget_due(&store->agents))
        sweep_what_was_forgotten(store);
}

static bool is_disk_full(void *ctx)
{
    return store_disk_is_above(ctx);
}

/* ---- open and close ---- */

static int open_state(struct store *store, struct store_why *ret_why)
{
    char path[PATH_BYTES];
    int r = path_of(path, store->directory, "state");

    if (!r)
        r = state_open(&store->state, path, ret_why);
    if (r)
        return r < 0 ? pass(r) : r;
    r = agents_open(&store->agents, &store->state);
    if (!r)
        r = catalog_open(&store->catalog, &store->state);
    store->state.on_settle = on_settle;
    store->state.on_fault = on_fault;
    store->state.on_tick = on_tick;
    store->state.ctx = store;
    store->catalog.is_disk_full = is_disk_full;
    store->catalog.ctx = store;
    return fold(r);
}

static int open_journal(struct store *store)
{
    int r = state_raise_format(&store->state);

    if (!r)
        r = agents_forget_begun(&store->agents);
    if (!r)
        r = journal_open(&store->journal, store->directory, store->options.segment_bytes);
    if (!r)
        r = days_open(&store->days, store->directory, &days_of_samples, store->options.day_bytes);
    if (!r)
        r = days_open(&store->logs, store->directory, &days_of_logs, store->options.day_bytes);
    if (!r)
        r = days_open(&store->rolled[ROLL_MINUTES], store->directory, &days_of_minutes,
                      DAY_ROLLED_MAP_BYTES);
    if (!r)
        r = days_open(&store->rolled[ROLL_HOURS], store->directory, &days_of_hours,
                      DAY_ROLLED_MAP_BYTES);
    if (!r)
        r = store_replay(store);
    if (!r)
        r = store_forget(store);
    if (!r)
        r = journal_start(&store->journal, &store->runs);
    /* What the replay had open goes, before others want descriptors. */
    if (!r)
        journal_rest(&store->journal);
    if (!r)
        r = inventory_open(&store->inventory, store);
    if (r == STORE_FULL)
        return fault(-ENOSPC, "there is no room for the journal in %s: make room and start again",
                     store->directory);
    return pass(r);
}

static int start_threads(struct store *store)
{
    int r = state_start(&store->state);

    store->tails.end_chunk = atomic_load(&store->journal.next_chunk);
    if (!r)
        r = sealer_start(&store->sealer, store);
    if (!r)
        r = inventory_start(&store->inventory);
    if (!r)
        r = writer_start(&store->writer, store);
    if (!r)
        r = objects_start(&store->objects);
    store->is_started = true;
    return pass(r);
}

/* An offline command and a test need not name what they do not care for. */
static void set_defaults(struct store_options *options)
{
    if (options->journal_bytes == 0)
        options->journal_bytes = STORE_JOURNAL_BYTES;
    if (options->follow_bytes == 0)
        options->follow_bytes = STORE_FOLLOW_BYTES;
    if (options->day_bytes == 0)
        options->day_bytes = DAY_MAP_BYTES;
    if (options->seal_age_us == 0)
        options->seal_age_us = STORE_SEAL_AGE_US;
    if (options->inventory_revisions == 0)
        options->inventory_revisions = INVENTORY_REVISIONS;
    if (options->inventory_retention_us == 0)
        options->inventory_retention_us = INVENTORY_RETENTION_US;
    if (options->inventory_bytes == 0)
        options->inventory_bytes = INVENTORY_BYTES;
}

static struct store *store_new(const struct store_options *options)
{
    struct store *store = calloc(1, sizeof(*store));

    if (!store)
        return NULL;
    store->options = *options;
    set_defaults(&store->options);
    atomic_store(&store->retention_us, options->retention_us);
    atomic_store(&store->retention_bytes, options->retention_bytes);
    atomic_store(&store->logs_retention_us, options->logs_retention_us);
    atomic_store(&store->logs_retention_bytes, options->logs_retention_bytes);
    atomic_store(&store->retention_rolled_us[ROLL_MINUTES], options->retention_1m_us);
    atomic_store(&store->retention_rolled_us[ROLL_HOURS], options->retention_1h_us);
    store->lock_fd = -1;
    store->directory = strdup(options->directory);
    store->options.directory = store->directory;
    store->options.follow = NULL; /* the caller's */
    ensure(pthread_mutex_init(&store->disk.lock, NULL) == 0);
    follow_init(store);
    tails_init(&store->tails);
    if (store->directory && runs_init(&store->runs) == 0)
        return store;
    free(store->directory);
    free(store);
    return NULL;
}

int store_open(struct store **ret, const struct store_options *options, struct store_why *ret_why)
{
    CLEANUP(store_closep) struct store *store = store_new(options);
    int r = 0;

    ret_why->text[0] = 0;
    if (!store)
        return fault(-ENOMEM, "no memory for the store");
    if (!options->allow_any_filesystem)
        r = look_at_file_system(store->directory, ret_why);
    if (!r && !options->is_shared)
        r = take_lock(store->directory, &store->lock_fd);
    if (r == STORE_LOCKED)
        snprintf(ret_why->text, sizeof(ret_why->text),
                 "another process works with %.200s: stop it first", store->directory);
    if (!r)
        r = open_state(store, ret_why);
    if (r)
        return r < 0 ? pass(r) : r;
    if (!options->is_shared) {
        r = open_journal(store);
        if (!r)
            r = objects_open(&store->objects, store);
        if (!r && options->follow)
            r = follow_await(store, options->follow);
        if (!r)
            r = start_threads(store);
    }
    if (r)
        return fold(r);
    *ret = take(store);
    return 0;
}

void store_stop(struct store *store)
{
    if (!store->is_started)
        return;
    objects_stop(&store->objects);
    writer_stop(&store->writer);
    inventory_stop(&store->inventory);
    sealer_stop(&store->sealer);
    state_stop(&store->state);
    store->is_started = false;
}

struct store *store_close(struct store *store)
{
    if (!store)
        return NULL;
    store_stop(store);
    objects_close(&store->objects);
    writer_deinit(&store->writer);
    sealer_deinit(&store->sealer);
    inventory_close(&store->inventory);
    days_close(&store->days);
    days_close(&store->logs);
    for (size_t tier = 0; tier < ROLL_TIERS; tier++)
        days_close(&store->rolled[tier]);
    journal_close(&store->journal);
    catalog_close(&store->catalog);
    agents_close(&store->agents);
    runs_deinit(&store->runs);
    state_close(&store->state);
    fd_closep(&store->lock_fd);
    follow_deinit(store);
    tails_deinit(&store->tails);
    pthread_mutex_destroy(&store->disk.lock);
    free(store->directory);
    free(store);
    return NULL;
}

/* ---- catalogue ---- */

int store_agent_intern(struct store *store, const char *id, uint32_t *ret_number)
{
    if (store->options.is_shared)
        return fault(-EPERM, "an offline command beside a hub makes no agents");
    return pass(agents_intern(&store->agents, id, AGENTS_ANY_TIME, ret_number));
}

uint64_t store_agents_forgotten(struct store *store)
{
    return atomic_load(&store->agents.n_forgotten);
}

int store_agent_intern_since(struct store *store,
                             const char *id,
                             uint64_t since,
                             uint32_t *ret_number)
{
    if (store->options.is_shared)
        return fault(-EPERM, "an offline command beside a hub makes no agents");
    return pass(agents_intern(&store->agents, id, since, ret_number));
}

int store_agent_find(struct store *store, const char *id, uint32_t *ret_number)
{
    return agents_find(&store->agents, id, ret_number);
}

int store_agent_get(struct store *store,
                    uint32_t number,
                    struct arena *arena,
                    struct store_agent *ret)
{
    return agents_tell(&store->agents, number, arena, ret);
}

int store_agent_forget(struct store *store, const char *id, struct store_forgotten *ret)
{
    int r;

    if (store->options.is_shared)
        return fault(-EPERM, "an offline command beside a hub forgets no agents");
    r = agents_forget(&store->agents, id, ret);
    if (r == 0)
        sweep_what_was_forgotten(store);
    return pass(r);
}

int store_agent_list(struct store *store,
                     struct arena *arena,
                     uint32_t **ret_numbers,
                     size_t *ret_n)
{
    return pass(agents_list(&store->agents, arena, ret_numbers, ret_n));
}

static struct agent *agent_of(struct store *store, uint32_t number)
{
    struct agent *agent = agents_get(&store->agents, number);

    ensure(agent); /* a number comes from the store */
    return agent;
}

int store_agent_hello(struct store *store, uint32_t number, const struct store_agent_hello *hello)
{
    return pass(agent_hello(agent_of(store, number), hello));
}

void store_agent_seen(struct store *store, uint32_t number, wall_us now)
{
    struct agent *agent = agent_of(store, number);

    pthread_mutex_lock(&agent->lock);
    if (now.us > agent->facts.last_seen.us) {
        agent->facts.last_seen = now;
        agent->is_dirty = true;
    }
    pthread_mutex_unlock(&agent->lock);
}

void store_agent_add_lost(struct store *store, uint32_t number, uint64_t n_batches)
{
    struct agent *agent = agent_of(store, number);

    pthread_mutex_lock(&agent->lock);
    agent->facts.n_lost += n_batches;
    agent->is_dirty = true;
    pthread_mutex_unlock(&agent->lock);
}

const struct store_definition *store_definition_get(struct store *store, uint32_t id)
{
    return catalog_definition(&store->catalog, id);
}

const struct store_layout *store_layout_get(struct store *store, uint32_t id)
{
    return catalog_layout(&store->catalog, id);
}

size_t store_definitions_of(struct store *store, const char *metric, uint32_t *to, size_t max)
{
    return catalog_definitions_of(&store->catalog, metric, to, max);
}

int store_intern(struct store *store, struct store_intern *request)
{
    if (store->options.is_shared)
        return fault(-EPERM, "an offline command beside a hub makes no definitions");
    return catalog_intern(&store->catalog, request);
}

/* ---- sealing ---- */

void store_set_rollup_retention(struct store *store, int64_t minutes_us, int64_t hours_us)
{
    atomic_store(&store->retention_rolled_us[ROLL_MINUTES], minutes_us);
    atomic_store(&store->retention_rolled_us[ROLL_HOURS], hours_us);
}

void store_retain_now(struct store *store)
{
    if (!store->is_started)
        return;
    sealer_retain_soon(&store->sealer);
    objects_sweep_soon(&store->objects);
}

void store_set_retention(struct store *store, int64_t retention_us, uint64_t retention_bytes)
{
    atomic_store(&store->retention_us, retention_us);
    atomic_store(&store->retention_bytes, retention_bytes);
    store_retain_now(store);
}

void store_set_logs_retention(struct store *store, int64_t retention_us, uint64_t retention_bytes)
{
    atomic_store(&store->logs_retention_us, retention_us);
    atomic_store(&store->logs_retention_bytes, retention_bytes);
    store_retain_now(store);
}

int store_seal(struct store *store)
{
    if (!store->is_started)
        return STORE_STOPPED;
    return sealer_seal_now(&store->sealer);
}

int store_compact(struct store *store)
{
    if (!store->is_started)
        return STORE_STOPPED;
    return sealer_compact_now(&store->sealer);
}

/* ---- writing ---- */

int store_submit(struct store *store, struct store_batch *batch)
{
    ensure(agent_of(store, batch->agent) && batch->done && batch->sequence > 0);
    ensure((!batch->is_skip && !batch->is_begin) || batch->n_rows == 0);
    ensure(batch->signal == STORE_LOGS ? batch->n_samples == 0 : batch->n_records == 0);
    ensure(batch->n_record_bytes <= UINT32_MAX);
    if (batch->received.us <= 0)
        batch->received = clock_wall();
    if (!batch->is_sealed) /* it comes again after STORE_BUSY */
        batch_seal(batch);
    batch->is_sealed = true;
    return writer_submit(&store->writer, batch);
}

static void on_begun(struct store_batch *batch, int r, uint64_t run_last)
{
    /* What came to nothing needs no word: the batch that follows meets the gap, and the agent says
     * hello again. */
    (void) r;
    (void) run_last;
    store_batch_free(batch);
}

int store_run_begin(struct store *store,
                    uint32_t agent,
                    enum store_signal signal,
                    const uint8_t spool[STORE_SPOOL_BYTES],
                    uint64_t first_sequence,
                    uint32_t crc32c_before)
{
    CLEANUP(store_batch_freep) struct store_batch *batch = NULL;
    int r;

    if (first_sequence <= 1)
        return 0;
    r = store_batch_new(&batch, 0);
    if (r)
        return pass(r);
    batch->agent = agent;
    batch->signal = signal;
    memcpy(batch->spool, spool, sizeof(batch->spool));
    batch->sequence = first_sequence - 1;
    batch->crc32c = crc32c_before;
    batch->is_begin = true;
    batch->done = on_begun;
    r = store_submit(store, batch);
    if (r == 0)
        (void) take(batch);
    return r;
}

int store_run_get(struct store *store,
                  uint32_t agent,
                  enum store_signal signal,
                  const uint8_t spool[STORE_SPOOL_BYTES],
                  struct store_run *ret)
{
    struct run_key key = run_key_of(agent, signal, spool);

    return runs_get(&store->runs, &key, ret);
}

int store_run_may_begin(struct store *store, uint32_t agent, wall_us now)
{
    return runs_have_room(&store->runs, agent, now.us) ? 0 : STORE_TOO_MUCH;
}

int store_run_list(struct store *store,
                   uint32_t agent,
                   struct arena *arena,
                   struct store_run **ret,
                   size_t *ret_n)
{
    return pass(runs_list(&store->runs, agent, arena, ret, ret_n));
}

/* ---- status ---- */

static int ascending(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *) a, y = *(const uint32_t *) b;

    return (x > y) - (x < y);
}

static void tell_writer(struct writer *writer, struct store_stats *ret)
{
    uint32_t sorted[WRITER_LATENCIES];
    size_t n;

    pthread_mutex_lock(&writer->stats.lock);
    ret->n_batches = writer->stats.n_batches;
    ret->n_samples = writer->stats.n_samples;
    ret->n_log_records = writer->stats.n_records;
    ret->n_log_bytes = writer->stats.n_record_bytes;
    ret->n_duplicates = writer->stats.n_duplicates;
    ret->n_commits = writer->stats.n_commits;
    n = ret->n_commits < WRITER_LATENCIES ? (size_t) ret->n_commits : WRITER_LATENCIES;
    memcpy(sorted, writer->stats.latencies_us, n * sizeof(*sorted));
    pthread_mutex_unlock(&writer->stats.lock);
    if (n) {
        qsort(sorted, n, sizeof(*sorted), ascending);
        ret->commit_p50_us = sorted[n / 2];
        ret->commit_p99_us = sorted[n * 99 / 100];
    }
    pthread_mutex_lock(&writer->queue.lock);
    ret->is_full = writer->queue.is_full;
    pthread_mutex_unlock(&writer->queue.lock);
}

void store_get_stats(struct store *store, struct store_stats *ret)
{
    char path[PATH_BYTES];

    *ret = (struct store_stats){
        .n_agents = agents_count(&store->agents),
        .n_definitions = idtable_highest(&store->catalog.definitions),
        .n_layouts = idtable_highest(&store->catalog.layouts),
        .n_segments = journal_n_segments(&store->journal),
        .n_damaged = store->n_damaged,
        .has_failed = atomic_load(&store->has_failed),
    };
    if (store->writer.store)
        tell_writer(&store->writer, ret);
    if (path_of(path, store->directory, "state") == 0)
        ret->database_bytes = db_file_bytes(path);
    if (!store->options.is_shared) {
        ret->journal_bytes = journal_file_bytes(&store->journal);
        ret->day_bytes = days_file_bytes(&store->days);
        ret->n_days = days_count(&store->days);
        ret->log_day_bytes = days_file_bytes(&store->logs);
        ret->n_log_days = days_count(&store->logs);
        ret->rolled_1m_bytes = days_file_bytes(&store->rolled[ROLL_MINUTES]);
        ret->rolled_1h_bytes = days_file_bytes(&store->rolled[ROLL_HOURS]);
        ret->inventory_bytes = inventory_file_bytes(&store->inventory);
        ret->database_bytes += ret->journal_bytes + ret->day_bytes + ret->log_day_bytes +
                               ret->rolled_1m_bytes + ret->rolled_1h_bytes +
                               objects_file_bytes(&store->objects) + ret->inventory_bytes;
        sealer_tell(&store->sealer, ret);
    }
    (void) store_disk_is_above(store);
    pthread_mutex_lock(&store->disk.lock);
    ret->disk_free_bytes = store->disk.free_bytes;
    pthread_mutex_unlock(&store->disk.lock);
}
