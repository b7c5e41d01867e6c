/* SPDX-License-Identifier: Apache-2.0 */
#include "server/upload/upload.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/list.h"
#include "common/base/map.h"
#include "common/base/text.h"
#include "common/crypto/crypto.h"
#include "server/upload/inside.h"

_Static_assert(CRYPTO_HASH_STATE_BYTES == STORE_OBJECT_HASH_BYTES, "one goes into the other");

#define SMALL_BYTES 16384u /* are not worth a block */
#define SPARE_BLOCKS (UPLOAD_ALL_BYTES / UPLOAD_CHUNK_BYTES)

struct uploads {
    struct store *store;
    _Atomic uint32_t n_refs; /* the owner and each stream's memory */
    _Atomic uint32_t n_open;
    _Atomic uint64_t n_under_way; /* bytes, of all streams */
    /* Chunks' memory that is used again while an upload is open: to give it back to the kernel and
     * get it anew costs as much as a copy. */
    struct {
        pthread_mutex_t lock;
        uint8_t *blocks[SPARE_BLOCKS];
        size_t n;
    } spare;
    struct {
        pthread_mutex_t lock;
        struct uploads_limits limits;
        struct map agents; /* number -> struct places; those that have some */
    } places;
};

struct places {
    uint32_t agent, n;
};

/* A job for the store, with what it borrows: on pages of its own, as the store likes it best. */
struct work {
    struct store_object_job job;
    struct upload *upload;
    uint8_t *data;
    bool is_block;
};

struct upload {
    struct uploads *uploads;
    void (*wake)(void *ctx);
    void *ctx;
    uint32_t agent;
    _Atomic uint32_t n_refs; /* the owner and each work at the store */

    struct {                      /* the call's thread */
        struct crypto_hash *hash; /* of all below `next`; NULL before UPLOAD_RESUME */
        uint64_t next;            /* offset of the next byte */
        uint64_t size;            /* of this header, or an earlier one; 0: not known */
        uint8_t sha256[CRYPTO_SHA256_BYTES];
        bool has_sha256;
        uint64_t told;  /* of shared.acked */
        bool has_ended; /* nothing more is taken */
        bool is_result_told;
    } loop;

    struct {
        pthread_mutex_t lock;
        uint64_t number;
        uint32_t lease;
        uint64_t begun_at, acked;
        uint8_t hash[STORE_OBJECT_HASH_BYTES];
        uint8_t sha256[CRYPTO_SHA256_BYTES]; /* of the whole, or as announced */
        uint64_t size;                       /* too */
        bool has_sha256;
        uint64_t n_under_way; /* bytes */
        uint32_t n_works;
        bool has_begun, is_begin_told;
        bool is_complete, had_it;
        bool has_end; /* `outcome` is the last word, once nothing is under way */
        bool is_end_told;
        bool is_woken, is_closed;
        int outcome;
        struct upload_problem problem;
    } shared;
};

/* ---- memory ---- */

/* UPLOAD_CHUNK_BYTES on pages of their own. */
static uint8_t *take_block(struct uploads *uploads)
{
    uint8_t *block = NULL;

    pthread_mutex_lock(&uploads->spare.lock);
    if (uploads->spare.n)
        block = uploads->spare.blocks[--uploads->spare.n];
    pthread_mutex_unlock(&uploads->spare.lock);
    return block ? block : aligned_alloc(STORE_OBJECT_PAGE_BYTES, UPLOAD_CHUNK_BYTES);
}

static void give_block(struct uploads *uploads, uint8_t *block)
{
    bool is_kept = false;

    pthread_mutex_lock(&uploads->spare.lock);
    if (atomic_load(&uploads->n_open) && uploads->spare.n < SPARE_BLOCKS) {
        uploads->spare.blocks[uploads->spare.n++] = block;
        is_kept = true;
    }
    pthread_mutex_unlock(&uploads->spare.lock);
    if (!is_kept)
        free(block);
}

static void free_blocks(struct uploads *uploads)
{
    pthread_mutex_lock(&uploads->spare.lock);
    while (uploads->spare.n)
        free(uploads->spare.blocks[--uploads->spare.n]);
    pthread_mutex_unlock(&uploads->spare.lock);
}

/* ---- life ---- */

int uploads_new(struct uploads **ret, struct store *store, const struct uploads_limits *limits)
{
    struct uploads *uploads = calloc(1, sizeof(*uploads));

    if (!uploads)
        return fault(-ENOMEM, "no memory for uploads");
    uploads->store = store;
    atomic_init(&uploads->n_refs, 1);
    uploads->places.limits = *limits;
    pthread_mutex_init(&uploads->spare.lock, NULL);
    pthread_mutex_init(&uploads->places.lock, NULL);
    *ret = uploads;
    return 0;
}

void uploads_set_limits(struct uploads *uploads, const struct uploads_limits *limits)
{
    pthread_mutex_lock(&uploads->places.lock);
    uploads->places.limits = *limits;
    pthread_mutex_unlock(&uploads->places.lock);
}

static void uploads_unref(struct uploads *uploads)
{
    if (atomic_fetch_sub(&uploads->n_refs, 1) != 1)
        return;
    ensure(atomic_load(&uploads->n_under_way) == 0);
    free_blocks(uploads);
    ensure(uploads->places.agents.n_entries == 0);
    map_deinit(&uploads->places.agents);
    pthread_mutex_destroy(&uploads->places.lock);
    pthread_mutex_destroy(&uploads->spare.lock);
    free(uploads);
}

struct uploads *uploads_free(struct uploads *uploads)
{
    if (!uploads)
        return NULL;
    ensure(atomic_load(&uploads->n_open) == 0);
    uploads_unref(uploads);
    return NULL;
}

static void upload_unref(struct upload *upload)
{
    if (atomic_fetch_sub(&upload->n_refs, 1) != 1)
        return;
    ensure(upload->shared.is_closed && upload->shared.n_works == 0);
    pthread_mutex_destroy(&upload->shared.lock);
    uploads_unref(upload->uploads);
    free(upload);
}

/* ---- waking ---- */

/* With the lock held: so it cannot come after upload_close(). */
static void wake_up(struct upload *upload)
{
    if (upload->shared.is_woken || upload->shared.is_closed)
        return;
    upload->shared.is_woken = true;
    upload->wake(upload->ctx);
}

/* The first end counts. With the lock held. */
static void set_end(struct upload *upload, int outcome, const struct upload_problem *problem)
{
    if (upload->shared.has_end || upload->shared.is_complete)
        return;
    upload->shared.has_end = true;
    upload->shared.outcome = outcome;
    if (problem)
        upload->shared.problem = *problem;
    wake_up(upload);
}

static int outcome_of_store(int r)
{
    switch (r) {
    case STORE_OK:
        return UPLOAD_OK;
    case STORE_DIFFERS:
        return UPLOAD_DIFFERS;
    case STORE_TOO_MUCH:
        return UPLOAD_LIMIT;
    case STORE_TAKEN:
        return UPLOAD_TAKEN;
    case STORE_FULL:
        return UPLOAD_FULL;
    case STORE_STOPPED:
        return UPLOAD_STOPPED;
    default:
        return UPLOAD_FAULT; /* also a gap: chunks are handed in without */
    }
}

static void describe(const struct store_object_job *job, int r, struct upload_problem *ret)
{
    char size[TEXT_SIZE_BYTES];

    *ret = (struct upload_problem){ .field = "" };
    if (r == STORE_DIFFERS) {
        upload_problem_of_field(ret, upload_field(job->header->kind, job->what),
                                "not what was said of this upload when it began; give another id "
                                "to send something else");
    } else if (r == STORE_TOO_MUCH) {
        if (strcmp(job->what, "uploads.agent_count") == 0)
            snprintf(size, sizeof(size), "%" PRIu64, job->limit);
        else
            (void) text_of_size(job->limit, size);
        upload_problem_of_field(ret, job->work == STORE_OBJECT_BEGIN ? "header" : "chunk",
                                "the hub's limit %s is %s; what is acknowledged stays, and the "
                                "same id goes on when there is room",
                                job->what, size);
        ret->quota = job->what;
    }
}

/* ---- works ---- */

static struct work *work_new(struct upload *upload, enum store_object_work kind, size_t n_bytes)
{
    struct work *work = calloc(1, sizeof(*work));

    if (work && kind == STORE_OBJECT_APPEND && n_bytes >= SMALL_BYTES) {
        ensure(n_bytes <= UPLOAD_CHUNK_BYTES);
        work->data = take_block(upload->uploads);
        work->is_block = true;
    } else if (work && n_bytes) {
        work->data = malloc(n_bytes);
    }
    if (!work || (n_bytes && !work->data)) {
        free(work);
        return NULL;
    }
    work->job.work = kind;
    work->upload = upload;
    return work;
}

static void on_begun(struct upload *upload, const struct store_object_job *job)
{
    upload->shared.number = job->number;
    upload->shared.lease = job->lease;
    upload->shared.has_begun = true;
    upload->shared.begun_at = upload->shared.acked = job->received;
    memcpy(upload->shared.hash, job->hash, sizeof(job->hash));
    upload->shared.is_complete = upload->shared.had_it = job->is_complete;
    upload->shared.size = job->size;
    upload->shared.has_sha256 = job->has_sha256;
    memcpy(upload->shared.sha256, job->sha256, sizeof(job->sha256));
}

static void on_finished(struct upload *upload, const struct store_object_job *job)
{
    upload->shared.is_complete = true;
    upload->shared.size = job->size;
    memcpy(upload->shared.sha256, job->sha256, sizeof(job->sha256));
}

/* The lease of a stream that was closed before it had one. */
static void give_back(struct upload *upload, const struct store_object_job *job);

/* On the store's thread. */
static void on_done(struct store_object_job *job, int r)
{
    struct work *work = container_of(job, struct work, job);
    struct upload *upload = work->upload;
    const size_t len = job->work == STORE_OBJECT_APPEND ? job->len : 0;
    bool is_stray = false;
    struct upload_problem problem;

    describe(job, r, &problem);
    atomic_fetch_sub(&upload->uploads->n_under_way, len);
    pthread_mutex_lock(&upload->shared.lock);
    upload->shared.n_under_way -= len;
    upload->shared.n_works--;
    if (r != STORE_OK && job->work != STORE_OBJECT_LEAVE) {
        set_end(upload, outcome_of_store(r), &problem);
    } else if (job->work == STORE_OBJECT_BEGIN) {
        on_begun(upload, job);
        is_stray = upload->shared.is_closed && !job->is_complete;
    } else if (job->work == STORE_OBJECT_APPEND) {
        upload->shared.acked = job->offset + job->len;
    } else if (job->work == STORE_OBJECT_END) {
        on_finished(upload, job);
    }
    wake_up(upload);
    pthread_mutex_unlock(&upload->shared.lock);
    if (is_stray)
        give_back(upload, job);
    if (work->is_block)
        give_block(upload->uploads, work->data);
    else
        free(work->data);
    free(work);
    upload_unref(upload);
}

/* Takes the work. Outcomes: UPLOAD_STOPPED. */
static int hand_in(struct upload *upload, struct work *work)
{
    const size_t len = work->job.work == STORE_OBJECT_APPEND ? work->job.len : 0;

    work->job.done = on_done;
    atomic_fetch_add(&upload->n_refs, 1);
    atomic_fetch_add(&upload->uploads->n_under_way, len);
    pthread_mutex_lock(&upload->shared.lock);
    upload->shared.n_under_way += len;
    upload->shared.n_works++;
    pthread_mutex_unlock(&upload->shared.lock);
    if (store_object_submit(upload->uploads->store, &work->job) == 0)
        return UPLOAD_OK;
    on_done(&work->job, STORE_STOPPED);
    return UPLOAD_STOPPED;
}

static void give_back(struct upload *upload, const struct store_object_job *job)
{
    struct work *work = work_new(upload, STORE_OBJECT_LEAVE, 0);

    if (!work) /* the next BEGIN takes the lease */
        return;
    work->job.number = job->number;
    work->job.lease = job->lease;
    (void) hand_in(upload, work);
}

static struct work *work_with_lease(struct upload *upload, enum store_object_work kind, size_t n)
{
    struct work *work = work_new(upload, kind, n);

    if (!work)
        return NULL;
    pthread_mutex_lock(&upload->shared.lock);
    work->job.number = upload->shared.number;
    work->job.lease = upload->shared.lease;
    pthread_mutex_unlock(&upload->shared.lock);
    return work;
}

/* ---- the header ---- */

/* The header lies in the work, whole: the caller's goes when it returns. */
struct copied {
    struct store_object object;
    struct store_attribute labels[UPLOAD_LABELS];
    char texts[];
};

static const char *copy_text(char **at, const char *text)
{
    const size_t len = strlen(text) + 1;
    char *to = *at;

    memcpy(to, text, len);
    *at += len;
    return to;
}

static size_t bytes_of_texts(const struct upload_header *header)
{
    size_t n = strlen(header->name) + strlen(header->type) + 2;

    for (size_t i = 0; i < header->n_labels; i++)
        n += strlen(header->labels[i].key) + strlen(header->labels[i].value) + 2;
    return n;
}

static void copy_header(struct copied *to, const struct upload_header *header)
{
    char *at = to->texts;

    *to = (struct copied){ .object = {
                               .agent = header->agent,
                               .kind = header->kind,
                               .has_size = header->size > 0,
                               .size = header->size,
                               .has_sha256 = header->sha256.len > 0,
                               .mode = header->mode,
                               .modified = { header->modified_us },
                               .labels = to->labels,
                               .n_labels = header->n_labels,
                           } };
    memcpy(to->object.key, header->key.data, sizeof(to->object.key));
    if (to->object.has_sha256)
        memcpy(to->object.sha256, header->sha256.data, sizeof(to->object.sha256));
    to->object.name = copy_text(&at, header->name);
    to->object.type = copy_text(&at, header->type);
    for (size_t i = 0; i < header->n_labels; i++) {
        to->labels[i].key = copy_text(&at, header->labels[i].key);
        to->labels[i].value = copy_text(&at, header->labels[i].value);
    }
}

/* ---- places ---- */

static int
busy(struct upload_problem *problem, const char *quota, const char *whose, uint32_t limit)
{
    upload_problem_of_field(problem, "", "as many uploads %s are open as there may be (%s: %u)",
                            whose, quota, limit);
    problem->quota = quota;
    return UPLOAD_BUSY;
}

/* With the lock held. */
static int add_place(struct uploads *uploads, uint32_t agent, struct upload_problem *problem)
{
    const struct uploads_limits *limits = &uploads->places.limits;
    struct places *places = map_get(&uploads->places.agents, span_of(&agent, sizeof(agent)));
    int r;

    if (places && places->n >= limits->agent_open)
        return busy(problem, "uploads.agent_open", "of this agent", limits->agent_open);
    if (atomic_load(&uploads->n_open) >= limits->max_open)
        return busy(problem, "uploads.max_open", "of all agents", limits->max_open);
    if (!places) {
        places = calloc(1, sizeof(*places));
        if (!places)
            return fault(-ENOMEM, "no memory for an upload");
        places->agent = agent;
        r = map_put(&uploads->places.agents, span_of(&places->agent, sizeof(agent)), places);
        if (r) {
            free(places);
            return pass(r);
        }
    }
    places->n++;
    atomic_fetch_add(&uploads->n_open, 1);
    return 0;
}

static int take_place(struct uploads *uploads, uint32_t agent, struct upload_problem *problem)
{
    int r;

    pthread_mutex_lock(&uploads->places.lock);
    r = add_place(uploads, agent, problem);
    pthread_mutex_unlock(&uploads->places.lock);
    return pass(r);
}

/* Returns whether it was the last one of all. */
static bool leave_place(struct uploads *uploads, uint32_t agent)
{
    const struct span key = span_of(&agent, sizeof(agent));
    struct places *places;
    bool is_last;

    pthread_mutex_lock(&uploads->places.lock);
    places = map_get(&uploads->places.agents, key);
    ensure(places && places->n > 0);
    if (--places->n == 0) {
        ensure(map_remove(&uploads->places.agents, key) == places);
        free(places);
    }
    is_last = atomic_fetch_sub(&uploads->n_open, 1) == 1;
    pthread_mutex_unlock(&uploads->places.lock);
    return is_last;
}

static struct upload *
upload_new(struct uploads *uploads, uint32_t agent, void (*wake)(void *ctx), void *ctx)
{
    struct upload *upload = calloc(1, sizeof(*upload));

    if (!upload)
        return NULL;
    upload->uploads = uploads;
    upload->agent = agent;
    upload->wake = wake;
    upload->ctx = ctx;
    atomic_init(&upload->n_refs, 1);
    pthread_mutex_init(&upload->shared.lock, NULL);
    atomic_fetch_add(&uploads->n_refs, 1);
    return upload;
}

int upload_open(struct upload **ret,
                struct uploads *uploads,
                const struct upload_header *header,
                void (*wake)(void *ctx),
                void *ctx,
                struct upload_problem *ret_problem)
{
    struct upload *upload;
    struct work *work;
    struct copied *copied;
    int r = upload_check_header(header, ret_problem);

    if (!r)
        r = take_place(uploads, header->agent, ret_problem);
    if (r)
        return pass(r);
    upload = upload_new(uploads, header->agent, wake, ctx);
    work = upload ? work_new(upload, STORE_OBJECT_BEGIN, sizeof(*copied) + bytes_of_texts(header))
                  : NULL;
    if (!work) {
        (void) leave_place(uploads, header->agent);
        if (upload) {
            upload->shared.is_closed = true;
            upload_unref(upload);
        }
        return fault(-ENOMEM, "no memory for an upload");
    }
    copied = (void *) work->data;
    ensure(copied);
    copy_header(copied, header);
    work->job.header = &copied->object;
    *ret = upload; /* before the first wake() */
    r = hand_in(upload, work);
    if (r == UPLOAD_OK)
        return 0;
    *ret = NULL;
    (void) upload_close(upload);
    return r;
}

struct upload *upload_close(struct upload *upload)
{
    struct work *work = NULL;
    bool has_lease;

    if (!upload)
        return NULL;
    pthread_mutex_lock(&upload->shared.lock);
    upload->shared.is_closed = true;
    has_lease = upload->shared.has_begun && !upload->shared.is_complete && upload->shared.lease;
    pthread_mutex_unlock(&upload->shared.lock);
    if (has_lease)
        work = work_with_lease(upload, STORE_OBJECT_LEAVE, 0);
    if (work)
        (void) hand_in(upload, work);
    upload->loop.hash = crypto_hash_free(upload->loop.hash);
    if (leave_place(upload->uploads, upload->agent))
        free_blocks(upload->uploads);
    upload_unref(upload);
    return NULL;
}

/* ---- events ---- */

static void fill_result(struct upload *upload, struct upload_event *ret)
{
    ret->type = UPLOAD_RESULT;
    ret->number = upload->shared.number;
    ret->size = upload->shared.size;
    ret->had_it = upload->shared.had_it;
    memcpy(ret->sha256, upload->shared.sha256, sizeof(ret->sha256));
    upload->loop.is_result_told = true;
}

/* What has been told before `next` is hashed: the hash as the store keeps it goes on here. And what
 * an earlier header announced binds this stream, whose own may have left it out. */
static void fill_resume(struct upload *upload, struct upload_event *ret)
{
    ret->type = UPLOAD_RESUME;
    ret->offset = upload->shared.begun_at;
    upload->shared.is_begin_told = true;
    upload->loop.next = upload->loop.told = upload->shared.begun_at;
    upload->loop.size = upload->shared.size;
    upload->loop.has_sha256 = upload->shared.has_sha256;
    memcpy(upload->loop.sha256, upload->shared.sha256, sizeof(upload->loop.sha256));
    upload->loop.hash =
        upload->shared.begun_at ? crypto_hash_restore(upload->shared.hash) : crypto_hash_new();
}

void upload_next(struct upload *upload, struct upload_event *ret)
{
    *ret = (struct upload_event){ .type = UPLOAD_NOTHING };
    pthread_mutex_lock(&upload->shared.lock);
    if (upload->shared.is_complete) {
        if (!upload->loop.is_result_told)
            fill_result(upload, ret);
    } else if (upload->shared.has_begun && !upload->shared.is_begin_told &&
               !upload->shared.has_end) {
        fill_resume(upload, ret);
    } else if (upload->shared.is_begin_told && upload->loop.told < upload->shared.acked) {
        ret->type = UPLOAD_ACK;
        ret->offset = upload->loop.told = upload->shared.acked;
    } else if (upload->shared.has_end && !upload->shared.is_end_told &&
               upload->shared.n_works == 0) {
        ret->type = UPLOAD_END;
        ret->outcome = upload->shared.outcome;
        ret->problem = &upload->shared.problem;
        upload->shared.is_end_told = true;
    }
    if (ret->type == UPLOAD_NOTHING)
        upload->shared.is_woken = false;
    pthread_mutex_unlock(&upload->shared.lock);
}

/* ---- chunks ---- */

/* The stream takes nothing more; the answer comes behind the acks. */
static int refuse(struct upload *upload, int outcome, const struct upload_problem *problem)
{
    upload->loop.has_ended = true;
    pthread_mutex_lock(&upload->shared.lock);
    set_end(upload, outcome, problem);
    pthread_mutex_unlock(&upload->shared.lock);
    return outcome;
}

void upload_cut(struct upload *upload, int outcome)
{
    if (!upload->loop.has_ended)
        (void) refuse(upload, outcome, NULL);
}

bool upload_wants_more(struct upload *upload)
{
    uint64_t own;
    bool is_open;

    if (upload->loop.has_ended || !upload->loop.hash)
        return false;
    pthread_mutex_lock(&upload->shared.lock);
    own = upload->shared.n_under_way;
    is_open = !upload->shared.has_end && !upload->shared.is_complete;
    pthread_mutex_unlock(&upload->shared.lock);
    if (!is_open)
        return false;
    return own == 0 || (own + UPLOAD_CHUNK_BYTES <= UPLOAD_WINDOW_BYTES &&
                        atomic_load(&upload->uploads->n_under_way) < UPLOAD_ALL_BYTES);
}

static int append(struct upload *upload, struct span data)
{
    struct work *work = work_with_lease(upload, STORE_OBJECT_APPEND, data.len);

    if (!work)
        return fault(-ENOMEM, "no memory for a chunk");
    ensure(work->data && data.len > 0);
    memcpy(work->data, data.data, data.len);
    crypto_hash_update(upload->loop.hash, data);
    crypto_hash_save(upload->loop.hash, work->job.hash);
    work->job.offset = upload->loop.next;
    work->job.data = work->data;
    work->job.len = data.len;
    upload->loop.next += data.len;
    return hand_in(upload, work);
}

int upload_chunk(struct upload *upload,
                 uint64_t offset,
                 struct span data,
                 struct upload_problem *ret_problem)
{
    const uint64_t next = upload->loop.next;
    uint64_t skip;
    int r;

    ensure(upload->loop.hash);
    if (upload->loop.has_ended)
        return UPLOAD_OK;
    r = upload_check_chunk(offset, data.len, next, upload->loop.size, ret_problem);
    if (r)
        return refuse(upload, r, ret_problem);
    skip = next - offset; /* it is there already */
    if (skip >= data.len)
        return UPLOAD_OK;
    r = append(upload, span_of(data.data + skip, data.len - skip));
    return r < 0 ? pass(r) : r;
}

/* ---- the end ---- */

/* What was received can never become what was announced. */
static int drop(struct upload *upload, const struct upload_problem *problem)
{
    struct work *work = work_with_lease(upload, STORE_OBJECT_RESET, 0);

    if (!work)
        return fault(-ENOMEM, "no memory for an upload");
    if (hand_in(upload, work) != UPLOAD_OK)
        return UPLOAD_STOPPED;
    return refuse(upload, UPLOAD_MISMATCH, problem);
}

int upload_finish(struct upload *upload,
                  uint64_t size,
                  struct span sha256,
                  struct upload_problem *ret_problem)
{
    uint8_t digest[CRYPTO_SHA256_BYTES];
    char ours[2 * CRYPTO_SHA256_BYTES + 1];
    struct span wanted = sha256;
    struct work *work;
    int r;

    ensure(upload->loop.hash);
    if (upload->loop.has_ended)
        return UPLOAD_OK;
    r = upload_check_end(size, sha256, upload->loop.next, upload->loop.size,
                         upload->loop.has_sha256 ? upload->loop.sha256 : NULL, ret_problem);
    if (r)
        return refuse(upload, r, ret_problem);
    if (wanted.len == 0)
        wanted = span_of(upload->loop.sha256, sizeof(upload->loop.sha256));
    crypto_hash_finish(upload->loop.hash, digest);
    if (memcmp(digest, wanted.data, sizeof(digest)) != 0) {
        upload_problem_of_field(ret_problem, sha256.len ? "end.sha256" : "header.sha256",
                                "what came has %s; it is dropped: send it again, from offset 0 "
                                "(did the file change meanwhile?)",
                                text_of_hex(digest, sizeof(digest), ours));
        return drop(upload, ret_problem);
    }
    work = work_with_lease(upload, STORE_OBJECT_END, 0);
    if (!work)
        return fault(-ENOMEM, "no memory for an upload");
    work->job.size = size;
    memcpy(work->job.sha256, digest, sizeof(digest));
    upload->loop.has_ended = true;
    return hand_in(upload, work);
}

/* ---- names ---- */

const char *upload_id_of(uint64_t number, char to[static UPLOAD_ID_BYTES])
{
    snprintf(to, UPLOAD_ID_BYTES, "u%" PRIu64, number);
    return to;
}

uint64_t upload_number_of(const char *id)
{
    uint64_t number;

    if (id[0] != 'u' || id[1] == '0' || text_to_u64(id + 1, &number))
        return 0;
    return number;
}
