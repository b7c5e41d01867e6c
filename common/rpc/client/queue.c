/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/rpc/client/private.h"

#define DEFAULT_CONNECT_TIMEOUT_US (20 * INT64_C(1000000))
#define DEFAULT_MAX_MESSAGE_BYTES (64u << 20)
#define DEFAULT_SEND_QUEUE_BYTES (1u << 20)

/* ---- tags ---- */

/* On a thread of core's. */
static void on_done(grpc_completion_queue_functor *functor, int ok)
{
    struct client_tag *tag = container_of(functor, struct client_tag, functor);
    struct rpc_queue *queue = tag->queue;

    tag->ok = ok != 0;
    tag->next = NULL;
    /*
     * All under the lock: once the loop sees the tag it may free it, and the queue with the last
     * one.
     */
    pthread_mutex_lock(&queue->shared.lock);
    *queue->shared.end = tag;
    queue->shared.end = &tag->next;
    if (!queue->shared.is_awake) {
        queue->shared.is_awake = true;
        loop_wakeup_fire(&queue->loop.wakeup);
        pthread_cond_signal(&queue->shared.has_news);
    }
    pthread_mutex_unlock(&queue->shared.lock);
}

void client_tag_init(struct client_tag *tag,
                     struct rpc_queue *queue,
                     void (*fn)(struct client_tag *tag, bool ok))
{
    *tag = (struct client_tag){ .functor.functor_run = on_done, .queue = queue, .fn = fn };
}

void client_start(grpc_call *call, const grpc_op *ops, size_t n_ops, struct client_tag *tag)
{
    tag->queue->loop.n_outstanding++;
    ensure(grpc_call_start_batch(call, ops, n_ops, tag, NULL) == GRPC_CALL_OK);
}

/* Takes what came back; when there is nothing the next tag wakes the loop. */
static struct client_tag *take_tags(struct rpc_queue *queue)
{
    struct client_tag *tags;

    pthread_mutex_lock(&queue->shared.lock);
    tags = take(queue->shared.oldest);
    queue->shared.end = &queue->shared.oldest;
    queue->shared.is_awake = tags != NULL;
    pthread_mutex_unlock(&queue->shared.lock);
    return tags;
}

/* Rounds before other parts of the loop get their turn. */
#define MAX_ROUNDS 16

static void run_tags(struct rpc_queue *queue, struct client_tag *tags)
{
    while (tags) {
        struct client_tag *tag = tags;

        tags = tag->next;
        queue->loop.n_outstanding--;
        tag->fn(tag, tag->ok);
    }
}

static void on_wakeup(struct loop_wakeup *wakeup)
{
    struct rpc_queue *queue = wakeup->ctx;

    /* While the loop is at it tags come without waking it. */
    for (int round = 0; round < MAX_ROUNDS; round++) {
        struct client_tag *tags = take_tags(queue);

        if (!tags)
            return;
        run_tags(queue, tags);
    }
    loop_wakeup_fire(wakeup);
}

/* ---- queue ---- */

static void on_shutdown(grpc_completion_queue_functor *functor, int ok)
{
    struct rpc_queue *queue = container_of(functor, struct rpc_queue, on_shutdown);

    (void) ok;
    pthread_mutex_lock(&queue->shared.lock);
    queue->shared.is_shut_down = true;
    pthread_cond_signal(&queue->shared.has_news);
    pthread_mutex_unlock(&queue->shared.lock);
}

int rpc_queue_new(struct rpc_queue **ret, struct loop *loop)
{
    struct rpc_queue *queue = calloc(1, sizeof(*queue));
    int r;

    if (!queue)
        return fault(-ENOMEM, "no memory for a call queue");
    queue->loop.loop = loop;
    queue->loop.wakeup = (struct loop_wakeup){ .fn = on_wakeup, .ctx = queue };
    queue->shared.end = &queue->shared.oldest;
    r = loop_wakeup_add(loop, &queue->loop.wakeup);
    if (r < 0) {
        free(queue);
        return pass(r);
    }
    pthread_mutex_init(&queue->shared.lock, NULL);
    pthread_cond_init(&queue->shared.has_news, NULL);
    queue->on_shutdown.functor_run = on_shutdown;
    queue->core = grpc_completion_queue_create_for_callback(&queue->on_shutdown, NULL);
    *ret = queue;
    return 0;
}

struct rpc_queue *rpc_queue_free(struct rpc_queue *queue)
{
    if (!queue)
        return NULL;
    /* Tags of calls that were let go come back cancelled. */
    while (queue->loop.n_outstanding) {
        struct client_tag *tags = take_tags(queue);

        run_tags(queue, tags);
        if (tags)
            continue;
        pthread_mutex_lock(&queue->shared.lock);
        while (!queue->shared.oldest)
            pthread_cond_wait(&queue->shared.has_news, &queue->shared.lock);
        pthread_mutex_unlock(&queue->shared.lock);
    }
    grpc_completion_queue_shutdown(queue->core);
    pthread_mutex_lock(&queue->shared.lock);
    while (!queue->shared.is_shut_down)
        pthread_cond_wait(&queue->shared.has_news, &queue->shared.lock);
    pthread_mutex_unlock(&queue->shared.lock);
    grpc_completion_queue_destroy(queue->core);
    loop_wakeup_remove(queue->loop.loop, &queue->loop.wakeup);
    pthread_cond_destroy(&queue->shared.has_news);
    pthread_mutex_destroy(&queue->shared.lock);
    free(queue);
    return NULL;
}

/* ---- channel ---- */

static void add_keepalive(struct rpc_args *args, const struct rpc_channel_options *options)
{
    if (options->keepalive_interval_us <= 0)
        return;
    rpc_args_add(args, GRPC_ARG_KEEPALIVE_TIME_MS, rpc_ms_of_us(options->keepalive_interval_us));
    if (options->keepalive_timeout_us > 0)
        rpc_args_add(args, GRPC_ARG_KEEPALIVE_TIMEOUT_MS,
                     rpc_ms_of_us(options->keepalive_timeout_us));
    rpc_args_add(args, GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
    rpc_args_add(args, GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
}

static void add_reconnect(struct rpc_args *args, const struct rpc_channel_options *options)
{
    /* Core's "minimum reconnect back-off" is what it gives an attempt. */
    rpc_args_add(args, GRPC_ARG_MIN_RECONNECT_BACKOFF_MS,
                 rpc_ms_of_us(options->connect_timeout_us > 0 ? options->connect_timeout_us
                                                              : DEFAULT_CONNECT_TIMEOUT_US));
    if (options->min_backoff_us > 0)
        rpc_args_add(args, GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS,
                     rpc_ms_of_us(options->min_backoff_us));
    if (options->max_backoff_us > 0)
        rpc_args_add(args, GRPC_ARG_MAX_RECONNECT_BACKOFF_MS,
                     rpc_ms_of_us(options->max_backoff_us));
}

/* Outcomes: RPC_BAD_METADATA. */
static int copy_metadata(struct rpc_channel *channel, const struct rpc_channel_options *options)
{
    if (options->n_metadata == 0)
        return 0;
    channel->metadata = calloc(options->n_metadata, sizeof(*channel->metadata));
    if (!channel->metadata)
        return fault(-ENOMEM, "no memory for a channel");
    for (size_t i = 0; i < options->n_metadata; i++) {
        grpc_metadata *to = &channel->metadata[channel->n_metadata++];

        to->key = grpc_slice_from_copied_string(options->metadata[i].key);
        to->value = grpc_slice_from_copied_string(options->metadata[i].value);
        if (!grpc_header_key_is_legal(to->key) || grpc_is_binary_header(to->key) ||
            !grpc_header_nonbin_value_is_legal(to->value))
            return RPC_BAD_METADATA;
    }
    return 0;
}

int rpc_channel_new(struct rpc_channel **ret,
                    struct rpc_queue *queue,
                    const struct rpc_channel_options *options)
{
    static atomic_int last_number;
    CLEANUP(rpc_channel_freep) struct rpc_channel *channel = calloc(1, sizeof(*channel));
    struct rpc_args args = { .n_args = 0 };
    int r;

    if (!channel)
        return fault(-ENOMEM, "no memory for a channel");
    r = copy_metadata(channel, options);
    if (r)
        return r < 0 ? pass(r) : RPC_BAD_METADATA;
    if (rpc_credentials_only_path(options->credentials)) {
        channel->only_path = strdup(rpc_credentials_only_path(options->credentials));
        if (!channel->only_path)
            return fault(-ENOMEM, "no memory for a channel");
    }
    channel->queue = queue;
    channel->send_queue_bytes =
        options->send_queue_bytes ? options->send_queue_bytes : DEFAULT_SEND_QUEUE_BYTES;
    add_keepalive(&args, options);
    add_reconnect(&args, options);
    rpc_args_add(&args, GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH,
                 (int) (options->max_message_bytes ? options->max_message_bytes
                                                   : DEFAULT_MAX_MESSAGE_BYTES));
    if (options->server_name)
        rpc_args_add_text(&args, GRPC_SSL_TARGET_NAME_OVERRIDE_ARG, options->server_name);
    /* A connection of its own: core shares them between channels that look alike. */
    rpc_args_add(&args, GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    rpc_args_add(&args, "sentinel.channel", atomic_fetch_add(&last_number, 1));
    rpc_args_add(&args, GRPC_ARG_ENABLE_RETRIES, 0);
    rpc_args_add(&args, GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
    rpc_args_add(&args, GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    rpc_args_add(&args, GRPC_ARG_ENABLE_CHANNELZ, 0);
    channel->core = rpc_credentials_make_channel(
        options->credentials, options->target,
        &(grpc_channel_args){ .num_args = args.n_args, .args = args.args });
    *ret = take(channel);
    return 0;
}

struct rpc_channel *rpc_channel_free(struct rpc_channel *channel)
{
    if (!channel)
        return NULL;
    if (channel->core)
        grpc_channel_destroy(channel->core);
    for (size_t i = 0; i < channel->n_metadata; i++) {
        grpc_slice_unref(channel->metadata[i].key);
        grpc_slice_unref(channel->metadata[i].value);
    }
    free(channel->metadata);
    free(channel->only_path);
    free(channel);
    return NULL;
}
