/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/collect/collector.h"

/*
 * /proc/self/mountinfo (proc(5)): "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root
 * rw,errors=continue". A device that is mounted in several places is told of once, for the first;
 * of mounts on one another, the last is what one sees. Types and places that hold no data of
 * anybody are left out, as node_exporter does.
 */

#define MAX_MOUNTS 256

static const struct collect_metric usage = { "system.filesystem.usage", "By", SPOOL_GAUGE };
static const struct collect_metric utilization = { "system.filesystem.utilization", "1",
                                                   SPOOL_GAUGE };
static const struct collect_metric limit = { "system.filesystem.limit", "By", SPOOL_GAUGE };
static const struct collect_metric inodes_usage = { "system.filesystem.inodes.usage", "{inode}",
                                                    SPOOL_GAUGE };
static const struct collect_metric inodes_limit = { "system.filesystem.inodes.limit", "{inode}",
                                                    SPOOL_GAUGE };

static const struct collect_metric read_only = { "system.linux.filesystem.read_only", "1",
                                                 SPOOL_GAUGE };
static const struct collect_metric stuck = { "sentinel.agent.filesystems.stuck", "{filesystem}",
                                             SPOOL_GAUGE };

struct state {
    struct mounts *mounts;
};

struct mount {
    const char *device_id; /* major:minor */
    const char *point;
    const char *type;
    const char *device;
    bool is_read_only;
};

static bool is_wanted(const struct probe *c, const struct mount *mount)
{
    /* In a container the root is an overlay, and all there is. */
    bool is_root = strcmp(mount->type, "overlay") == 0 && strcmp(mount->point, "/") == 0;

    return (is_root || collect_wants(c, COLLECT_MOUNT_TYPES, mount->type)) &&
           collect_wants(c, COLLECT_MOUNTS, mount->point);
}

/* The kernel writes space, tab, newline and backslash as \ooo. */
static void unescape(char *text)
{
    char *to = text;

    for (const char *from = text; *from;) {
        if (from[0] == '\\' && from[1] >= '0' && from[1] <= '3' && from[2] >= '0' &&
            from[2] <= '7' && from[3] >= '0' && from[3] <= '7') {
            *to++ = (char) ((from[1] - '0') * 64 + (from[2] - '0') * 8 + (from[3] - '0'));
            from += 4;
        } else {
            *to++ = *from++;
        }
    }
    *to = '\0';
}

static bool parse(char *line, struct mount *ret)
{
    char *words[6], *point, *device;
    const char *word;

    for (size_t i = 0; i < 6; i++)
        if (!(words[i] = collect_word(&line)))
            return false;
    do
        word = collect_word(&line); /* any number of optional fields */
    while (word && strcmp(word, "-") != 0);

    point = words[4];
    ret->device_id = words[2];
    ret->type = word ? collect_word(&line) : NULL;
    device = ret->type ? collect_word(&line) : NULL;
    if (!device)
        return false;
    unescape(point);
    unescape(device);
    ret->point = point;
    ret->device = device;
    ret->is_read_only = strncmp(words[5], "ro", 2) == 0;
    return true;
}

static size_t read_mounts(struct probe *c, struct mount *mounts)
{
    char *text = collect_read_machine(c, "proc/1/mountinfo", "proc/self/mountinfo");
    size_t n = 0;

    if (!text)
        return 0;
    for (char *line; (line = collect_line(&text)) && n < MAX_MOUNTS;) {
        struct mount mount;
        size_t at = 0;

        if (!parse(line, &mount)) {
            collect_count_error(c);
            continue;
        }
        if (!is_wanted(c, &mount))
            continue;
        while (at < n && strcmp(mounts[at].point, mount.point) != 0 &&
               strcmp(mounts[at].device_id, mount.device_id) != 0)
            at++;
        if (at < n && strcmp(mounts[at].point, mount.point) != 0)
            continue;
        mounts[at] = mount;
        if (at == n)
            n++;
    }
    return n;
}

static void add_filesystem(struct probe *c, const struct mount *mount, const struct statvfs *facts)
{
    const char *mode = mount->is_read_only ? "ro" : "rw";
    double block = (double) (facts->f_frsize ? facts->f_frsize : facts->f_bsize);
    uint64_t used = facts->f_blocks > facts->f_bfree ? facts->f_blocks - facts->f_bfree : 0;
    uint64_t reserved = facts->f_bfree > facts->f_bavail ? facts->f_bfree - facts->f_bavail : 0;
    const struct {
        const char *state;
        uint64_t blocks;
    } states[] = { { "used", used }, { "free", facts->f_bavail }, { "reserved", reserved } };
    const struct {
        const char *state;
        uint64_t inodes;
    } inodes[] = {
        { "used", facts->f_files > facts->f_ffree ? facts->f_files - facts->f_ffree : 0 },
        { "free", facts->f_ffree },
    };

#define PLACE                                                               \
    { "system.device", mount->device }, { "system.filesystem.mode", mode }, \
        { "system.filesystem.mountpoint", mount->point },                   \
        { "system.filesystem.type", mount->type }
/* One series through a change of mode, so that an alert sees it. */
#define PLACE_BUT_MODE                                                                    \
    { "system.device", mount->device }, { "system.filesystem.mountpoint", mount->point }, \
    {                                                                                     \
        "system.filesystem.type", mount->type                                             \
    }

    collect_add(c, &limit, (double) facts->f_blocks * block, ATTRIBUTES(PLACE));
    collect_add(c, &read_only, mount->is_read_only, ATTRIBUTES(PLACE_BUT_MODE));
    for (size_t i = 0; i < 3; i++) {
        const struct spool_attribute *attributes =
            ATTRIBUTES(PLACE, { "system.filesystem.state", states[i].state });

        collect_add(c, &usage, (double) states[i].blocks * block, attributes);
        collect_add(c, &utilization, (double) states[i].blocks / (double) facts->f_blocks,
                    attributes);
    }
    if (facts->f_files == 0) /* made as needed: btrfs, vfat */
        return;
    collect_add(c, &inodes_limit, (double) facts->f_files, ATTRIBUTES(PLACE));
    for (size_t i = 0; i < 2; i++)
        collect_add(c, &inodes_usage, (double) inodes[i].inodes,
                    ATTRIBUTES(PLACE, { "system.filesystem.state", inodes[i].state }));
#undef PLACE
#undef PLACE_BUT_MODE
}

void collect_filesystem_free(void *memory)
{
    struct state *state = memory;

    state->mounts = mounts_free(state->mounts);
    free(state);
}

/* Asks all that do not hang; mounts[i] becomes what job i is about. Returns how many. */
static size_t ask(struct probe *c, struct state *state, struct mount *mounts, size_t n_mounts)
{
    const char *root = c->machine->root;
    size_t root_len = strlen(root), n_jobs = 0;

    while (root_len > 0 && root[root_len - 1] == '/')
        root_len--;
    mounts_begin(state->mounts);
    for (size_t i = 0; i < n_mounts; i++) {
        char path[4096];

        snprintf(path, sizeof(path), "%.*s%s", (int) root_len, root, mounts[i].point);
        if (!mounts_is_stuck(state->mounts, path) && mounts_add(state->mounts, path))
            mounts[n_jobs++] = mounts[i];
    }
    mounts_run(state->mounts, c->rules->statvfs_timeout_us);
    return n_jobs;
}

void collect_filesystem(struct probe *c)
{
    struct state *state = collect_state(c, sizeof(*state));
    struct mount mounts[MAX_MOUNTS];
    size_t n_jobs;

    if (!state)
        return;
    if (!state->mounts)
        state->mounts = mounts_new(c->rules->statvfs);
    if (!state->mounts) {
        collect_count_error(c);
        return;
    }
    n_jobs = ask(c, state, mounts, read_mounts(c, mounts));
    for (size_t i = 0; i < n_jobs; i++) {
        const struct mounts_job *job = mounts_job(state->mounts, i);

        if (!job->is_done)
            collect_count_error(c);
        else if (job->error)
            collect_count_failure(c, mounts[i].point, job->error);
        else if (job->result.f_blocks > 0)
            add_filesystem(c, &mounts[i], &job->result);
    }
    collect_add(c, &stuck, (double) mounts_n_stuck(state->mounts), NULL);
}
