/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "agent/collect/collector.h"
#include "common/base/file.h"
#include "common/base/text.h"
#include "common/crypto/crypto.h"

/*
 * Facts that stay the same while the agent runs, and the fingerprint by which the hub notices that
 * an identity runs on another machine. Each source is hashed alone, so that the hub can tell which
 * of them changed, and learns none of them.
 */

/* Reads the start of a file, without white space around it; false when there is nothing. */
static bool read_text(int root_fd, const char *path, char *to, size_t size)
{
    CLEANUP(fd_closep) int fd = openat(root_fd, path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, to, size - 1);
    size_t skip;

    if (n <= 0)
        return false;
    to[n] = '\0';
    for (size_t len = strlen(to); len > 0 && isspace((unsigned char) to[len - 1]); len--)
        to[len - 1] = '\0';
    skip = strspn(to, " \t\n");
    memmove(to, to + skip, strlen(to + skip) + 1);
    return to[0] != '\0';
}

static void hash(const char *text, struct collect_hash *ret)
{
    crypto_sha256(span_of_text(text), ret->bytes);
    ret->is_present = true;
}

static void hash_file(int root_fd, const char *path, struct collect_hash *ret)
{
    char text[256];

    if (read_text(root_fd, path, text, sizeof(text)))
        hash(text, ret);
}

/* ---- the boot disk: what "/" lies on, up to the whole disk, by the first name its maker gave it
 * ---- */

static bool root_device(int root_fd, char *ret, size_t size)
{
    char *text = malloc(65536);
    bool has_found = false;

    if (text && (read_text(root_fd, "proc/1/mountinfo", text, 65536) ||
                 read_text(root_fd, "proc/self/mountinfo", text, 65536))) {
        char *cursor = text;

        for (char *line; (line = collect_line(&cursor));) {
            char *words[5] = { NULL };

            for (size_t i = 0; i < 5; i++)
                words[i] = collect_word(&line);
            if (words[4] && strcmp(words[4], "/") == 0) {
                snprintf(ret, size, "%s", words[2]);
                has_found = true;
            }
        }
    }
    free(text);
    return has_found;
}

static void hash_boot_disk(int root_fd, struct collect_hash *ret)
{
    static const char *const names[] = { "wwid", "device/wwid", "serial", "device/serial",
                                         "dm/uuid" };
    char device[32], path[320], link[256];
    char *block, *disk;
    ssize_t n;

    if (!root_device(root_fd, device, sizeof(device)))
        return;
    /* "../../devices/pci0000:00/.../block/sda/sda1" */
    snprintf(path, sizeof(path), "sys/dev/block/%s", device);
    n = readlinkat(root_fd, path, link, sizeof(link) - 1);
    if (n <= 0)
        return;
    link[n] = '\0';
    block = strstr(link, "/block/");
    if (!block)
        return;
    disk = block + strlen("/block/");
    disk[strcspn(disk, "/")] = '\0';
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && !ret->is_present; i++) {
        snprintf(path, sizeof(path), "sys/block/%.100s/%s", disk, names[i]);
        hash_file(root_fd, path, ret);
    }
}

/* ---- the first interface whose address came with the hardware ---- */

static void hash_first_mac(int root_fd, struct collect_hash *ret)
{
    int fd = openat(root_fd, "sys/class/net", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    uint64_t lowest = UINT64_MAX;
    char first[64] = "";

    if (!directory) {
        if (fd >= 0)
            close(fd);
        return;
    }
    for (const struct dirent *entry; (entry = readdir(directory));) {
        char path[320], text[64], address[64];
        uint64_t index;

        snprintf(path, sizeof(path), "%s/addr_assign_type", entry->d_name);
        if (entry->d_name[0] == '.' || !read_text(fd, path, text, sizeof(text)) ||
            strcmp(text, "0") != 0)
            continue;
        snprintf(path, sizeof(path), "%s/ifindex", entry->d_name);
        if (!read_text(fd, path, text, sizeof(text)) || text_to_u64(text, &index))
            continue;
        snprintf(path, sizeof(path), "%s/address", entry->d_name);
        if (!read_text(fd, path, address, sizeof(address)) ||
            strspn(address, "0:") == strlen(address) || index >= lowest)
            continue;
        lowest = index;
        snprintf(first, sizeof(first), "%s", address);
    }
    closedir(directory);
    if (first[0])
        hash(first, ret);
}

/* ---- attributes ---- */

static void add(struct collect_host *host, const char *key, const char *value)
{
    if (!value || !value[0] || host->n_attributes == COLLECT_HOST_ROWS)
        return;
    host->attributes[host->n_attributes].key = key;
    snprintf(host->attributes[host->n_attributes].value, sizeof(host->attributes[0].value), "%s",
             value);
    if (text_is_utf8(host->attributes[host->n_attributes].value,
                     strlen(host->attributes[host->n_attributes].value)))
        host->n_attributes++;
}

/* os-release(5): KEY=value or KEY="value". */
static void add_os_release(int root_fd, struct collect_host *host)
{
    static const struct {
        const char *name;
        const char *key;
    } rows[] = {
        { "ID=", "os.name" },
        { "VERSION_ID=", "os.version" },
        { "PRETTY_NAME=", "os.description" },
    };
    char text[4096];
    char *cursor = text;

    if (!read_text(root_fd, "etc/os-release", text, sizeof(text)) &&
        !read_text(root_fd, "usr/lib/os-release", text, sizeof(text)))
        return;
    for (char *line; (line = collect_line(&cursor));)
        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
            char *value = line + strlen(rows[i].name);
            size_t len;

            if (strncmp(line, rows[i].name, strlen(rows[i].name)) != 0)
                continue;
            len = strlen(value);
            if (len >= 2 && (value[0] == '"' || value[0] == '\'') && value[len - 1] == value[0]) {
                value[len - 1] = '\0';
                value++;
            }
            add(host, rows[i].key, value);
        }
}

/* The conventions' names of architectures. */
static const char *architecture(const char *machine)
{
    static const struct {
        const char *machine;
        const char *name;
    } rows[] = {
        { "x86_64", "amd64" }, { "aarch64", "arm64" }, { "i686", "x86" },      { "i386", "x86" },
        { "armv7l", "arm32" }, { "armv6l", "arm32" },  { "ppc64le", "ppc64" }, { "s390x", "s390x" },
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (strcmp(machine, rows[i].machine) == 0)
            return rows[i].name;
    return machine;
}

void collect_read_host(const char *root, struct collect_host *ret)
{
    CLEANUP(fd_closep) int root_fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct utsname names;
    char text[192];

    *ret = (struct collect_host){ 0 };
    if (root_fd < 0)
        return;
    if (uname(&names) == 0) {
        add(ret, "host.name",
            read_text(root_fd, "proc/sys/kernel/hostname", text, sizeof(text)) ? text
                                                                               : names.nodename);
        add(ret, "host.arch", architecture(names.machine));
    }
    add(ret, "os.type", "linux");
    add_os_release(root_fd, ret);
    if (read_text(root_fd, "proc/sys/kernel/osrelease", text, sizeof(text)))
        add(ret, "os.kernel.release", text);
    snprintf(text, sizeof(text), "%ld", sysconf(_SC_NPROCESSORS_ONLN));
    add(ret, "host.cpu.count", text);

    hash_file(root_fd, "etc/machine-id", &ret->machine_id);
    if (!ret->machine_id.is_present)
        hash_file(root_fd, "var/lib/dbus/machine-id", &ret->machine_id);
    hash_file(root_fd, "sys/class/dmi/id/product_uuid", &ret->dmi);
    hash_boot_disk(root_fd, &ret->boot_disk);
    hash_first_mac(root_fd, &ret->first_mac);
}
