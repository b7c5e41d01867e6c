/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/uplink/policy.h"

#include <time.h>

#include "common/base/ensure.h"
#include "common/rpc/rpc.h"

#define HOUR_US INT64_C(3600000000)

static bool has_reason(const struct wire_error *error, const char *reason)
{
    return error->reason && strcmp(error->reason, reason) == 0;
}

enum uplink_class uplink_classify(const struct wire_error *error, bool was_welcomed)
{
    if (has_reason(error, "SPOOL_FORKED"))
        return UPLINK_FORKED;
    /* Two of us, or another machine with our identity: to be quick only makes them fight. */
    if (has_reason(error, "SPOOL_TAKEN_OVER") || has_reason(error, "AGENT_ID_CLONED"))
        return UPLINK_SLOW;
    /* Who answers there is not the hub we know: nothing was sent. */
    if (has_reason(error, "HUB_UNTRUSTED") || has_reason(error, "HUB_NAME_MISMATCH") ||
        has_reason(error, "HUB_CERTIFICATE_EXPIRED") ||
        has_reason(error, "HUB_CERTIFICATE_NOT_YET_VALID"))
        return UPLINK_SLOW;

    switch (error->code) {
    case RPC_INVALID_ARGUMENT:
        /* A gap is about what lies between batches: the next hello mends it. */
        if (has_reason(error, "SEQUENCE_GAP"))
            return UPLINK_RETRY;
        return was_welcomed ? UPLINK_POISON : UPLINK_SLOW;
    case RPC_RESOURCE_EXHAUSTED:
        /* A limit that waiting does not lift. Statuses that gRPC makes itself come without a
         * reason. */
        if (was_welcomed && error->retry_after_ms == 0 && (error->reason || error->quota))
            return UPLINK_POISON;
        return UPLINK_RETRY;
    case RPC_UNAUTHENTICATED:
    case RPC_PERMISSION_DENIED:
    case RPC_UNIMPLEMENTED:
    case RPC_FAILED_PRECONDITION:
    case RPC_NOT_FOUND:
    case RPC_ALREADY_EXISTS:
    case RPC_OUT_OF_RANGE:
        return error->retry_after_ms ? UPLINK_RETRY : UPLINK_SLOW;
    default:
        return UPLINK_RETRY;
    }
}

const char *uplink_remedy(const struct wire_error *error)
{
    static const struct {
        const char *reason;
        const char *remedy;
    } rows[] = {
        { "SPOOL_TAKEN_OVER", "another process goes on with this agent's run, as a copy of a "
                              "running machine does: stop "
                              "it, or enrol it as an agent of its own" },
        { "AGENT_ID_CLONED",
          "another machine uses this identity: stop its agent, or enrol this one anew" },
        { "CERTIFICATE_REVOKED", "it was taken away on the hub: sentinelctl agents readmit, or a "
                                 "new token and sentinel-agent enroll" },
        { "CERTIFICATE_UNKNOWN", "the hub's registry does not have it: sentinelctl tokens create "
                                 "on the hub, sentinel-agent enroll here" },
        { "CERTIFICATE_SUPERSEDED", "it was replaced by another enrolment of this id: sentinelctl "
                                    "agents readmit, or a new token and sentinel-agent enroll" },
        { "CERTIFICATE_EXPIRED", "the hub is asked to renew it" },
        { "LINEAGE_FORKED", "two machines renew one identity: stop the copy, then on the hub: "
                            "sentinelctl agents readmit" },
        { "HUB_UNTRUSTED", "the hub's certificate does not lead to a root that this agent knows, "
                           "and no change was announced: find out who answers there; if the hub "
                           "has a new CA, a new token and sentinel-agent enroll" },
        { "HUB_NAME_MISMATCH", "the hub's certificate does not carry the name that is dialled: "
                               "correct `hub`, or name it in `server_name`" },
        { "HUB_CERTIFICATE_NOT_YET_VALID", "this machine's clock is behind: set it" },
        { "HUB_CERTIFICATE_EXPIRED", "this machine's clock is ahead: set it; if it is right, the "
                                     "hub's certificate must be renewed" },
        { UPLINK_IDENTITY_UNUSABLE,
          "enrol this agent, or name its directory with --identity; it is read again by itself" },
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (has_reason(error, rows[i].reason))
            return rows[i].remedy;
    if (error->code == RPC_UNAUTHENTICATED)
        return "the hub does not accept this certificate: enrol again, or have it allowed";
    if (error->code == RPC_PERMISSION_DENIED)
        return "this identity is no agent's: use the one that was made for this agent";
    if (error->code == RPC_UNIMPLEMENTED)
        return "what answers there is no hub, or an older one";
    return "see the hub's log";
}

int64_t uplink_jitter(int64_t value, double unit)
{
    return (int64_t) ((double) value * (0.8 + 0.4 * unit));
}

int64_t uplink_backoff(const struct uplink_pace *pace, unsigned n_failed, double unit)
{
    int64_t wait = pace->backoff_us;

    ensure(n_failed >= 1);
    if (n_failed == 1)
        return (int64_t) ((double) pace->spread_us * unit);
    for (unsigned i = 2; i < n_failed && wait < pace->max_backoff_us; i++)
        wait *= 2;
    return uplink_jitter(wait < pace->max_backoff_us ? wait : pace->max_backoff_us, unit);
}

int64_t uplink_stamp(const struct uplink_clock *clock, wall_us time, int64_t boot_us)
{
    int64_t by_hub, apart;

    if (!clock->is_known)
        return time.us;
    by_hub = clock->hub_us + (boot_us - clock->boot_us);
    apart = by_hub - time.us;
    return apart > HOUR_US || apart < -HOUR_US ? by_hub : time.us;
}

/* The hub's clock minus the boot clock of the batch's boot; false: nobody knows. */
static bool
boot_offset(const struct uplink_clock *clock, const struct spool_item *item, int64_t *ret_us)
{
    if (item->is_this_boot && clock->is_known)
        *ret_us = clock->hub_us - clock->boot_us;
    else if (item->has_boot_offset)
        *ret_us = item->boot_offset_us;
    else
        return false;
    return true;
}

int64_t uplink_stamp_scrape(const struct uplink_clock *clock, const struct spool_item *item)
{
    const struct uplink_clock known = { .is_known = true };
    struct uplink_clock other = known; /* at boot */

    if (!boot_offset(clock, item, &other.hub_us))
        return item->scrape.time.us;
    return uplink_stamp(&other, item->scrape.time, item->scrape.boot_us);
}

int64_t uplink_log_offset(const struct uplink_clock *clock, const struct spool_item *item)
{
    int64_t offset_us;

    if (!boot_offset(clock, item, &offset_us))
        return 0;
    offset_us -= item->stamp_offset_us;
    return offset_us > HOUR_US || offset_us < -HOUR_US ? offset_us : 0;
}

int64_t uplink_hub_now(const struct uplink_clock *clock)
{
    return clock->is_known ? clock->hub_us + (uplink_boot_us() - clock->boot_us) : 0;
}

bool uplink_clocks_agree(const struct uplink_clock *clock, wall_us now)
{
    int64_t hub_us = uplink_hub_now(clock);

    return clock->is_known && hub_us >= now.us - HOUR_US && hub_us <= now.us + HOUR_US;
}

void uplink_bucket_set(struct uplink_bucket *bucket, uint64_t rate)
{
    if (bucket->rate != rate)
        *bucket = (struct uplink_bucket){ .rate = rate, .tokens = (double) rate };
}

bool uplink_bucket_has(struct uplink_bucket *bucket, int64_t now_us, double part)
{
    double rate = (double) bucket->rate;

    if (bucket->rate == 0)
        return true;
    if (bucket->at_us)
        bucket->tokens += rate * (double) (now_us - bucket->at_us) / 1e6;
    bucket->at_us = now_us;
    if (bucket->tokens > rate)
        bucket->tokens = rate;
    return bucket->tokens > rate * part;
}

void uplink_bucket_take(struct uplink_bucket *bucket, size_t bytes)
{
    bucket->tokens -= (double) bytes;
}

int64_t uplink_boot_us(void)
{
    struct timespec now;

    if (clock_gettime(CLOCK_BOOTTIME, &now) < 0)
        return clock_mono().us;
    return (int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}
