#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A disk in memory that knows what a power cut would leave of it.
 *
 * Every file has two forms: what was written, and what is durable: pages become durable with a sync
 * of the file, names with a sync of their directory, nothing else does it. disk_cut() writes what
 * would be left into a real directory: the durable form, and of the rest nothing (keep = 0) or each
 * page, each size and each change of a name by a throw of dice: torn and reordered writes. The disk
 * goes on afterwards, so one run can be cut many times.
 *
 * A page written twice between two syncs is there as it was, as it became last, or not at all.
 *
 * Thread: one.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define DISK_PAGE 4096u

struct disk_node;

struct disk_name {
    char *text;
    struct disk_node *node;
};

struct disk_names {
    struct disk_name *of;
    size_t n, capacity;
};

enum disk_change_kind { DISK_LINK = 1, DISK_UNLINK, DISK_RENAME, DISK_EXCHANGE };

/* Of one directory, not durable yet. */
struct disk_change {
    enum disk_change_kind kind;
    char *name, *to;
    struct disk_node *node;
};

/* Nodes live as long as the program. */
struct disk_node {
    uint64_t number;
    mode_t mode;
    bool is_told; /* the world outside: what is written to it is known whatever the disk does */
    /* A directory. */
    struct disk_names now, durable;
    struct disk_change *changes;
    size_t n_changes, changes_capacity;
    /* A file. A page that is the same in both is the same pointer; NULL: zeros. */
    uint8_t **pages_now, **pages_durable;
    size_t n_pages; /* of both lists */
    off_t size_now, size_durable;
};

struct disk_node *disk_new_node(mode_t mode);
struct disk_node *disk_find(struct disk_node *root, const char *path);
/* The directory of the last name in a path; *ret_name points into the path. */
struct disk_node *disk_find_above(struct disk_node *root, const char *path, const char **ret_name);
struct disk_node *disk_names_find(const struct disk_names *names, const char *text);

/* Changes of names; all of them can be done, the caller has looked. */
void disk_link(struct disk_node *directory, const char *name, struct disk_node *node);
void disk_unlink(struct disk_node *directory, const char *name);
void disk_rename(struct disk_node *directory, const char *name, const char *to, bool is_exchange);

size_t disk_read(const struct disk_node *node, uint8_t *to, size_t len, off_t at);
void disk_write(struct disk_node *node, const uint8_t *from, size_t len, off_t at);
void disk_truncate(struct disk_node *node, off_t size);

/* A file or a directory is durable as it is now. */
void disk_sync(struct disk_node *node);
/* The pages of these bytes, and the size that they need. */
void disk_sync_range(struct disk_node *node, off_t at, size_t len);

/* What is in a real directory becomes durable here. */
void disk_load(struct disk_node *directory, const char *from);

/* `keep`: how probable it is that what is not durable is left, in 1/256. False: errno says why. */
bool disk_cut(const struct disk_node *root, const char *to, unsigned keep, uint64_t *dice);
uint64_t disk_throw(uint64_t *dice);
