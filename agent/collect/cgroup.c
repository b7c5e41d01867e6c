/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "agent/collect/cgroup.h"

/*
 * Cgroups: the top of the tree by path, and containers by id wherever they are.
 * collect.cgroup.include names others, at any depth. Of version 2
 * (Documentation/admin-guide/cgroup-v2.rst) this file knows what is in them, of version 1
 * cgroup_v1.c.
 *
 * A container is known by the name of its cgroup:
 *
 *     docker-ID.scope  cri-containerd-ID.scope  crio-ID.scope  libpod-ID.scope  ID lxc.payload.NAME
 *
 * where ID is 64 hexadecimal digits; a pod of Kubernetes by pod<UID> in the path above it. conmon's
 * own cgroups are not containers.
 *
 * A tree of thousands of cgroups takes some milliseconds: so this runs on the helper, and looks at
 * MAX_DIRECTORIES at most.
 */
#define MAX_DIRECTORIES 4096
#define MAX_DEPTH 12
#define ROOT "sys/fs/cgroup"

/* The same facts under two names, of the conventions for containers, and of ours. */
static const struct collect_metric facts[2][CGROUP_N_FACTS] = {
    {
        { "system.linux.cgroup.cpu.time", "s", SPOOL_COUNTER },
        { "system.linux.cgroup.cpu.throttled_time", "s", SPOOL_COUNTER },
        { "system.linux.cgroup.memory.usage", "By", SPOOL_GAUGE },
        { "system.linux.cgroup.memory.working_set", "By", SPOOL_GAUGE },
        { "system.linux.cgroup.memory.limit", "By", SPOOL_GAUGE },
        { "system.linux.cgroup.memory.oom_kills", "{process}", SPOOL_COUNTER },
        { "system.linux.cgroup.disk.io", "By", SPOOL_COUNTER },
        { "system.linux.cgroup.process.count", "{process}", SPOOL_GAUGE },
    },
    {
        { "container.cpu.time", "s", SPOOL_COUNTER },
        { "container.cpu.throttled_time", "s", SPOOL_COUNTER },
        { "container.memory.usage", "By", SPOOL_GAUGE },
        { "container.memory.working_set", "By", SPOOL_GAUGE },
        { "container.memory.limit", "By", SPOOL_GAUGE },
        { "container.memory.oom_kills", "{process}", SPOOL_COUNTER },
        { "container.disk.io", "By", SPOOL_COUNTER },
        { "container.process.count", "{process}", SPOOL_GAUGE },
    },
};
static const struct collect_metric container_count = { "system.linux.container.count",
                                                       "{container}", SPOOL_GAUGE };
static const struct collect_metric cgroup_count = { "system.linux.cgroup.count", "{cgroup}",
                                                    SPOOL_GAUGE };

struct walk {
    struct probe *c;
    const char *root; /* of the hierarchy */
    void (*tell)(const struct subject *subject);
    size_t n_directories, n_told, n_containers;
};

/* ---- who it is ---- */

static bool is_id(const char *text)
{
    size_t n = 0;

    while (isxdigit((unsigned char) text[n]))
        n++;
    return n == CGROUP_ID_DIGITS && (text[n] == '\0' || strcmp(text + n, ".scope") == 0);
}

/* The part of the path that begins with "pod" or has "-pod" in it: kubepods-burstable-podUID.slice,
 * where systemd's driver writes _ for -. */
static void find_pod(const char *path, char to[static 64])
{
    const char *at = strstr(path, "kubepods") ? strstr(path, "/pod") : NULL;
    size_t n = 0;

    to[0] = '\0';
    if (!at && strstr(path, "kubepods"))
        at = strstr(path, "-pod");
    if (!at)
        return;
    at += 4;
    while (n < 63 && (isxdigit((unsigned char) at[n]) || at[n] == '-' || at[n] == '_')) {
        to[n] = (char) (at[n] == '_' ? '-' : at[n]);
        n++;
    }
    to[n] = '\0';
}

static bool recognise(const char *path, struct container *ret)
{
    static const struct {
        const char *prefix, *runtime;
    } kinds[] = { { "docker-", "docker" },
                  { "cri-containerd-", "containerd" },
                  { "nerdctl-", "containerd" },
                  { "crio-", "cri-o" },
                  { "libpod-", "podman" } };
    const char *name = strrchr(path, '/') + 1;

    ret->runtime = NULL;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        size_t len = strlen(kinds[i].prefix);

        if (strncmp(name, kinds[i].prefix, len) != 0 || !is_id(name + len))
            continue;
        ret->runtime = kinds[i].runtime;
        name += len;
        break;
    }
    if (!ret->runtime && is_id(name))
        ret->runtime = strstr(path, "/docker/") ? "docker" : "containerd";
    if (ret->runtime) {
        snprintf(ret->id, sizeof(ret->id), "%.*s", CGROUP_ID_DIGITS, name);
    } else if (strncmp(name, "lxc.payload.", 12) == 0) {
        ret->runtime = "lxc";
        snprintf(ret->id, sizeof(ret->id), "%.64s", name + 12);
    } else {
        return false;
    }
    find_pod(path, ret->pod);
    return true;
}

/* ---- what it uses ---- */

void cgroup_say(const struct subject *subject,
                enum cgroup_fact fact,
                double value,
                const char *key,
                const char *mode)
{
    struct spool_attribute attributes[5] = { { NULL, NULL } };
    const struct container *container = subject->container;
    size_t n = 0;

    if (container) {
        attributes[n++] = (struct spool_attribute){ "container.id", container->id };
        attributes[n++] = (struct spool_attribute){ "container.runtime.name", container->runtime };
        if (container->pod[0])
            attributes[n++] = (struct spool_attribute){ "k8s.pod.uid", container->pod };
    } else {
        attributes[n++] = (struct spool_attribute){ "system.linux.cgroup.path", subject->path };
    }
    if (key)
        attributes[n++] = (struct spool_attribute){ key, mode };
    collect_add(subject->c, &facts[container != NULL][fact], value, attributes);
}

char *cgroup_read(const struct subject *subject, const char *root, const char *file)
{
    char path[CGROUP_PATH_BYTES + 64];

    snprintf(path, sizeof(path), "%s%s/%s", root, subject->path, file);
    return collect_read(subject->c, path);
}

static void say_cpu(const struct subject *subject)
{
    char *text = cgroup_read(subject, ROOT, "cpu.stat");

    for (char *line; text && (line = collect_line(&text));) {
        const char *name = collect_word(&line);
        uint64_t us;

        if (!name || !collect_u64(&line, &us))
            continue;
        if (strcmp(name, "user_usec") == 0)
            cgroup_say(subject, CGROUP_CPU_TIME, (double) us / 1e6, "cpu.mode", "user");
        else if (strcmp(name, "system_usec") == 0)
            cgroup_say(subject, CGROUP_CPU_TIME, (double) us / 1e6, "cpu.mode", "system");
        else if (strcmp(name, "throttled_usec") == 0)
            cgroup_say(subject, CGROUP_CPU_THROTTLED, (double) us / 1e6, NULL, NULL);
    }
}

/* The value behind a word of "name value" lines. */
bool cgroup_find_row(char *text, const char *row, uint64_t *ret)
{
    for (char *line; text && (line = collect_line(&text));) {
        const char *name = collect_word(&line);

        if (name && strcmp(name, row) == 0)
            return collect_u64(&line, ret);
    }
    return false;
}

/* What would be hard to give back: all but the page cache that nobody touched lately. */
static void say_memory(const struct subject *subject)
{
    char *text = cgroup_read(subject, ROOT, "memory.current");
    uint64_t usage, value;

    if (!text || !collect_u64(&text, &usage))
        return;
    cgroup_say(subject, CGROUP_MEMORY_USAGE, (double) usage, NULL, NULL);
    if (cgroup_find_row(cgroup_read(subject, ROOT, "memory.stat"), "inactive_file", &value))
        cgroup_say(subject, CGROUP_MEMORY_WORKING_SET, usage > value ? (double) (usage - value) : 0,
                   NULL, NULL);
    text = cgroup_read(subject, ROOT, "memory.max"); /* "max": none */
    if (text && collect_u64(&text, &value))
        cgroup_say(subject, CGROUP_MEMORY_LIMIT, (double) value, NULL, NULL);
    if (cgroup_find_row(cgroup_read(subject, ROOT, "memory.events"), "oom_kill", &value))
        cgroup_say(subject, CGROUP_MEMORY_OOM_KILLS, (double) value, NULL, NULL);
}

/* io.stat: "8:0 rbytes=1 wbytes=2 rios=3 ..." for each device. */
static void say_io(const struct subject *subject)
{
    char *text = cgroup_read(subject, ROOT, "io.stat");
    uint64_t sums[2] = { 0 };

    if (!text)
        return;
    for (char *line; (line = collect_line(&text));)
        for (char *word; (word = collect_word(&line));) {
            bool is_write = strncmp(word, "wbytes=", 7) == 0;
            char *number = word + 7;
            uint64_t bytes;

            if ((is_write || strncmp(word, "rbytes=", 7) == 0) && collect_u64(&number, &bytes))
                sums[is_write] += bytes;
        }
    cgroup_say(subject, CGROUP_DISK_IO, (double) sums[0], "disk.io.direction", "read");
    cgroup_say(subject, CGROUP_DISK_IO, (double) sums[1], "disk.io.direction", "write");
}

static void tell_v2(const struct subject *subject)
{
    char *text;
    uint64_t value;

    say_cpu(subject);
    say_memory(subject);
    say_io(subject);
    text = cgroup_read(subject, ROOT, "pids.current");
    if (text && collect_u64(&text, &value))
        cgroup_say(subject, CGROUP_PROCESS_COUNT, (double) value, NULL, NULL);
}

/* ---- the tree ---- */

static void visit(struct walk *walk, const char *path, unsigned depth)
{
    struct probe *c = walk->c;
    struct container container;
    bool is_container = recognise(path, &container);
    bool is_named = c->rules->filters[COLLECT_CGROUPS].include || depth == 1 || is_container;
    const struct subject subject = { c, path, is_container ? &container : NULL };

    walk->n_directories++;
    walk->n_containers += is_container;
    if (!is_named || walk->n_told >= c->rules->numbers.max_cgroups ||
        !collect_wants(c, COLLECT_CGROUPS, path))
        return;
    walk->n_told++;
    walk->tell(&subject);
}

/* Depth first, with one directory open for each level. */
static void walk_tree(struct walk *walk)
{
    DIR *levels[MAX_DEPTH];
    size_t ends[MAX_DEPTH]; /* of the path of each level */
    char path[CGROUP_PATH_BYTES] = "", whole[CGROUP_PATH_BYTES + 64];
    size_t depth = 0;

    levels[0] = collect_open_directory(walk->c, walk->root);
    ends[0] = 0;
    if (!levels[0])
        return;
    for (;;) {
        const struct dirent *entry =
            walk->n_directories < MAX_DIRECTORIES ? readdir(levels[depth]) : NULL;
        size_t len;

        if (!entry) {
            closedir(levels[depth]);
            if (depth-- == 0)
                return;
            continue;
        }
        if (entry->d_name[0] == '.' || (entry->d_type != DT_DIR && entry->d_type != DT_UNKNOWN))
            continue;
        len = strlen(entry->d_name);
        if (ends[depth] + 1 + len >= sizeof(path))
            continue;
        path[ends[depth]] = '/';
        memcpy(path + ends[depth] + 1, entry->d_name, len + 1);
        visit(walk, path, (unsigned) depth + 1);
        if (depth + 1 == MAX_DEPTH)
            continue;
        snprintf(whole, sizeof(whole), "%s%s", walk->root, path);
        levels[depth + 1] = collect_open_directory(walk->c, whole);
        ends[depth + 1] = ends[depth] + 1 + len;
        depth += levels[depth + 1] != NULL;
    }
}

void collect_cgroup(struct probe *c)
{
    struct walk walk = { .c = c, .root = ROOT, .tell = tell_v2 };
    char text[COLLECT_SMALL_BYTES];

    /* Where version 1 holds the controllers, each has a tree of its own, of equal paths. */
    if (!collect_read_small(c, text, "%s/cgroup.controllers", ROOT)) {
        walk.root = cgroup_v1_root(c);
        walk.tell = cgroup_v1_tell;
    }
    if (!walk.root)
        return;
    walk_tree(&walk);
    collect_add(c, &cgroup_count, (double) walk.n_directories, NULL);
    collect_add(c, &container_count, (double) walk.n_containers, NULL);
}
