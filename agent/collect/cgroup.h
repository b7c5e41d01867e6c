#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/* What the two versions of cgroups have in common. Private to agent/collect. */

#include "agent/collect/collector.h"

#define CGROUP_ID_DIGITS 64
#define CGROUP_PATH_BYTES 1024

enum cgroup_fact {
    CGROUP_CPU_TIME,
    CGROUP_CPU_THROTTLED,
    CGROUP_MEMORY_USAGE,
    CGROUP_MEMORY_WORKING_SET,
    CGROUP_MEMORY_LIMIT,
    CGROUP_MEMORY_OOM_KILLS,
    CGROUP_DISK_IO,
    CGROUP_PROCESS_COUNT,
    CGROUP_N_FACTS
};

struct container {
    char id[CGROUP_ID_DIGITS + 1];
    const char *runtime;
    char pod[64]; /* "": none */
};

/* One cgroup that is told of. */
struct subject {
    struct probe *c;
    const char *path;                  /* below the root of the hierarchy, with a leading / */
    const struct container *container; /* NULL: none */
};

/* Adds the fact; `key` NULL: without an attribute of its own. */
void cgroup_say(const struct subject *subject,
                enum cgroup_fact fact,
                double value,
                const char *key,
                const char *mode);
/* The file of the cgroup in the hierarchy at `root`, as collect_read(). */
char *cgroup_read(const struct subject *subject, const char *root, const char *file);
/* The value behind a word of "name value" lines; false: there is none, or no text. */
bool cgroup_find_row(char *text, const char *row, uint64_t *ret);

/* A hierarchy of version 1 that has all cgroups; NULL: there is none. */
const char *cgroup_v1_root(struct probe *c);
void cgroup_v1_tell(const struct subject *subject);
