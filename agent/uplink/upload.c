/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "agent/uplink/connection.h"
#include "agent/uplink/uplink.h"
#include "common/base/fault.h"

struct uploading {
    const struct uplink_options *options;
    struct rpc_queue *queue;
    struct tls_why why;
    int outcome; /* of connecting */
};

/* The identity anew for each: it may have been renewed meanwhile. */
static int connect_again(void *ctx, struct rpc_channel **ret)
{
    CLEANUP(tls_identity_deinit) struct tls_identity identity = { 0 };
    struct uploading *uploading = ctx;
    const struct uplink_options *options = uploading->options;
    int r = 0;

    if (!options->insecure_id)
        r = tls_identity_load(options->identity, &identity, &uploading->why);
    if (r == 0)
        r = connection_open(ret,
                            &(struct connection_options){
                                .queue = uploading->queue,
                                .hub = options->hub,
                                .server_name = options->server_name,
                                .insecure_id = options->insecure_id,
                                .is_tls13_only = options->is_tls13_only,
                                .keepalive_us = options->pace.keepalive_us,
                            },
                            options->insecure_id ? NULL : &identity, &uploading->why);
    uploading->outcome = r;
    return r;
}

int uplink_upload(const struct uplink_options *options, struct send *send, struct tls_why *ret_why)
{
    CLEANUP(loop_freep) struct loop *loop = NULL;
    CLEANUP(rpc_queue_freep) struct rpc_queue *queue = NULL;
    struct uploading uploading = { .options = options };
    int r = loop_new(&loop);

    if (r == 0)
        r = rpc_queue_new(&queue, loop);
    if (r)
        return fold(r);
    uploading.queue = queue;
    send->loop = loop;
    send->connect = connect_again;
    send->connect_ctx = &uploading;
    r = send_file(send);
    *ret_why = uploading.why;
    return r == SEND_UNCONNECTED && uploading.outcome < 0 ? pass(uploading.outcome) : pass(r);
}
