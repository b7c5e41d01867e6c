#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Quota: how often somebody may do something. Token buckets, by agent, user or address.
 *
 * Each limit is a row of limits.tbl: name, what it is counted by, so many per span of time, burst.
 * An admin changes the numbers while the hub runs (table LIMITS of `state`, which other processes
 * may write too); one name may have numbers of its own, beside those for all.
 *
 * Loopback and trusted networks are exempt from limits by address.
 *
 * A bucket that is full again is forgotten; at most QUOTA_MAX_BUCKETS are kept for each limit, and
 * when they are used up the one that is fullest goes: who hammers is never the one that goes.
 *
 * Thread:     any; a lock for each limit. Does not block.
 * Start here: quota_take() in front and in the accept loop.
 */

#include <stdbool.h>
#include <stdint.h>

#include "common/base/arena.h"
#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/span.h"
#include "server/store/store.h"

struct quota;

enum quota_limit {
#define QUOTA_LIMIT(id, name, scope, n, per_us, burst, unit, help) QUOTA_##id,
#include "server/quota/limits.tbl"
#undef QUOTA_LIMIT
    QUOTA_N_LIMITS
};

enum quota_scope { QUOTA_BY_AGENT, QUOTA_BY_USER, QUOTA_BY_ADDRESS };

enum quota_outcome {
    QUOTA_OK = 0,
    QUOTA_EXCEEDED,  /* nothing was taken */
    QUOTA_UNKNOWN,   /* no limit of this name */
    QUOTA_BAD_VALUE, /* out of range; ret_why */
    QUOTA_FULL,      /* the database has no room */
};

#define QUOTA_MAX_BUCKETS 65536u
#define QUOTA_MAX_SETTINGS 4096u /* numbers of single names, of all limits together */
#define QUOTA_MAX_N UINT64_C(1000000000)
#define QUOTA_WHO_BYTES 256  /* of a name; longer ones share the bucket of their begin */
#define QUOTA_COST_US 100000 /* of QUERY_COST's unit */

/* Reads the numbers that were set. `exempt`: CIDR texts, NULL at the end; NULL: none. Loopback
 * always is. */
int quota_open(struct quota **ret, struct store *store, const char *const *exempt) MUST_USE;
struct quota *quota_close(struct quota *quota);
DEFINE_CLEANUP(struct quota *, quota_close);
/* Reads the numbers again when the database changed; call it every 100 ms. */
int quota_refresh(struct quota *quota) MUST_USE;

/*
 * Takes `n` from the bucket of `who` (an agent's id, a user's name, or an address as
 * rpc_call_peer() has it: the port does not count, and IPv6 counts by its /64).
 *
 *   ret_retry_us   when it will do; at least 1,000.
 *
 * Outcomes: QUOTA_EXCEEDED.
 */
int quota_take(struct quota *quota,
               enum quota_limit limit,
               const char *who,
               uint32_t n,
               mono_us now,
               int64_t *ret_retry_us) MUST_USE;
/* Takes one also where it is not there: for failures that are known afterwards; the next
 * quota_take() with n = 0 asks whether anything is left. At most a whole burst can be owed. */
void quota_charge(struct quota *quota, enum quota_limit limit, const char *who, mono_us now);
/* The same of QUERY_COST by time on a reader, exact to the microsecond. */
void quota_charge_time(struct quota *quota, const char *user, int64_t spent_us, mono_us now);

/* What front tells people. */
struct quota_row {
    const char *name;  /* "uploads" */
    const char *scope; /* "agent", "user", "address"; of one name: "agent/web-1" */
    uint64_t n;        /* so many ... */
    int64_t per_us;    /* ... in this time; the burst is n too unless the row says otherwise */
    uint64_t burst;
    const char *unit, *help;
    bool is_default;
    uint64_t n_refused; /* since the start; of rows for all */
};
int quota_list(struct quota *quota,
               struct arena *arena,
               struct quota_row **ret,
               size_t *ret_n) MUST_USE;

struct quota_why {
    char text[256];
};
/*
 * Sets the numbers of a limit, for all (`who` NULL) or one; n = UINT64_MAX: back to the default.
 * In the change of the caller, who writes the audit entry there.
 * Outcomes: QUOTA_UNKNOWN, QUOTA_BAD_VALUE, STORE_FULL's is handed on as QUOTA_FULL.
 */
struct quota_setting {
    const char *name, *who;
    uint64_t n, burst; /* burst 0: n */
};
int quota_set_in(struct store_change *change,
                 const struct quota_setting *setting,
                 struct quota_why *ret_why) MUST_USE;

/* Whether an address lies in a CIDR text ("10.0.0.0/8", "fd00::/8", "192.0.2.7"); false for what is
 * none. For allow-lists too. */
bool quota_address_matches(const char *cidr, const char *peer);
bool quota_cidr_is_good(const char *cidr);
/* For store_survey(): what is wrong with a row of the table LIMITS; NULL: nothing. */
const char *quota_check_row(void *ctx, enum store_table table, struct span key, struct span value);

struct quota_stats {
    uint64_t n_refused[QUOTA_N_LIMITS]; /* since the start */
    uint64_t n_buckets;
};
void quota_get_stats(struct quota *quota, struct quota_stats *ret);
/* "uploads" */
const char *quota_limit_name(enum quota_limit limit);
