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
 * cannot be understood is counted, in sentinel.agent.collector.errors by collector; one that this
 * user may not read in sentinel.agent.collector.denied, with one line in the log for each
 * collector.
 *
 * What can hang (a mount, a sensor, somebody's program) runs on a helper thread. A round waits for
 * it until a deadline, goes on without it, and does not start it again before it came back; what it
 * found is in the round after that.
 *
 * What disks, mounts, interfaces, ... are told of is chosen by pairs of regular expressions,
 * include and exclude, found anywhere in the name (common/regex: RE2). Expressions and not globs,
 * as node_exporter's are: its users bring theirs, and its defaults are ours.
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

struct loop;
struct collect;

#define COLLECT_MISSING_ROUNDS 10
#define COLLECT_MAX_COLLECTORS 48

typedef int collect_statvfs_fn(const char *path, struct statvfs *ret);
/* The SMART log of an NVMe drive (512 bytes, page 02h). 0; -errno; above 0: the drive's status. */
typedef int collect_nvme_log_fn(int root_fd, const char *drive, uint8_t to[static 512]);

/* The filters: enum name, name in the settings, and what is left out by default. */
#define COLLECT_FILTERS(F)                                         \
    F(DISKS, "disk", COLLECT_EXCLUDE_DISKS)                        \
    F(MOUNTS, "filesystem.mount", COLLECT_EXCLUDE_MOUNTS)          \
    F(MOUNT_TYPES, "filesystem.type", COLLECT_EXCLUDE_MOUNT_TYPES) \
    F(INTERFACES, "network", COLLECT_EXCLUDE_INTERFACES)           \
    F(SENSORS, "sensor", "")                                       \
    F(UNITS, "systemd.unit", COLLECT_EXCLUDE_UNITS)                \
    F(CGROUPS, "cgroup", "")                                       \
    F(PROCESSES, "process", "")                                    \
    F(METRICS, "metrics", "")
/* Parts of a disk that is counted whole, memory and loops. */
#define COLLECT_EXCLUDE_DISKS \
    "^(z?ram|loop|fd|(h|s|v|xv)d[a-z]+|(nvme[0-9]+n|mmcblk)[0-9]+p)[0-9]+$"
#define COLLECT_EXCLUDE_MOUNTS                                          \
    "^/(dev|proc|sys|run/credentials/.+|run/user/.+|var/lib/docker/.+|" \
    "var/lib/containers/storage/.+|var/lib/kubelet/.+)($|/)"
#define COLLECT_EXCLUDE_MOUNT_TYPES                                                              \
    "^(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|efivarfs|erofs|fusectl|" \
    "fuse\\.lxcfs|fuse\\.portal|hugetlbfs|iso9660|mqueue|nfsd|nsfs|overlay|proc|procfs|pstore|"  \
    "ramfs|rootfs|rpc_pipefs|securityfs|selinuxfs|squashfs|sysfs|tracefs)$"
/* The host's ends of containers: they come and go by the thousand under random names. */
#define COLLECT_EXCLUDE_INTERFACES "^veth"
#define COLLECT_EXCLUDE_UNITS "\\.(automount|device|mount|scope|slice)$"

enum collect_filter {
#define F(name, row, exclude) COLLECT_##name,
    COLLECT_FILTERS(F)
#undef F
        COLLECT_N_FILTERS
};

enum collect_text { COLLECT_TEXTFILE_DIRECTORY, COLLECT_STATSD_LISTEN, COLLECT_N_TEXTS };
enum collect_list { COLLECT_SCRAPE_TARGETS, COLLECT_EXEC_COMMANDS, COLLECT_N_LISTS };

struct collect_numbers {
    bool per_cpu;           /* system.cpu.time for each logical CPU too */
    size_t n_top_processes; /* by CPU, and as many by memory; 0: none */
    int64_t top_min_age_us; /* of those */
    size_t max_cgroups;     /* told of by name */
    size_t max_custom;      /* samples of a file, a target, a program; series of statsd */
    bool allow_remote;      /* targets that are not on this machine */
    int64_t scrape_timeout_us, exec_timeout_us;
};

struct collect_options {
    const char *root;          /* "/" or where the machine's root is mounted; copied */
    const char *const *enable; /* names beside those that are on by default */
    size_t n_enable;
    const char *const *disable; /* wins over enable */
    size_t n_disable;
    size_t max_series;             /* more are refused, and counted */
    int64_t statvfs_timeout_us;    /* of all mount points together */
    int64_t deadline_us;           /* of each slow collector */
    bool waits_for_all;            /* a round is not over before targets and programs are through */
    collect_statvfs_fn *statvfs;   /* NULL: the system's */
    collect_nvme_log_fn *nvme_log; /* NULL: the system's */
    struct collect_numbers numbers;
    struct {
        const char *include, *exclude; /* NULL: the default; "": everything, nothing */
    } filters[COLLECT_N_FILTERS];
    const char *texts[COLLECT_N_TEXTS]; /* NULL or "": off */
    struct {
        const char *const *items;
        size_t n_items;
    } lists[COLLECT_N_LISTS];
};

enum collect_outcome {
    COLLECT_OK = 0,
    COLLECT_UNKNOWN,    /* no collector has such a name */
    COLLECT_ABSENT,     /* the root cannot be opened */
    COLLECT_BAD_FILTER, /* collect_check_filter() says why */
};

/* Outcomes: COLLECT_UNKNOWN, COLLECT_ABSENT, COLLECT_BAD_FILTER. */
int collect_new(struct collect **ret, const struct collect_options *options) MUST_USE;
/* Waits for the helper threads unless one hangs; then it is left alone, with what it holds. */
struct collect *collect_free(struct collect *collect);
DEFINE_CLEANUP(struct collect *, collect_free);

/* New options, from the next round on; `root` stays. Outcomes: COLLECT_UNKNOWN, COLLECT_BAD_FILTER
 * (nothing changed). */
int collect_configure(struct collect *collect, const struct collect_options *options) MUST_USE;

/* The names, in the order they run; NULL at the end. */
const char *const *collect_names(void);
/* The one that is nearest to a name nobody has; NULL: none is near. */
const char *collect_nearest(const char *name);

#define COLLECT_FILTER_ERROR_BYTES 160
/* Outcomes: COLLECT_BAD_FILTER; ret_error has the reason. */
int collect_check_filter(const char *pattern, char ret_error[COLLECT_FILTER_ERROR_BYTES]) MUST_USE;
/* NULL: they are fine; else what to write instead. */
const char *collect_check_target(const char *target, bool allow_remote);
const char *collect_check_command(const char *command);
const char *collect_check_listen(const char *listen);
/* "disk", for the settings' names. */
const char *collect_filter_name(enum collect_filter filter);

/*
 * Begins to hear statsd where the options say so, on the loop, until collect_stop(); called again
 * after collect_configure(). What fails is in the log, and the rest goes on.
 */
void collect_start(struct collect *collect, struct loop *loop);
void collect_stop(struct collect *collect);

/* What the self collector says about the agent's queue. */
void collect_set_ledgers(struct collect *collect, const struct spool_ledger ledgers[SPOOL_SIGNALS]);

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

/* How a collector did in the last round that it took part in. */
struct collect_report {
    const char *collector;
    bool is_on;
    uint64_t n_errors;  /* since the start */
    uint64_t n_denied;  /* files that this user may not read */
    const char *denied; /* the first of them; borrowed until the next round */
};
/* false: there are no more. */
bool collect_get_report(const struct collect *collect, size_t at, struct collect_report *ret);

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
