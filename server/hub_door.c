/* SPDX-License-Identifier: Apache-2.0 */

/* Who gets in, on both listeners: an address that shows no identity may connect so often. */

#include "common/base/fault.h"
#include "server/hub_inside.h"

/* So long a connection is held back rather than refused: a token comes every few seconds, and who
 * waits for one is as slow as the limit wants. */
#define PATIENCE_US INT64_C(5000000)

static enum rpc_admission on_may_enter(void *ctx, const char *peer, int64_t *ret_delay_us)
{
    struct hub *hub = ctx;
    int64_t retry_us = 0;
    /* Only asked: it is taken once the connection has shown nothing (on_stranger). */
    int r = quota_take(hub->quota, QUOTA_CONNECTIONS, peer, 0, clock_mono(), &retry_us);

    if (r != QUOTA_EXCEEDED)
        return RPC_ADMIT;
    *ret_delay_us = retry_us;
    return retry_us <= PATIENCE_US ? RPC_ADMIT_LATER : RPC_REFUSE;
}

static void on_stranger(void *ctx, const char *peer)
{
    struct hub *hub = ctx;

    quota_charge(hub->quota, QUOTA_CONNECTIONS, peer, clock_mono());
}

struct rpc_door hub_door(struct hub *hub)
{
    return (struct rpc_door){ .may_enter = on_may_enter, .on_stranger = on_stranger, .ctx = hub };
}
