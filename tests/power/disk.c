/* SPDX-License-Identifier: Apache-2.0 */
#include "disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/ensure.h"

/* What a test cannot have it does without at once. */
static void *must(void *memory)
{
    ensure(memory);
    return memory;
}

uint64_t disk_throw(uint64_t *dice)
{
    uint64_t x = (*dice += UINT64_C(0x9e3779b97f4a7c15));

    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static bool is_kept(unsigned keep, uint64_t *dice)
{
    return keep && disk_throw(dice) % 256 < keep;
}

/* ---- names ---- */

struct disk_node *disk_new_node(mode_t mode)
{
    static uint64_t last = 1;
    struct disk_node *node = must(calloc(1, sizeof(*node)));

    node->number = ++last;
    node->mode = mode;
    return node;
}

static struct disk_name *find_name(const struct disk_names *names, const char *text)
{
    for (size_t i = 0; i < names->n; i++) {
        if (strcmp(names->of[i].text, text) == 0)
            return &names->of[i];
    }
    return NULL;
}

struct disk_node *disk_names_find(const struct disk_names *names, const char *text)
{
    const struct disk_name *name = find_name(names, text);

    return name ? name->node : NULL;
}

static void put_name(struct disk_names *names, const char *text, struct disk_node *node)
{
    struct disk_name *name = find_name(names, text);

    if (!name) {
        if (names->n == names->capacity) {
            names->capacity = names->capacity * 2 + 8;
            names->of = must(realloc(names->of, names->capacity * sizeof(*names->of)));
        }
        name = &names->of[names->n++];
        name->text = must(strdup(text));
    }
    name->node = node;
}

static void drop_name(struct disk_names *names, const char *text)
{
    struct disk_name *name = find_name(names, text);

    if (!name)
        return;
    free(name->text);
    *name = names->of[--names->n];
}

static void clear_names(struct disk_names *names)
{
    while (names->n)
        free(names->of[--names->n].text);
}

static void copy_names(struct disk_names *to, const struct disk_names *from)
{
    clear_names(to);
    for (size_t i = 0; i < from->n; i++)
        put_name(to, from->of[i].text, from->of[i].node);
}

/* What cannot be done without a change that was lost is lost too. */
static void apply(struct disk_names *names, const struct disk_change *change)
{
    struct disk_node *node = disk_names_find(names, change->name);
    struct disk_node *other = change->to ? disk_names_find(names, change->to) : NULL;

    switch (change->kind) {
    case DISK_LINK:
        put_name(names, change->name, change->node);
        break;
    case DISK_UNLINK:
        drop_name(names, change->name);
        break;
    case DISK_RENAME:
        if (!node)
            break;
        put_name(names, change->to, node);
        drop_name(names, change->name);
        break;
    case DISK_EXCHANGE:
        if (!node || !other)
            break;
        put_name(names, change->to, node);
        put_name(names, change->name, other);
        break;
    }
}

static void change(struct disk_node *directory, struct disk_change what)
{
    what.name = must(strdup(what.name));
    what.to = what.to ? must(strdup(what.to)) : NULL;
    if (directory->n_changes == directory->changes_capacity) {
        directory->changes_capacity = directory->changes_capacity * 2 + 8;
        directory->changes = must(
            realloc(directory->changes, directory->changes_capacity * sizeof(*directory->changes)));
    }
    directory->changes[directory->n_changes++] = what;
    apply(&directory->now, &what);
}

static void clear_changes(struct disk_node *directory)
{
    while (directory->n_changes) {
        struct disk_change *last = &directory->changes[--directory->n_changes];

        free(last->name);
        free(last->to);
    }
}

void disk_link(struct disk_node *directory, const char *name, struct disk_node *node)
{
    change(directory, (struct disk_change){
                          .kind = DISK_LINK, .name = (char *) (uintptr_t) name, .node = node });
}

void disk_unlink(struct disk_node *directory, const char *name)
{
    change(directory,
           (struct disk_change){ .kind = DISK_UNLINK, .name = (char *) (uintptr_t) name });
}

void disk_rename(struct disk_node *directory, const char *name, const char *to, bool is_exchange)
{
    change(directory, (struct disk_change){ .kind = is_exchange ? DISK_EXCHANGE : DISK_RENAME,
                                            .name = (char *) (uintptr_t) name,
                                            .to = (char *) (uintptr_t) to });
}

struct disk_node *disk_find_above(struct disk_node *root, const char *path, const char **ret_name)
{
    struct disk_node *node = root;
    const char *end;

    path++;
    while (node && (end = strchr(path, '/'))) {
        char *name = must(strndup(path, (size_t) (end - path)));

        node = disk_names_find(&node->now, name);
        free(name);
        path = end + 1;
    }
    *ret_name = path;
    return node && S_ISDIR(node->mode) ? node : NULL;
}

struct disk_node *disk_find(struct disk_node *root, const char *path)
{
    const char *name;
    struct disk_node *above = disk_find_above(root, path, &name);

    if (!above || !*name)
        return above;
    return disk_names_find(&above->now, name);
}

/* ---- pages ---- */

static void set_now(struct disk_node *node, size_t i, uint8_t *page)
{
    if (node->pages_now[i] != node->pages_durable[i])
        free(node->pages_now[i]);
    node->pages_now[i] = page;
}

static void make_durable(struct disk_node *node, size_t i)
{
    if (node->pages_now[i] != node->pages_durable[i])
        free(node->pages_durable[i]);
    node->pages_durable[i] = node->pages_now[i];
}

static void reserve(struct disk_node *node, size_t n_pages)
{
    size_t n_bytes = n_pages * sizeof(*node->pages_now);

    if (n_pages <= node->n_pages)
        return;
    node->pages_now = must(realloc(node->pages_now, n_bytes));
    node->pages_durable = must(realloc(node->pages_durable, n_bytes));
    for (size_t i = node->n_pages; i < n_pages; i++)
        node->pages_now[i] = node->pages_durable[i] = NULL;
    node->n_pages = n_pages;
}

/* A page that may be written to: the durable form keeps its own. */
static uint8_t *page_for_writing(struct disk_node *node, size_t i)
{
    if (!node->pages_now[i] || node->pages_now[i] == node->pages_durable[i]) {
        uint8_t *page = must(calloc(1, DISK_PAGE));

        if (node->pages_now[i])
            memcpy(page, node->pages_now[i], DISK_PAGE);
        set_now(node, i, page);
    }
    return node->pages_now[i];
}

size_t disk_read(const struct disk_node *node, uint8_t *to, size_t len, off_t at)
{
    size_t done = 0;

    if (at >= node->size_now)
        return 0;
    if ((off_t) len > node->size_now - at)
        len = (size_t) (node->size_now - at);
    while (done < len) {
        size_t i = ((size_t) at + done) / DISK_PAGE, from = ((size_t) at + done) % DISK_PAGE;
        size_t n = DISK_PAGE - from < len - done ? DISK_PAGE - from : len - done;

        if (node->pages_now[i])
            memcpy(to + done, node->pages_now[i] + from, n);
        else
            memset(to + done, 0, n);
        done += n;
    }
    return len;
}

void disk_write(struct disk_node *node, const uint8_t *from, size_t len, off_t at)
{
    size_t done = 0;

    reserve(node, ((size_t) at + len + DISK_PAGE - 1) / DISK_PAGE);
    while (done < len) {
        size_t i = ((size_t) at + done) / DISK_PAGE, to = ((size_t) at + done) % DISK_PAGE;
        size_t n = DISK_PAGE - to < len - done ? DISK_PAGE - to : len - done;

        memcpy(page_for_writing(node, i) + to, from + done, n);
        done += n;
    }
    if (at + (off_t) len > node->size_now)
        node->size_now = at + (off_t) len;
}

void disk_truncate(struct disk_node *node, off_t size)
{
    size_t n_pages = ((size_t) size + DISK_PAGE - 1) / DISK_PAGE, rest = (size_t) size % DISK_PAGE;

    reserve(node, n_pages);
    for (size_t i = n_pages; i < node->n_pages; i++)
        set_now(node, i, NULL);
    if (rest && node->pages_now[n_pages - 1])
        memset(page_for_writing(node, n_pages - 1) + rest, 0, DISK_PAGE - rest);
    node->size_now = size;
}

void disk_sync(struct disk_node *node)
{
    if (S_ISDIR(node->mode)) {
        copy_names(&node->durable, &node->now);
        clear_changes(node);
        return;
    }
    for (size_t i = 0; i < node->n_pages; i++)
        make_durable(node, i);
    node->size_durable = node->size_now;
}

void disk_sync_range(struct disk_node *node, off_t at, size_t len)
{
    for (size_t i = (size_t) at / DISK_PAGE; i < node->n_pages && i * DISK_PAGE < (size_t) at + len;
         i++)
        make_durable(node, i);
    if (node->size_durable < at + (off_t) len)
        node->size_durable = at + (off_t) len;
}

/* ---- from and to real directories ---- */

static void load_file(struct disk_node *node, const char *path)
{
    static uint8_t bytes[1 << 16];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    off_t at = 0;
    ssize_t n;

    ensure(fd >= 0);
    while ((n = read(fd, bytes, sizeof(bytes))) > 0) {
        disk_write(node, bytes, (size_t) n, at);
        at += n;
    }
    ensure(n == 0);
    close(fd);
}

void disk_load(struct disk_node *directory, const char *from)
{
    DIR *dir = must(opendir(from));
    const struct dirent *entry;

    while ((entry = readdir(dir))) {
        char path[4096];
        struct stat st;
        struct disk_node *node;

        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        snprintf(path, sizeof(path), "%s/%s", from, entry->d_name);
        ensure(stat(path, &st) == 0);
        node = disk_new_node(st.st_mode);
        if (S_ISDIR(st.st_mode))
            disk_load(node, path);
        else
            load_file(node, path);
        disk_sync(node);
        disk_link(directory, entry->d_name, node);
    }
    closedir(dir);
    disk_sync(directory);
}

static bool write_page(int fd, const uint8_t *page, size_t len, off_t at)
{
    return !page || len == 0 || pwrite(fd, page, len, at) == (ssize_t) len;
}

static bool cut_file(const struct disk_node *node, const char *to, unsigned keep, uint64_t *dice)
{
    int fd = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    off_t size = node->is_told || (node->size_now != node->size_durable && is_kept(keep, dice))
                     ? node->size_now
                     : node->size_durable;
    bool is_good = fd >= 0 && ftruncate(fd, size) == 0;

    for (size_t i = 0; is_good && i < node->n_pages && (off_t) (i * DISK_PAGE) < size; i++) {
        off_t at = (off_t) (i * DISK_PAGE);
        size_t len = size - at < DISK_PAGE ? (size_t) (size - at) : DISK_PAGE;
        bool is_new =
            node->pages_now[i] != node->pages_durable[i] && (node->is_told || is_kept(keep, dice));

        is_good = write_page(fd, is_new ? node->pages_now[i] : node->pages_durable[i], len, at);
    }
    if (fd >= 0)
        close(fd);
    return is_good;
}

static bool
cut_directory(const struct disk_node *node, const char *to, unsigned keep, uint64_t *dice)
{
    struct disk_names left = { 0 };
    bool is_good = mkdir(to, 0700) == 0;

    copy_names(&left, &node->durable);
    for (size_t i = 0; i < node->n_changes; i++) {
        const struct disk_node *made = node->changes[i].node;

        if (is_kept(keep, dice) || (made && made->is_told))
            apply(&left, &node->changes[i]);
    }
    for (size_t i = 0; i < left.n && is_good; i++) {
        const struct disk_node *child = left.of[i].node;
        char path[4096];

        snprintf(path, sizeof(path), "%s/%s", to, left.of[i].text);
        is_good = S_ISDIR(child->mode) ? cut_directory(child, path, keep, dice)
                                       : cut_file(child, path, keep, dice);
    }
    clear_names(&left);
    free(left.of);
    return is_good;
}

bool disk_cut(const struct disk_node *root, const char *to, unsigned keep, uint64_t *dice)
{
    return cut_directory(root, to, keep, dice);
}
