/* SPDX-License-Identifier: Apache-2.0 */
#include "server/export/export.h"

#include <errno.h>
#include <pthread.h>
#include <snappy-c.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/file.h"
#include "common/base/rand.h"
#include "common/log/log.h"
#include "server/export/batch.h"
#include "server/export/link.h"
#include "server/export/pace.h"

#define LOOK_US INT64_C(250000)       /* for new rows; what came meanwhile goes together */
#define KEEP_US INT64_C(1000000)      /* the place is made durable at most so often */
#define SAY_AWAY_US INT64_C(60000000) /* again, while the receiver is away */
#define TOKEN_BYTES 8192u

struct counters {
    atomic_bool is_up;
    atomic_uint_fast64_t n_samples, n_requests, n_bytes;
    atomic_uint_fast64_t n_failed_network, n_failed_server, n_failed_throttled, n_failed_denied;
    atomic_uint_fast64_t n_dropped_bad, n_dropped_large, n_dropped_other, n_unreadable;
    atomic_int_fast64_t current_us; /* mono: all that was committed then was accepted */
};

struct export
{
    struct store *store;
    struct store_follower *follower;
    char *url_text;
    struct http_url url;
    struct prom_label *labels; /* a block with their texts */
    struct link *link;
    struct batch *batch;
    pthread_t thread;
    bool is_started, is_joined;
    struct counters counters;

    struct { /* the thread's */
        struct rand rand;
        struct export_way way; /* in use */
        struct buf body, packed, head, token, authorization;
        mono_us kept;
        bool is_unkept; /* accepted since */
        unsigned n_failed;
        mono_us away_since, said_away;
    } own;

    struct {
        pthread_mutex_t lock;
        pthread_cond_t wake;
        bool is_stopping;
        bool has_way; /* one that the thread has not taken */
        struct export_way way;
    } shared;
};

/* ---- ways ---- */

static void way_deinit(struct export_way *way)
{
    tls_context_unref(way->context);
    free((char *) (uintptr_t) way->token_file);
    *way = (struct export_way){ .context = NULL };
}

static int way_copy(const struct export_way *way, struct export_way *ret)
{
    char *token_file = strdup(way->token_file ? way->token_file : "");

    if (!token_file)
        return fault(-ENOMEM, "no memory for a path");
    *ret = *way;
    ret->token_file = token_file;
    ret->context = way->context ? tls_context_ref(way->context) : NULL;
    return 0;
}

/* The newest way, if it is another. */
static void take_way(struct export *export)
{
    bool is_new;

    pthread_mutex_lock(&export->shared.lock);
    is_new = export->shared.has_way;
    if (is_new) {
        way_deinit(&export->own.way);
        export->own.way = export->shared.way;
        export->shared.way = (struct export_way){ .context = NULL };
        export->shared.has_way = false;
    }
    pthread_mutex_unlock(&export->shared.lock);
    if (is_new)
        link_set_context(export->link, export->own.way.context);
}

/* ---- waiting ---- */

static bool is_stopping(struct export *export)
{
    bool is_stopping;

    pthread_mutex_lock(&export->shared.lock);
    is_stopping = export->shared.is_stopping;
    pthread_mutex_unlock(&export->shared.lock);
    return is_stopping;
}

/* Until then, the stop, or another way. The kernel's clock, whatever source tests give to ours. */
static void rest(struct export *export, int64_t wait_us)
{
    struct timespec at;
    int rc = 0;

    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec += wait_us / 1000000;
    at.tv_nsec += wait_us % 1000000 * 1000;
    if (at.tv_nsec >= 1000000000) {
        at.tv_sec++;
        at.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&export->shared.lock);
    while (rc == 0 && !export->shared.is_stopping && !export->shared.has_way)
        rc = pthread_cond_timedwait(&export->shared.wake, &export->shared.lock, &at);
    pthread_mutex_unlock(&export->shared.lock);
}

/* ---- what is said ---- */

static uint64_t queued_chunks(struct export *export)
{
    struct store_follow_lag lag;

    store_follow_lag(export->follower, &lag);
    return lag.n_chunks;
}

static void say_away(struct export *export, const char *reason, const char *remedy)
{
    mono_us now = clock_mono();
    bool is_first = export->own.n_failed == 1;

    if (is_first)
        export->own.away_since = now;
    else if (now.us - export->own.said_away.us < SAY_AWAY_US)
        return;
    export->own.said_away = now;
    log_event(LOG_WARN, "remote_write_away", LOG_S("receiver", export->url.authority),
              LOG_S("reason", reason), LOG_S("remedy", remedy),
              LOG_I("away_ms", (now.us - export->own.away_since.us) / 1000),
              LOG_U("tries", export->own.n_failed), LOG_U("queued_chunks", queued_chunks(export)));
}

static void say_back(struct export *export)
{
    struct store_follow_lag lag;

    store_follow_lag(export->follower, &lag);
    log_event(LOG_INFO, "remote_write_back", LOG_S("receiver", export->url.authority),
              LOG_I("away_ms", (clock_mono().us - export->own.away_since.us) / 1000),
              LOG_U("tries", export->own.n_failed), LOG_U("queued_chunks", lag.n_chunks),
              LOG_U("lost_chunks", lag.n_lost_chunks));
}

/* ---- one request ---- */

/* Outcomes: LINK_FAILED, with the answer's why. */
static int read_token(struct export *export, struct link_answer *answer)
{
    struct buf *token = &export->own.token;
    const char *path = export->own.way.token_file;
    size_t len;
    int r;

    buf_clear(&export->own.authorization);
    if (!path[0])
        return 0;
    buf_clear(token);
    r = file_read(path, TOKEN_BYTES, token);
    if (r < 0)
        return pass(r);
    for (len = token->len; len > 0 && strchr(" \t\r\n", token->data[len - 1]); len--)
        ;
    for (size_t i = 0; r == 0 && i < len; i++)
        r = token->data[i] <= ' ' || token->data[i] > '~' ? LINK_FAILED : 0;
    if (r != 0 || len == 0) {
        snprintf(answer->why, sizeof(answer->why),
                 "remote_write.bearer_token_file: %.150s has no token that can be read", path);
        return LINK_FAILED;
    }
    buf_append_text(&export->own.authorization, "Bearer ");
    buf_append(&export->own.authorization, token->data, len);
    return buf_failed(&export->own.authorization) ? fault(-ENOMEM, "no memory for a token") : 0;
}

static int put_head(struct export *export)
{
    struct http_header headers[5] = {
        { "content-type", "application/x-protobuf" },
        { "content-encoding", "snappy" },
        { "x-prometheus-remote-write-version", "0.1.0" },
        { "user-agent", "sentinel-hub/" SENTINEL_VERSION },
        { "authorization", buf_text(&export->own.authorization) },
    };
    const struct http_request request = {
        .method = "POST",
        .target = export->url.target,
        .host = export->url.authority,
        .headers = headers,
        .n_headers = export->own.authorization.len > 0 ? 5 : 4,
        .framing = HTTP_LENGTH,
        .body_bytes = export->own.packed.len,
    };

    buf_clear(&export->own.head);
    http_put_request(&export->own.head, &request);
    return buf_failed(&export->own.head) ? fault(-ENOMEM, "no memory for a request") : 0;
}

/* Outcomes: enum link_outcome. */
static int post(struct export *export, struct link_answer *answer)
{
    int r;

    *answer = (struct link_answer){ .status = 0 };
    r = read_token(export, answer);
    if (r == 0)
        r = put_head(export);
    if (r == 0)
        r = link_post(export->link, buf_span(&export->own.head), buf_span(&export->own.packed),
                      export->own.way.timeout_us, answer);
    return pass(r);
}

static void count_failed(struct export *export, bool is_answered, enum pace_class class)
{
    struct counters *to = &export->counters;

    atomic_store(&to->is_up, false);
    if (!is_answered)
        atomic_fetch_add(&to->n_failed_network, 1);
    else if (class == PACE_SERVER)
        atomic_fetch_add(&to->n_failed_server, 1);
    else if (class == PACE_THROTTLED)
        atomic_fetch_add(&to->n_failed_throttled, 1);
    else
        atomic_fetch_add(&to->n_failed_denied, 1);
}

static void drop(struct export *export,
                 enum pace_class class,
                 const struct link_answer *answer,
                 size_t n_samples)
{
    struct counters *to = &export->counters;

    atomic_fetch_add(class == PACE_BAD     ? &to->n_dropped_bad
                     : class == PACE_LARGE ? &to->n_dropped_large
                                           : &to->n_dropped_other,
                     n_samples);
    log_peer(LOG_WARN, "remote_write_dropped", LOG_S("receiver", export->url.authority),
             LOG_U("status", answer->status), LOG_U("samples", n_samples),
             LOG_S("reason", answer->why), LOG_S("remedy", pace_remedy(class)));
}

/* The request is done with: taken, or never wanted. */
static void settle(struct export *export,
                   enum pace_class class,
                   const struct link_answer *answer,
                   size_t n_samples)
{
    if (export->own.n_failed > 0)
        say_back(export);
    export->own.n_failed = 0;
    atomic_store(&export->counters.is_up, true);
    if (class != PACE_ACCEPTED) {
        drop(export, class, answer, n_samples);
        return;
    }
    atomic_fetch_add(&export->counters.n_samples, n_samples);
    atomic_fetch_add(&export->counters.n_requests, 1);
    atomic_fetch_add(&export->counters.n_bytes, export->own.packed.len);
}

/* The place, durable, where there is a new one. */
static void keep(struct export *export, int64_t at_most_every_us)
{
    int r;

    if (!export->own.is_unkept || clock_mono().us - export->own.kept.us < at_most_every_us)
        return;
    r = store_follow_keep(export->follower);
    if (r == STORE_FULL)
        log_peer(LOG_WARN, "remote_write_place_not_kept",
                 LOG_S("remedy", "free space on the hub's disk; after a kill samples go twice"));
    export->own.is_unkept = r < 0; /* the fault is in the log */
    export->own.kept = clock_mono();
}

/* What is packed, until it is settled. Outcomes: LINK_STOPPED. */
static int send_request(struct export *export, size_t n_samples)
{
    while (!is_stopping(export)) {
        struct link_answer answer;
        enum pace_class class;
        char reason[320];
        int64_t asked_us;
        int r;

        take_way(export);
        r = post(export, &answer);
        if (r < 0 || r == LINK_STOPPED)
            return pass(r);
        class = pace_classify(answer.status);
        if (r == LINK_OK && (class == PACE_ACCEPTED || class >= PACE_BAD)) {
            settle(export, class, &answer, n_samples);
            return 0;
        }
        export->own.n_failed++;
        count_failed(export, r == LINK_OK, class);
        if (r == LINK_OK)
            snprintf(reason, sizeof(reason), "%u %s %s", answer.status,
                     http_status_name(answer.status), answer.why);
        else
            snprintf(reason, sizeof(reason), "%s", answer.why);
        say_away(export, reason,
                 r == LINK_OK ? pace_remedy(class) : "see that the receiver runs and is reached");
        keep(export, 0); /* of what went before: it may be long until there is more */
        asked_us = r == LINK_OK ? pace_retry_after_us(answer.retry_after, clock_wall()) : 0;
        rest(export, pace_wait_us(export->own.n_failed, asked_us, rand_unit(&export->own.rand)));
    }
    return LINK_STOPPED;
}

static int pack(struct export *export)
{
    struct buf *from = &export->own.body, *to = &export->own.packed;
    size_t len = snappy_max_compressed_length(from->len);

    buf_clear(to);
    if (!buf_extend(to, len) ||
        snappy_compress((const char *) from->data, from->len, (char *) to->data, &len) != SNAPPY_OK)
        return fault(-ENOMEM, "cannot compress a request");
    to->len = len;
    return 0;
}

/* ---- batches ---- */

struct reading {
    struct export *export;
    bool is_full;
};

static bool on_row(void *ctx, const struct store_followed *row)
{
    struct reading *reading = ctx;

    reading->is_full =
        !batch_add(reading->export->batch, row, reading->export->own.way.batch_samples);
    return !reading->is_full;
}

/* Outcomes: LINK_STOPPED. */
static int send_batch(struct export *export)
{
    for (;;) {
        size_t n_samples = 0;
        int r;

        buf_clear(&export->own.body);
        r = batch_put_request(export->batch, export->own.way.batch_samples, &export->own.body,
                              &n_samples);
        if (r != 0 || n_samples == 0)
            return pass(r);
        r = pack(export);
        if (r == 0)
            r = send_request(export, n_samples);
        if (r != 0)
            return pass(r);
    }
}

/* Reads, sends, keeps. *ret_is_behind: there may be more at once. Outcomes: LINK_STOPPED. */
static int work(struct export *export, bool *ret_is_behind)
{
    struct reading reading = { .export = export };
    const struct store_follow_read how = { .on_row = on_row, .ctx = &reading };
    mono_us begun = clock_mono();
    int r;

    batch_clear(export->batch);
    r = store_follow_read(export->follower, &how);
    if (r == 0 && batch_has_failed(export->batch))
        r = fault(-ENOMEM, "no memory for a batch");
    atomic_store(&export->counters.n_unreadable, batch_n_unreadable(export->batch));
    if (r == 0 && !batch_is_empty(export->batch))
        r = send_batch(export);
    if (r != 0)
        return pass(r);
    store_follow_done(export->follower);
    export->own.is_unkept |= !batch_is_empty(export->batch);
    keep(export, KEEP_US);
    if (!reading.is_full)
        atomic_store(&export->counters.current_us, begun.us);
    *ret_is_behind = reading.is_full;
    return 0;
}

static void *thread_main(void *arg)
{
    struct export *export = arg;

    (void) pthread_setname_np(pthread_self(), "remote_write");
    log_event(LOG_INFO, "remote_write_started", LOG_S("receiver", export->url.authority),
              LOG_U("queued_chunks", queued_chunks(export)));
    while (!is_stopping(export)) {
        bool is_behind = false;
        int r;

        take_way(export);
        r = work(export, &is_behind);
        if (r < 0) {
            /* The fault is in the log. */
            store_follow_again(export->follower);
            rest(export, KEEP_US);
        } else if (r == 0 && !is_behind) {
            rest(export, LOOK_US);
        }
    }
    keep(export, 0);
    return NULL;
}

/* ---- public ---- */

static size_t label_text_bytes(const struct prom_label *labels, size_t n)
{
    size_t len = 0;

    for (size_t i = 0; i < n; i++)
        len += strlen(labels[i].name) + strlen(labels[i].value) + 2;
    return len;
}

static char *put_text(char **at, const char *text)
{
    char *to = *at;
    size_t size = strlen(text) + 1;

    memcpy(to, text, size);
    *at += size;
    return to;
}

static int copy_options(struct export *export, const struct export_options *options)
{
    size_t n = options->n_labels, table = n * sizeof(*options->labels);
    char *at;
    int r;

    export->url_text = strdup(options->url);
    export->labels = malloc(table + label_text_bytes(options->labels, n) + 1);
    if (!export->url_text || !export->labels)
        return fault(-ENOMEM, "no memory for an exporter");
    at = (char *) export->labels + table;
    for (size_t i = 0; i < n; i++) {
        export->labels[i].name = put_text(&at, options->labels[i].name);
        export->labels[i].value = put_text(&at, options->labels[i].value);
    }
    r = http_url_parse(export->url_text, &export->url);
    ensure(r == 0 && export->url.is_tls == (options->way.context != NULL));
    return pass(way_copy(&options->way, &export->own.way));
}

int export_new(struct export **ret, const struct export_options *options)
{
    CLEANUP(export_freep) struct export *export = calloc(1, sizeof(*export));
    pthread_condattr_t attributes;
    int r;

    if (!export)
        return fault(-ENOMEM, "no memory for an exporter");
    pthread_mutex_init(&export->shared.lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&export->shared.wake, &attributes);
    pthread_condattr_destroy(&attributes);
    export->store = options->store;
    atomic_store(&export->counters.current_us, clock_mono().us);
    rand_init_from_system(&export->own.rand);
    r = copy_options(export, options);
    if (r == 0)
        r = link_new(&export->link, &export->url);
    if (r == 0)
        r = batch_new(&export->batch, export->store, export->labels, options->n_labels);
    if (r == 0)
        r = store_follow(export->store, EXPORT_FOLLOWER, &export->follower);
    if (r != 0)
        return pass(r);
    link_set_context(export->link, export->own.way.context);
    *ret = take(export);
    return 0;
}

int export_start(struct export *export)
{
    int r = pthread_create(&export->thread, NULL, thread_main, export);

    ensure(!export->is_started);
    if (r != 0)
        return fault(-r, "cannot start the thread of remote_write");
    export->is_started = true;
    return 0;
}

int export_set_way(struct export *export, const struct export_way *way)
{
    struct export_way fresh;
    int r = way_copy(way, &fresh);

    if (r != 0)
        return pass(r);
    pthread_mutex_lock(&export->shared.lock);
    way_deinit(&export->shared.way);
    export->shared.way = fresh;
    export->shared.has_way = true;
    pthread_cond_signal(&export->shared.wake);
    pthread_mutex_unlock(&export->shared.lock);
    return 0;
}

void export_stop(struct export *export, int64_t patience_us)
{
    pthread_mutex_lock(&export->shared.lock);
    export->shared.is_stopping = true;
    pthread_cond_signal(&export->shared.wake);
    pthread_mutex_unlock(&export->shared.lock);
    link_stop(export->link, (mono_us){ clock_mono().us + patience_us });
}

void export_join(struct export *export)
{
    if (!export->is_started || export->is_joined)
        return;
    export->is_joined = true;
    ensure(pthread_join(export->thread, NULL) == 0);
}

struct export *export_free(struct export *export)
{
    if (!export)
        return NULL;
    if (export->is_started && !export->is_joined) {
        export_stop(export, 0);
        export_join(export);
    }
    store_unfollow(export->follower);
    batch_free(export->batch);
    link_free(export->link);
    way_deinit(&export->own.way);
    way_deinit(&export->shared.way);
    buf_deinit(&export->own.body);
    buf_deinit(&export->own.packed);
    buf_deinit(&export->own.head);
    buf_deinit(&export->own.token);
    buf_deinit(&export->own.authorization);
    pthread_cond_destroy(&export->shared.wake);
    pthread_mutex_destroy(&export->shared.lock);
    free(export->labels);
    free(export->url_text);
    free(export);
    return NULL;
}

void export_get_stats(struct export *export, struct export_stats *ret)
{
    const struct counters *from = &export->counters;
    struct store_follow_lag lag;

    store_follow_lag(export->follower, &lag);
    *ret = (struct export_stats){
        .is_up = atomic_load(&from->is_up),
        .n_samples = atomic_load(&from->n_samples),
        .n_requests = atomic_load(&from->n_requests),
        .n_bytes = atomic_load(&from->n_bytes),
        .n_failed_network = atomic_load(&from->n_failed_network),
        .n_failed_server = atomic_load(&from->n_failed_server),
        .n_failed_throttled = atomic_load(&from->n_failed_throttled),
        .n_failed_denied = atomic_load(&from->n_failed_denied),
        .n_dropped_bad = atomic_load(&from->n_dropped_bad),
        .n_dropped_large = atomic_load(&from->n_dropped_large),
        .n_dropped_other = atomic_load(&from->n_dropped_other),
        .n_unreadable = atomic_load(&from->n_unreadable),
        .n_lag_chunks = lag.n_chunks,
        .n_lost_chunks = lag.n_lost_chunks,
        .lag_us = clock_mono().us - atomic_load(&from->current_us),
    };
}
