#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What a collector works with. Private to agent/collect.
 *
 * A collector is a function that reads files and adds samples:
 *
 *     static const struct collect_metric uptime = { "system.uptime", "s", SPOOL_GAUGE };
 *
 *     void collect_uptime(struct probe *c)
 *     {
 *         char *text = collect_read(c, "proc/uptime");
 *         ...
 *         collect_add(c, &uptime, seconds, NULL);
 *     }
 *
 * It knows its probe and nothing else: what it adds lies in the probe's tray until the loop takes
 * it. So a row that is marked SLOW runs on a helper thread with the same code, and one that hangs
 * there holds nothing that others need.
 */

#include <dirent.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "agent/collect/collect.h"
#include "common/base/buf.h"
#include "common/base/map.h"
#include "common/regex/regex.h"

struct probe;

struct collect_metric {
    const char *name;
    const char *unit; /* UCUM */
    enum spool_kind kind;
};

#define ATTRIBUTES(...) ((const struct spool_attribute[]){ __VA_ARGS__, { NULL, NULL } })

/*
 * Adds a value to the round. A second one for the same series in a round is an error and dropped;
 * so is what is no finite number. Names and values are cut to what a hub takes, and bytes that are
 * no UTF-8 become question marks. NULL: no attributes.
 */
void collect_add(struct probe *probe,
                 const struct collect_metric *metric,
                 double value,
                 const struct spool_attribute *attributes);
/* How much was added until now; and back to there. */
struct probe_mark {
    size_t bytes, n_samples;
};
struct probe_mark collect_mark(const struct probe *probe);
void collect_rewind(struct probe *probe, struct probe_mark mark);

/*
 * The file's text (path below the root, without a leading /), in a buffer that the next read
 * overwrites; may be written to. NULL when it is not there, or cannot be read (then it is counted:
 * as denied when the rights are missing, as an error else).
 */
char *collect_read(struct probe *probe, const char *path);
/*
 * The first of two files that may be read. For what differs between namespaces: below another root
 * /proc/self is still this process in its container, and process 1 is who lives outside. Without
 * another root, or the right to look at process 1, there is only our own view.
 */
char *collect_read_machine(struct probe *probe, const char *of_process_1, const char *own);
/* Whether /proc/self of the root is another machine's (or container's) than ours. */
bool collect_is_elsewhere(const struct probe *probe);
/*
 * A small file (its first COLLECT_SMALL_BYTES) into the caller's memory, without the end of line;
 * NULL as collect_read(). `fmt` makes the path.
 */
#define COLLECT_SMALL_BYTES 256
char *
collect_read_small(struct probe *probe, char to[static COLLECT_SMALL_BYTES], const char *fmt, ...)
    PRINTF_LIKE(3, 4);
/* A whole number that is all there is in the file; one below zero in the second. */
bool collect_read_u64(struct probe *probe, const char *path, uint64_t *ret);
bool collect_read_number(struct probe *probe, double *ret, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* A directory below the root to be closed with closedir(); NULL when there is none. */
DIR *collect_open_directory(struct probe *probe, const char *path);
/* The next name without a leading dot; NULL at the end. */
const char *collect_next_name(DIR *directory);
/* The file was there but makes no sense. */
void collect_count_error(struct probe *probe);
/* What errno says of a path that could not be opened or read: absent, denied, or an error. */
void collect_count_failure(struct probe *probe, const char *path, int error);

/* Cuts the next line off; NULL at the end. */
char *collect_line(char **cursor);
/* Cuts the next word off; NULL at the end of the line. */
char *collect_word(char **cursor);
bool collect_u64(char **cursor, uint64_t *ret);
/* Fills as many as there are, at most `max`; a word that is no number ends it. */
size_t collect_numbers(char **cursor, uint64_t *to, size_t max);
bool collect_f64(char **cursor, double *ret);
/* "cpu17" with the prefix "cpu" is 17, and nothing behind it. */
bool collect_number_of(const char *name, const char *prefix, uint64_t *ret);

/* ---- statfs on a helper thread ---- */

struct mounts;

struct mounts_job {
    char *path; /* owned by the job list */
    struct statvfs result;
    bool is_done;
    int error; /* errno of statvfs, when is_done */
};

/* `statvfs_fn` NULL: the system's. */
struct mounts *mounts_new(collect_statvfs_fn *statvfs_fn);
struct mounts *mounts_free(struct mounts *mounts);
/* A call for this path still hangs since an earlier round. */
bool mounts_is_stuck(const struct mounts *mounts, const char *path);
size_t mounts_n_stuck(const struct mounts *mounts);
/* Empties the job list. */
void mounts_begin(struct mounts *mounts);
/* False: the list is full, or no memory. */
bool mounts_add(struct mounts *mounts, const char *path);
/* Runs the list; returns when it is through or the time is over. Then job i tells; its path is no
 * longer to be looked at. */
void mounts_run(struct mounts *mounts, int64_t timeout_us);
const struct mounts_job *mounts_job(const struct mounts *mounts, size_t i);

/* ---- the probe ---- */

/* The same for all, for the life of the process. */
struct machine {
    char *root;
    int root_fd;
    double ticks_per_second;
    double page_bytes;
};

/* What the settings say; never changed once it is made, so that a slow run keeps its own. */
struct collect_rules {
    uint32_t n_refs; /* the loop's */
    bool is_enabled[COLLECT_MAX_COLLECTORS];
    struct {
        struct regex *include, *exclude; /* NULL: everything, nothing */
    } filters[COLLECT_N_FILTERS];
    struct collect_numbers numbers;
    int64_t statvfs_timeout_us, deadline_us;
    bool waits_for_all;
    collect_statvfs_fn *statvfs;
    collect_nvme_log_fn *nvme_log;
    size_t max_series;
    char *texts[COLLECT_N_TEXTS];
    struct {
        char **items;
        size_t n_items;
    } lists[COLLECT_N_LISTS];
};
/* Outcomes: COLLECT_UNKNOWN (a collector), COLLECT_BAD_FILTER. */
int rules_new(struct collect_rules **ret, const struct collect_options *options) MUST_USE;
struct collect_rules *rules_ref(struct collect_rules *rules);
struct collect_rules *rules_unref(struct collect_rules *rules);

/* Whether the settings want this disk, mount point, interface ... */
bool collect_wants(const struct probe *probe, enum collect_filter filter, const char *item);

#define COLLECT_DENIED_BYTES 128

struct probe {
    const struct collector *collector;
    const struct machine *machine;
    const struct collect_rules *rules; /* of this run */
    struct collect *collect;           /* for self alone, which runs on the loop */
    struct buf *text;                  /* of the file read last */
    void *state;                       /* of the collector, kept between runs */

    /* Of exec: what the loop's collect_exec_stop() looks at. */
    atomic_bool is_stopping;
    _Atomic pid_t child; /* that runs, and is not yet reaped; 0: none */

    struct buf tray;
    size_t n_samples, max_samples;
    uint64_t n_refused; /* of this run, over max_samples */
    uint64_t n_errors;  /* of this run */
    uint64_t n_denied;
    char denied[COLLECT_DENIED_BYTES]; /* the first path of this run */
};

/* The collector's own memory, zeroed at first; NULL: there is none. */
void *collect_state(struct probe *probe, size_t bytes);

/* What lies in a tray, one after another: this, then unit and key. */
struct tray_sample {
    double value;
    uint32_t key_bytes, unit_bytes; /* the unit's NUL counts */
    enum spool_kind kind;
};

/* ---- the collectors ---- */

typedef void collect_fn(struct probe *probe);
typedef void collect_state_free_fn(void *state);

collect_fn collect_cpu, collect_cpufreq, collect_load, collect_memory, collect_numa, collect_paging,
    collect_disk, collect_filesystem, collect_network, collect_sockets, collect_softnet,
    collect_conntrack, collect_processes, collect_pressure, collect_uptime, collect_filehandles,
    collect_clock, collect_entropy, collect_hwmon, collect_thermal, collect_power, collect_mdadm,
    collect_nvme, collect_zfs, collect_bonding, collect_systemd, collect_cgroup, collect_textfile,
    collect_statsd, collect_scrape, collect_exec, collect_self;
collect_state_free_fn collect_processes_free, collect_filesystem_free, collect_systemd_free;

/* Ends the program that runs, and starts no other. Thread: the loop's, while the helper runs. */
void collect_exec_stop(struct probe *probe);

enum collector_manner {
    COLLECTOR_QUICK,      /* on the loop: /proc files of the kernel's own memory */
    COLLECTOR_SLOW,       /* on a helper: the round waits for it, until the deadline */
    COLLECTOR_BACKGROUND, /* on a helper: the next round takes what it has */
};

struct collector {
    const char *name;
    collect_fn *fn;
    bool is_default;
    enum collector_manner manner;
    collect_state_free_fn *state_free; /* NULL: free() */
};
/* Ends with a row without a name. */
extern const struct collector collect_registry[];
