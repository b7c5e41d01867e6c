/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Uploads beside the batches. Number n has a content of its own, but each fifth that of the one
 * before, from another agent: it is stored once, and a file goes.
 */

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/list.h"
#include "common/crypto/crypto.h"
#include "work.h"

#define CHUNK 30000u
#define MAX_BYTES 400000u

struct waiting {
    struct store_object_job job;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool is_done;
    int r;
};

/* The one that grows. */
static struct {
    bool is_open;
    struct store_object_job begun;
    struct crypto_hash *hash;
    uint64_t next;
} growing;

static uint32_t content_of(uint32_t n)
{
    return n % 5 == 4 ? n - 1 : n;
}

static uint8_t *make_content(uint32_t n, size_t *ret_len)
{
    uint8_t *data = malloc(MAX_BYTES);
    const uint32_t seed = content_of(n);

    if (!data)
        work_fail("no memory");
    *ret_len = 3 + seed * 7919u % 5 * 70000u + seed;
    for (size_t i = 0; i < *ret_len; i++)
        data[i] = (uint8_t) (seed * 131u + i * 7u + i / 251u);
    return data;
}

static void on_done(struct store_object_job *job, int r)
{
    struct waiting *waiting = container_of(job, struct waiting, job);

    pthread_mutex_lock(&waiting->lock);
    waiting->is_done = true;
    waiting->r = r;
    pthread_cond_signal(&waiting->cond);
    pthread_mutex_unlock(&waiting->lock);
}

static int run(struct work *work, struct store_object_job *job)
{
    struct waiting waiting = { .job = *job,
                               .lock = PTHREAD_MUTEX_INITIALIZER,
                               .cond = PTHREAD_COND_INITIALIZER };
    int r;

    waiting.job.done = on_done;
    r = store_object_submit(work->store, &waiting.job);
    if (r)
        return r;
    pthread_mutex_lock(&waiting.lock);
    while (!waiting.is_done)
        pthread_cond_wait(&waiting.cond, &waiting.lock);
    pthread_mutex_unlock(&waiting.lock);
    *job = waiting.job;
    return waiting.r;
}

static int begin(struct work *work, uint32_t n)
{
    struct store_object header = {
        .agent = work->agents[n % 5 == 4], .kind = STORE_BULK, .name = "power", .type = ""
    };
    int r;

    memcpy(header.key, &n, sizeof(n));
    growing.begun = (struct store_object_job){ .work = STORE_OBJECT_BEGIN, .header = &header };
    r = run(work, &growing.begun);
    if (r || growing.begun.is_complete)
        return r;
    growing.next = growing.begun.received;
    growing.hash = growing.next ? crypto_hash_restore(growing.begun.hash) : crypto_hash_new();
    growing.is_open = true;
    return 0;
}

/* One chunk; at the end the digest. *ret_is_finished: it was. */
static int go_on(struct work *work, uint32_t n, bool *ret_is_finished)
{
    struct store_object_job job = { .number = growing.begun.number, .lease = growing.begun.lease };
    uint8_t digest[CRYPTO_SHA256_BYTES];
    size_t len;
    uint8_t *data = make_content(n, &len);
    int r;

    *ret_is_finished = growing.next == len;
    if (*ret_is_finished) {
        job.work = STORE_OBJECT_END;
        job.size = len;
        crypto_hash_finish(growing.hash, job.sha256);
        growing.hash = crypto_hash_free(growing.hash);
        growing.is_open = false;
        crypto_sha256(span_of(data, len), digest);
        if (memcmp(digest, job.sha256, sizeof(digest)) != 0)
            work_fail("upload %u: the hash that was kept is not that of its bytes", n);
    } else {
        job.work = STORE_OBJECT_APPEND;
        job.offset = growing.next;
        job.data = data + growing.next;
        job.len = len - growing.next < CHUNK ? len - growing.next : CHUNK;
        crypto_hash_update(growing.hash, span_of(job.data, job.len));
        crypto_hash_save(growing.hash, job.hash);
    }
    r = run(work, &job);
    growing.next += r == 0 && !*ret_is_finished ? job.len : 0;
    free(data);
    return r;
}

void work_upload_close(void)
{
    growing.hash = crypto_hash_free(growing.hash);
    growing.is_open = false;
}

void work_upload_round(struct work *work)
{
    bool is_finished;

    if (work->upload >= WORK_UPLOADS)
        return;
    if (!growing.is_open) {
        work_need("begin an upload", begin(work, work->upload));
        if (growing.begun.is_complete) {
            work->upload++;
            return;
        }
    }
    work_need("go on with an upload", go_on(work, work->upload, &is_finished));
    if (is_finished)
        work_tell(work, "F %u\n", work->upload++);
    else
        work_tell(work, "U %u %llu\n", work->upload, (unsigned long long) growing.next);
}

static void check_content(struct work *work, uint32_t n)
{
    size_t len, at = 0, got = 1;
    uint8_t *data = make_content(n, &len), *read = malloc(MAX_BYTES);
    int r = 0;

    if (!read)
        work_fail("no memory");
    while (r == 0 && at < len && got > 0) {
        r = store_object_read(work->store, growing.begun.number, at, read + at, len - at, &got);
        at += got;
    }
    if (r || at != len || memcmp(read, data, len) != 0)
        work_fail("upload %u: it is not what was uploaded (%d)", n, r);
    free(data);
    free(read);
}

void work_check_uploads(struct work *work, const struct work_told *told)
{
    for (uint32_t n = 0; n < WORK_UPLOADS; n++) {
        bool is_finished = false;
        int r;

        if (!told->is_finished[n] && told->uploaded[n] == 0)
            continue;
        r = begin(work, n);
        if (r)
            work_fail("upload %u cannot be gone on with: %d", n, r);
        if (told->is_finished[n] && !growing.begun.is_complete)
            work_fail("upload %u was finished", n);
        if (!growing.begun.is_complete && growing.begun.received < told->uploaded[n])
            work_fail("upload %u: %llu bytes were acknowledged, %llu are there", n,
                      (unsigned long long) told->uploaded[n],
                      (unsigned long long) growing.begun.received);
        while (!growing.begun.is_complete && !is_finished && r == 0)
            r = go_on(work, n, &is_finished);
        if (r)
            work_fail("upload %u does not go on: %d", n, r);
        check_content(work, n);
    }
}
