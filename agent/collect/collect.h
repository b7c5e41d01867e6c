#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Collect: what this machine says about itself, read from /proc and /sys.
 *
 * A round runs every enabled collector at one instant and gives one sample: a layout and a value
 * for each of its series. Collectors are rows of one table (name, function, on by default), a file
 * each. Series are interned for the life of the process; while the set of series stays the same, so
 * does the layout, and a round allocates nothing. A new series makes a new layout. A series that is
 * missing keeps its place and is marked absent; after COLLECT_MISSING_ROUNDS it leaves the layout.
 *
 * Names are those of OpenTelemetry's semantic conventions where they have one; the others are
 * listed in agent/README.md. Counters are in their unit (s, By), not in ticks or sectors.
 *
 * A file that is not there means that the machine has no such thing: nothing is said. One that
 * cannot be read or understood is counted, in sentinel.agent.collect.errors by collector.
 *
 * statfs() of a dead network mount hangs: it runs on a helper thread, is waited for until a
 * deadline, and a mount point is not asked again while its call hangs.
 *
 * Thread: the loop's, for everything.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/statvfs.h>

#include "agent/spool/spool.h"
#include "common/base/cleanup.h"
#include "common/identity/identity.h"

struct collect;

#define COLLECT_MISSING_ROUNDS 10

typedef int collect_statvfs_fn(const char *path, struct statvfs *ret);

struct collect_options {
    const char *root;          /* "/" or where the machine's root is mounted; copied */
    const char *const *enable; /* names beside those that are on by default */
    size_t n_enable;
    const char *const *disable; /* wins over enable */
    size_t n_disable;
    bool per_cpu;                /* system.cpu.time for each logical CPU too */
    size_t max_series;           /* more are refused, and counted */
    int64_t statvfs_timeout_us;  /* of all mount points together */
    collect_statvfs_fn *statvfs; /* NULL: the system's */
};

enum collect_outcome {
    COLLECT_OK = 0,
    COLLECT_UNKNOWN, /* no collector has such a name */
    COLLECT_ABSENT,  /* the root cannot be opened */
};

/* Outcomes: COLLECT_UNKNOWN, COLLECT_ABSENT. */
int collect_new(struct collect **ret, const struct collect_options *options) MUST_USE;
/* Waits for the helper thread unless that hangs; then it is left alone. */
struct collect *collect_free(struct collect *collect);
DEFINE_CLEANUP(struct collect *, collect_free);

/* New options, from the next round on; `root` stays. Outcomes: COLLECT_UNKNOWN (nothing changed).
 */
int collect_configure(struct collect *collect, const struct collect_options *options) MUST_USE;

/* The names, in the order they run; NULL at the end. */
const char *const *collect_names(void);
/* The one that is nearest to a name nobody has; NULL: none is near. */
const char *collect_nearest(const char *name);

/* What the self collector says about the agent's queue. */
void collect_set_ledger(struct collect *collect, const struct spool_ledger *ledger);

/* One round. ret_sample borrows until the next. */
int collect_run(struct collect *collect, struct spool_scrape *ret_sample) MUST_USE;

struct collect_totals {
    uint64_t rounds;
    uint64_t errors;         /* files that could not be read or understood */
    uint64_t refused_series; /* over max_series, of the last round */
    size_t n_series;         /* in the layout */
    int64_t last_round_us;   /* how long it took */
};
void collect_get_totals(const struct collect *collect, struct collect_totals *ret);

/* ---- the host ---- */

#define COLLECT_HOST_ROWS 10

struct collect_host {
    size_t n_attributes;
    struct {
        const char *key;
        char value[192];
    } attributes[COLLECT_HOST_ROWS]; /* host.name, host.arch, os.type, os.name, ... */
    struct identity_fingerprint fingerprint;
};
/* Facts that are not there are left out. `root` as in the options. */
void collect_read_host(const char *root, struct collect_host *ret);
