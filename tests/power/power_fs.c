/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A file system for tests of a power cut (disk.h), mounted with FUSE in the foreground.
 *
 *   power_fs MOUNT OUT SEED DATA NAMES MAX EIO [FROM]
 *
 * It is cut at random before what changes it, and goes on: one in DATA writes and syncs, one in
 * NAMES changes and syncs of names (1: each), at most MAX times (0: never). What is left then lies
 * in OUT/0001, OUT/0002 ...; half of them lost all that was not synced, half a part of it. When it
 * is unmounted OUT/end-strict and OUT/end-torn show it once more. The file `told` is the world
 * outside: always whole.
 *
 * EIO (not 0): the write or sync of that number answers EIO once, and does nothing.
 *
 * One thread, so every cut is between two operations.
 */

#define FUSE_USE_VERSION 31

#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "disk.h"

static struct {
    struct disk_node *root;
    const char *out;
    uint64_t dice, one_in_data, one_in_names, max_cuts, eio_at;
    uint64_t n_cuts, n_data;
} power;

static void cut(const char *name, unsigned keep)
{
    char path[4096];

    snprintf(path, sizeof(path), "%s/%s", power.out, name);
    if (!disk_cut(power.root, path, keep, &power.dice)) {
        perror(path);
        abort();
    }
}

static void maybe_cut(uint64_t one_in)
{
    char name[32];
    unsigned keep;

    if (power.n_cuts >= power.max_cuts || disk_throw(&power.dice) % one_in)
        return;
    snprintf(name, sizeof(name), "%04u", (unsigned) ++power.n_cuts);
    keep = disk_throw(&power.dice) % 2 ? 0 : 16 + (unsigned) (disk_throw(&power.dice) % 224);
    cut(name, keep);
}

static void before_names(void)
{
    maybe_cut(power.one_in_names);
}

/* 0, or what to answer. */
static int before_data(const struct disk_node *node)
{
    if (node->is_told)
        return 0;
    maybe_cut(power.one_in_data);
    return ++power.n_data == power.eio_at ? -EIO : 0;
}

static struct disk_node *node_of(const char *path, const struct fuse_file_info *fi)
{
    if (fi && fi->fh)
        return (struct disk_node *) (uintptr_t) fi->fh;
    return path ? disk_find(power.root, path) : NULL;
}

/* ---- looking ---- */

static void *on_init(struct fuse_conn_info *conn, struct fuse_config *config)
{
    (void) conn;
    config->hard_remove = 1; /* what is removed is gone also while it is open */
    config->nullpath_ok = 1;
    config->use_ino = 1;
    config->kernel_cache = 1;
    return NULL;
}

static void on_destroy(void *data)
{
    (void) data;
    cut("end-strict", 0);
    cut("end-torn", 128);
}

static void stat_of(const struct disk_node *node, struct stat *ret)
{
    *ret = (struct stat){
        .st_ino = node->number,
        .st_mode = node->mode,
        .st_nlink = S_ISDIR(node->mode) ? 2 : 1,
        .st_size = node->size_now,
        .st_blksize = DISK_PAGE,
        .st_blocks = (node->size_now + 511) / 512,
    };
}

static int on_getattr(const char *path, struct stat *ret, struct fuse_file_info *fi)
{
    const struct disk_node *node = node_of(path, fi);

    if (!node)
        return -ENOENT;
    stat_of(node, ret);
    return 0;
}

static int on_readdir(const char *path,
                      void *to,
                      fuse_fill_dir_t fill,
                      off_t at,
                      struct fuse_file_info *fi,
                      enum fuse_readdir_flags flags)
{
    const struct disk_node *node = node_of(path, fi);

    (void) at;
    (void) flags;
    if (!node || !S_ISDIR(node->mode))
        return -ENOENT;
    fill(to, ".", NULL, 0, 0);
    fill(to, "..", NULL, 0, 0);
    for (size_t i = 0; i < node->now.n; i++) {
        struct stat st;

        stat_of(node->now.of[i].node, &st);
        fill(to, node->now.of[i].text, &st, 0, 0);
    }
    return 0;
}

static int on_open(const char *path, struct fuse_file_info *fi)
{
    struct disk_node *node = disk_find(power.root, path);

    if (!node)
        return -ENOENT;
    fi->fh = (uint64_t) (uintptr_t) node;
    return 0;
}

static int on_read(const char *path, char *to, size_t len, off_t at, struct fuse_file_info *fi)
{
    const struct disk_node *node = node_of(path, fi);

    return node ? (int) disk_read(node, (uint8_t *) to, len, at) : -ENOENT;
}

static int on_statfs(const char *path, struct statvfs *ret)
{
    (void) path;
    *ret = (struct statvfs){
        .f_bsize = DISK_PAGE,
        .f_frsize = DISK_PAGE,
        .f_namemax = 255,
        .f_blocks = 1 << 20,
        .f_bfree = 1 << 19,
        .f_bavail = 1 << 19,
    };
    return 0;
}

static int on_utimens(const char *path, const struct timespec times[2], struct fuse_file_info *fi)
{
    (void) path;
    (void) times;
    (void) fi;
    return 0;
}

/* ---- names ---- */

static int make(const char *path, mode_t mode, struct disk_node **ret)
{
    const char *name;
    struct disk_node *above = disk_find_above(power.root, path, &name);

    if (!above)
        return -ENOENT;
    if (disk_names_find(&above->now, name))
        return -EEXIST;
    before_names();
    *ret = disk_new_node(mode);
    (*ret)->is_told = above == power.root && strcmp(name, "told") == 0;
    disk_link(above, name, *ret);
    return 0;
}

static int on_create(const char *path, mode_t mode, struct fuse_file_info *fi)
{
    struct disk_node *node;
    int r = make(path, S_IFREG | (mode & 07777), &node);

    if (r)
        return r;
    fi->fh = (uint64_t) (uintptr_t) node;
    return 0;
}

static int on_mkdir(const char *path, mode_t mode)
{
    struct disk_node *node;

    return make(path, S_IFDIR | (mode & 07777), &node);
}

static int remove_name(const char *path)
{
    const char *name;
    struct disk_node *above = disk_find_above(power.root, path, &name);
    const struct disk_node *node = above ? disk_names_find(&above->now, name) : NULL;

    if (!node)
        return -ENOENT;
    if (node->now.n)
        return -ENOTEMPTY;
    before_names();
    disk_unlink(above, name);
    return 0;
}

static int on_rename(const char *path, const char *to, unsigned flags)
{
    const char *name, *to_name;
    struct disk_node *above = disk_find_above(power.root, path, &name);
    const struct disk_node *to_above = disk_find_above(power.root, to, &to_name), *target;

    if (!above || !to_above || !disk_names_find(&above->now, name))
        return -ENOENT;
    target = disk_names_find(&to_above->now, to_name);
    if (above != to_above)
        return -EXDEV; /* nobody asks for it */
    if (flags & ~(unsigned) RENAME_EXCHANGE)
        return -EINVAL;
    if (flags & RENAME_EXCHANGE ? !target : target && target->now.n)
        return flags & RENAME_EXCHANGE ? -ENOENT : -ENOTEMPTY;
    before_names();
    disk_rename(above, name, to_name, flags & RENAME_EXCHANGE);
    return 0;
}

static int on_fsyncdir(const char *path, int is_data, struct fuse_file_info *fi)
{
    struct disk_node *node = node_of(path, fi);

    (void) is_data;
    if (!node)
        return -ENOENT;
    before_names();
    disk_sync(node);
    return 0;
}

/* ---- data ---- */

static int
on_write(const char *path, const char *from, size_t len, off_t at, struct fuse_file_info *fi)
{
    struct disk_node *node = node_of(path, fi);
    int r = node ? before_data(node) : -ENOENT;

    if (r)
        return r;
    disk_write(node, (const uint8_t *) from, len, at);
    if (fi->flags & (O_SYNC | O_DSYNC))
        disk_sync_range(node, at, len);
    return (int) len;
}

static int on_truncate(const char *path, off_t size, struct fuse_file_info *fi)
{
    struct disk_node *node = node_of(path, fi);
    int r = node ? before_data(node) : -ENOENT;

    if (r)
        return r;
    disk_truncate(node, size);
    return 0;
}

static int on_fsync(const char *path, int is_data, struct fuse_file_info *fi)
{
    struct disk_node *node = node_of(path, fi);
    int r = node ? before_data(node) : -ENOENT;

    (void) is_data;
    if (r)
        return r;
    disk_sync(node);
    return 0;
}

static const struct fuse_operations operations = {
    .init = on_init,
    .destroy = on_destroy,
    .getattr = on_getattr,
    .readdir = on_readdir,
    .open = on_open,
    .opendir = on_open,
    .read = on_read,
    .statfs = on_statfs,
    .utimens = on_utimens,
    .create = on_create,
    .mkdir = on_mkdir,
    .unlink = remove_name,
    .rmdir = remove_name,
    .rename = on_rename,
    .fsyncdir = on_fsyncdir,
    .write = on_write,
    .truncate = on_truncate,
    .fsync = on_fsync,
};

int main(int argc, char *argv[])
{
    char foreground[] = "-f", one_thread[] = "-s";
    char *arguments[] = { argv[0], foreground, one_thread, argv[1], NULL };

    if (argc != 8 && argc != 9) {
        fputs("usage: power_fs MOUNT OUT SEED DATA NAMES MAX EIO [FROM]\n", stderr);
        return 2;
    }
    power.out = argv[2];
    power.dice = strtoull(argv[3], NULL, 10);
    power.one_in_data = strtoull(argv[4], NULL, 10);
    power.one_in_names = strtoull(argv[5], NULL, 10);
    power.max_cuts = strtoull(argv[6], NULL, 10);
    power.eio_at = strtoull(argv[7], NULL, 10);
    power.root = disk_new_node(S_IFDIR | 0755);
    if (argc == 9) {
        struct disk_node *told;

        disk_load(power.root, argv[8]);
        told = disk_find(power.root, "/told");
        if (told)
            told->is_told = true;
    }
    return fuse_main(4, arguments, &operations, NULL);
}
