/* SPDX-License-Identifier: Apache-2.0 */

/* Disks, partitions, mounts. */

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/inventory/table.h"

#define PATH_BYTES 600
#define SECTOR_BYTES 512 /* of sysfs's sizes, whatever the disk's are */

static void put_fact(struct table *t, const char *name, const char *what)
{
    char path[PATH_BYTES], fact[256];

    snprintf(path, sizeof(path), "sys/class/block/%s/%s", name, what);
    table_put(t, table_fact(t, path, fact, sizeof(fact)));
}

static uint64_t number(struct table *t, const char *name, const char *what)
{
    char path[PATH_BYTES];

    snprintf(path, sizeof(path), "sys/class/block/%s/%s", name, what);
    return table_number(t, path);
}

/* "../../devices/pci0000:00/.../block/sda/sda1" has sda for the parent of sda1. */
static void find_parent(struct table *t, const char *name, char to[static 256])
{
    char path[PATH_BYTES], link[512], *last, *before;

    snprintf(path, sizeof(path), "sys/class/block/%s", name);
    to[0] = '\0';
    (void) table_link_name(t, path, link, sizeof(link));
    last = strrchr(link, '/');
    if (!last)
        return;
    *last = '\0';
    before = strrchr(link, '/');
    if (before && strcmp(before + 1, "block") != 0)
        snprintf(to, 256, "%s", before + 1);
}

static const char *kind_of(const char *name, const char *parent)
{
    static const struct {
        const char *prefix, *kind;
    } kinds[] = {
        { "loop", "loop" }, { "ram", "ram" }, { "zram", "zram" }, { "dm-", "dm" },
        { "md", "raid" },   { "sr", "rom" },  { "nbd", "nbd" },   { "zd", "zvol" },
    };

    if (parent[0])
        return "partition";
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (strncmp(name, kinds[i].prefix, strlen(kinds[i].prefix)) == 0)
            return kinds[i].kind;
    return "disk";
}

void table_block_devices(struct table *t)
{
    CLEANUP(closedirp) DIR *directory = table_directory(t, "sys/class/block");
    const char *entry;
    char parent[256];

    if (!directory) {
        table_absent(t);
        return;
    }
    while ((entry = table_entry(directory)) != NULL) {
        const uint64_t n_sectors = number(t, entry, "size");
        const char *of;

        find_parent(t, entry, parent);
        of = parent[0] ? parent : entry;
        /* Empty loops and memory disks are names for nothing. */
        if (n_sectors == 0 && (strncmp(entry, "loop", 4) == 0 || strncmp(entry, "nbd", 3) == 0))
            continue;
        table_put_format(t, "/dev/%s", entry);
        table_put_format(t, parent[0] ? "/dev/%s" : "%s", parent);
        put_fact(t, of, "device/vendor");
        put_fact(t, of, "device/model");
        put_fact(t, of, "device/serial");
        table_put_u64(t, n_sectors * SECTOR_BYTES);
        table_put_u64(t, number(t, of, "queue/logical_block_size"));
        table_put(t, kind_of(entry, parent));
        table_put_u64(t, number(t, of, "removable"));
        table_put_u64(t, number(t, entry, "ro"));
        table_end_row(t);
    }
}

/* proc(5): space, tab, newline and backslash are octal. */
static char *unescape(char *text)
{
    char *to = text;

    for (const char *from = text; *from; from++) {
        if (from[0] == '\\' && from[1] >= '0' && from[1] <= '3' && from[2] >= '0' &&
            from[2] <= '7' && from[3] >= '0' && from[3] <= '7') {
            *to++ = (char) ((from[1] - '0') << 6 | (from[2] - '0') << 3 | (from[3] - '0'));
            from += 3;
        } else {
            *to++ = *from;
        }
    }
    *to = '\0';
    return text;
}

void table_mounts(struct table *t)
{
    char *text = table_read_if(t, "proc/1/mounts");

    if (!text)
        text = table_read(t, "proc/self/mounts");
    for (char *line; text && (line = table_line(&text));) {
        char *words[4] = { NULL };

        for (int i = 0; i < 4; i++)
            words[i] = table_word(&line);
        if (!words[3])
            continue;
        for (int i = 0; i < 4; i++)
            table_put(t, unescape(words[i]));
        table_end_row(t);
    }
}
