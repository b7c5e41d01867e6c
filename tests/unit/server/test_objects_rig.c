/* SPDX-License-Identifier: Apache-2.0 */
#include "test_objects.h"

#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/file.h"
#include "common/base/list.h"
#include "common/base/rand.h"
#include "suite.h"

char path[256];
struct store *store;
struct store_object_limits limits;
uint32_t agent, other;
int64_t now_us;

static wall_us fake_wall(void)
{
    return (wall_us){ now_us };
}

void open_it(void)
{
    const struct store_options options = {
        .directory = path,
        .segment_bytes = 64u << 20,
        .queue_bytes = 64u << 20,
        .full_percent = 100,
        .objects = limits,
        .allow_any_filesystem = true,
    };
    struct store_why why;

    ck_assert_int_eq(store_open(&store, &options, &why), 0);
    ck_assert_int_eq(store_agent_intern(store, "web-1", &agent), 0);
    ck_assert_int_eq(store_agent_intern(store, "web-2", &other), 0);
}

void close_it(void)
{
    store = store_close(store);
}

void reopen(void)
{
    close_it();
    open_it();
}

void set_up(void)
{
    const char *tmp = getenv("TMPDIR");

    snprintf(path, sizeof(path), "%s/objects-XXXXXX", tmp ? tmp : "/tmp");
    ck_assert_ptr_nonnull(mkdtemp(path));
    ck_assert_int_eq(store_create(path), 0);
    limits = (struct store_object_limits){ 0 };
    now_us = INT64_C(1790000000000000);
    clock_set_source(fake_wall, NULL);
    open_it();
}

void tear_down(void)
{
    close_it();
    clock_set_source(NULL, NULL);
    ck_assert_int_eq(file_remove_tree(path), 0);
}

/* ---- jobs that wait ---- */

struct waiting {
    struct store_object_job job;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool is_done;
    int r;
};

static void on_done(struct store_object_job *job, int r)
{
    struct waiting *waiting = container_of(job, struct waiting, job);

    pthread_mutex_lock(&waiting->lock);
    waiting->is_done = true;
    waiting->r = r;
    pthread_cond_signal(&waiting->cond);
    pthread_mutex_unlock(&waiting->lock);
}

int run(struct store_object_job *job)
{
    struct waiting waiting = { .job = *job,
                               .lock = PTHREAD_MUTEX_INITIALIZER,
                               .cond = PTHREAD_COND_INITIALIZER };
    int r;

    waiting.job.done = on_done;
    r = store_object_submit(store, &waiting.job);
    if (r)
        return r;
    pthread_mutex_lock(&waiting.lock);
    while (!waiting.is_done)
        pthread_cond_wait(&waiting.cond, &waiting.lock);
    pthread_mutex_unlock(&waiting.lock);
    *job = waiting.job;
    return waiting.r;
}

struct store_object header_of(uint32_t of, uint8_t key, const char *name)
{
    struct store_object header = { .agent = of, .kind = STORE_BULK, .name = name, .type = "" };

    memset(header.key, key, sizeof(header.key));
    return header;
}

int begin_with(struct sent *sent, const struct store_object *header)
{
    int r;

    *sent = (struct sent){ .header = *header };
    sent->begun = (struct store_object_job){ .work = STORE_OBJECT_BEGIN, .header = header };
    r = run(&sent->begun);
    if (r == 0 && !sent->begun.is_complete) {
        sent->next = sent->begun.received;
        sent->hash = sent->next ? crypto_hash_restore(sent->begun.hash) : crypto_hash_new();
    }
    return r;
}

int begin(struct sent *sent, uint32_t of, uint8_t key, const char *name)
{
    const struct store_object header = header_of(of, key, name);

    return begin_with(sent, &header);
}

int append(struct sent *sent, const void *data, size_t len)
{
    struct store_object_job job = { .work = STORE_OBJECT_APPEND,
                                    .number = sent->begun.number,
                                    .lease = sent->begun.lease,
                                    .offset = sent->next,
                                    .data = data,
                                    .len = len };
    int r;

    crypto_hash_update(sent->hash, span_of(data, len));
    crypto_hash_save(sent->hash, job.hash);
    r = run(&job);
    if (r == 0)
        sent->next += len;
    sent->begun.what = job.what;
    return r;
}

int finish(struct sent *sent)
{
    struct store_object_job job = { .work = STORE_OBJECT_END,
                                    .number = sent->begun.number,
                                    .lease = sent->begun.lease,
                                    .size = sent->next };
    int r;

    crypto_hash_finish(sent->hash, job.sha256);
    r = run(&job);
    sent->hash = crypto_hash_free(sent->hash);
    return r;
}

int leave(struct sent *sent)
{
    struct store_object_job job = { .work = STORE_OBJECT_LEAVE,
                                    .number = sent->begun.number,
                                    .lease = sent->begun.lease };

    sent->hash = crypto_hash_free(sent->hash);
    return run(&job);
}

uint8_t *noise(size_t len, uint64_t seed)
{
    uint8_t *data = malloc(len + 8);
    struct rand rand;

    ck_assert_ptr_nonnull(data);
    rand_init(&rand, seed);
    for (size_t at = 0; at < len; at += 8) {
        const uint64_t bits = rand_u64(&rand);

        memcpy(data + at, &bits, 8);
    }
    return data;
}

/* Returns its number. */
uint64_t put(uint32_t of, uint8_t key, const char *name, const uint8_t *data, size_t len)
{
    struct sent sent;

    ck_assert_int_eq(begin(&sent, of, key, name), 0);
    for (size_t at = 0; at < len; at += 300000)
        ck_assert_int_eq(append(&sent, data + at, len - at < 300000 ? len - at : 300000), 0);
    ck_assert_int_eq(finish(&sent), 0);
    return sent.begun.number;
}

void check_content(uint64_t number, const uint8_t *data, size_t len)
{
    uint8_t *got = malloc(len + 1);
    size_t at = 0, n = 1;

    ck_assert_ptr_nonnull(got);
    while (at < len && n > 0) {
        ck_assert_int_eq(store_object_read(store, number, at, got + at, len - at, &n), 0);
        at += n;
    }
    ck_assert_uint_eq(at, len);
    if (len)
        ck_assert_int_eq(memcmp(got, data, len), 0);
    ck_assert_int_eq(store_object_read(store, number, len, got, 1, &n), 0);
    ck_assert_uint_eq(n, 0);
    free(got);
}

size_t n_files(uint64_t *ret_bytes)
{
    char name[600];
    struct dirent *entry;
    struct stat st;
    size_t n = 0;
    DIR *directory;

    snprintf(name, sizeof(name), "%s/default/objects/content", path);
    directory = opendir(name);
    ck_assert_ptr_nonnull(directory);
    *ret_bytes = 0;
    while ((entry = readdir(directory))) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(name, sizeof(name), "%s/default/objects/content/%.255s", path, entry->d_name);
        ck_assert_int_eq(stat(name, &st), 0);
        *ret_bytes += (uint64_t) st.st_size;
        n++;
    }
    closedir(directory);
    return n;
}

/* A job that comes back after what was queued before it, and after what that sweep unlinked. */
void sweep_now(void)
{
    struct sent nobody = { .begun = { .number = UINT64_MAX, .lease = 1 } };

    store_retain_now(store);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(leave(&nobody), STORE_TAKEN);
}

void set_limits(void)
{
    store_objects_set_limits(store, &limits);
    sweep_now();
}

struct store_object_stats stats_now(void)
{
    struct store_object_stats stats;

    store_get_object_stats(store, &stats);
    return stats;
}
