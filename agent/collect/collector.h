#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What a collector works with. Private to agent/collect.
 *
 * A collector is a function that reads files and adds samples:
 *
 *     static const struct collect_metric uptime = { "system.uptime", "s", SPOOL_GAUGE };
 *
 *     void collect_uptime(struct collect *c)
 *     {
 *         char *text = collect_read(c, "proc/uptime");
 *         ...
 *         collect_add(c, &uptime, seconds, NULL);
 *     }
 */

#include <dirent.h>

#include "agent/collect/collect.h"
#include "common/base/buf.h"
#include "common/base/map.h"

struct collect_metric {
    const char *name;
    const char *unit; /* UCUM */
    enum spool_kind kind;
};

#define ATTRIBUTES(...) ((const struct spool_attribute[]){ __VA_ARGS__, { NULL, NULL } })

/* Adds a value to the round. A second one for the same series in a round is an error and dropped.
 * NULL: no attributes. */
void collect_add(struct collect *collect,
                 const struct collect_metric *metric,
                 double value,
                 const struct spool_attribute *attributes);

/*
 * The file's text (path below the root, without a leading /), in a buffer that the next read
 * overwrites; may be written to. NULL when it is not there, or cannot be read (then it is counted).
 */
char *collect_read(struct collect *collect, const char *path);
/*
 * The first of two files that may be read. For what differs between namespaces: below another root
 * /proc/self is still this process in its container, and process 1 is who lives outside. Without
 * another root, or the right to look at process 1, there is only our own view.
 */
char *collect_read_machine(struct collect *collect, const char *of_process_1, const char *own);
/* A whole number that is all there is in the file. */
bool collect_read_u64(struct collect *collect, const char *path, uint64_t *ret);
/* The file was there but makes no sense. */
void collect_count_error(struct collect *collect);

/* Cuts the next line off; NULL at the end. */
char *collect_line(char **cursor);
/* Cuts the next word off; NULL at the end of the line. */
char *collect_word(char **cursor);
bool collect_u64(char **cursor, uint64_t *ret);
/* Fills as many as there are, at most `max`; a word that is no number ends it. */
size_t collect_numbers(char **cursor, uint64_t *to, size_t max);
bool collect_f64(char **cursor, double *ret);

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
/* Runs the list; returns when it is through or the time is over. Then job i tells. */
void mounts_run(struct mounts *mounts, int64_t timeout_us);
const struct mounts_job *mounts_job(const struct mounts *mounts, size_t i);

/* ---- state ---- */

struct collect_slot {
    struct spool_series *series;
    double value;
    uint64_t round;   /* the last that had a value */
    uint32_t missing; /* rounds in a row without */
};

#define COLLECT_MAX_COLLECTORS 24

struct collect {
    char *root;
    int root_fd;
    struct buf text;  /* of the file read last */
    const char *name; /* of the collector that runs */
    size_t at;        /* its row */

    bool is_enabled[COLLECT_MAX_COLLECTORS];
    uint64_t errors[COLLECT_MAX_COLLECTORS];
    int64_t duration_us[COLLECT_MAX_COLLECTORS];
    bool per_cpu;
    size_t max_series;
    int64_t statvfs_timeout_us;
    collect_statvfs_fn *statvfs;

    uint64_t round;
    uint64_t refused_series;
    int64_t last_round_us;
    uint32_t next_series_id;
    uint32_t next_layout_id;
    bool is_changed;        /* the layout no longer holds */
    struct map slot_of_key; /* value: index + 1 as a pointer, so that the array may move */
    struct collect_slot *slots;
    size_t n_slots, slots_capacity;
    struct spool_layout *layout;
    double *values;
    uint32_t *absent;

    /* of single collectors, kept between rounds */
    double ticks_per_second;
    double page_bytes;
    uint64_t physical_count_of; /* logical CPUs that physical_count belongs to */
    uint64_t physical_count;
    DIR *processes;
    uint64_t process_states[4];
    int64_t processes_again_us;
    struct mounts *mounts;
    struct spool_ledger ledger;
};

/* ---- the collectors ---- */

typedef void collect_fn(struct collect *collect);

collect_fn collect_cpu, collect_load, collect_memory, collect_paging, collect_disk,
    collect_filesystem, collect_network, collect_processes, collect_pressure, collect_uptime,
    collect_filehandles, collect_self;

struct collector {
    const char *name;
    collect_fn *fn;
    bool is_default;
};
/* Ends with a row without a name. */
extern const struct collector collect_registry[];
