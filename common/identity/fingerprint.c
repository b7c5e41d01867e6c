/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/text.h"
#include "common/crypto/crypto.h"
#include "common/identity/identity.h"

#define MOUNTINFO_BYTES 65536

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

static void
put_hash(struct identity_fingerprint *ret, enum identity_source source, const char *text)
{
    static const char *const names[] = {
        [IDENTITY_MACHINE_ID] = "machine-id",
        [IDENTITY_DMI] = "dmi",
        [IDENTITY_BOOT_DISK] = "boot-disk",
        [IDENTITY_FIRST_MAC] = "first-mac",
    };
    static const char domain[] = "sentinel-fingerprint-1";
    struct crypto_hash *hash = crypto_hash_new();

    crypto_hash_update(hash, span_of(domain, sizeof(domain)));
    crypto_hash_update(hash, span_of(names[source], strlen(names[source]) + 1));
    crypto_hash_update(hash, span_of_text(text));
    crypto_hash_finish(hash, ret->sha256[source]);
    crypto_hash_free(hash);
    ret->has[source] = true;
}

static void put_file(int root_fd,
                     const char *path,
                     struct identity_fingerprint *ret,
                     enum identity_source source)
{
    char text[256];

    if (read_text(root_fd, path, text, sizeof(text)))
        put_hash(ret, source, text);
}

/* ---- the boot disk: what "/" lies on, up to the whole disk, by the first name its maker gave it
 * ---- */

/* "36 35 98:0 /mnt1 /mnt2 rw,noatime ...": proc_pid_mountinfo(5). The last mount on "/" counts. */
static bool root_device(int root_fd, char *ret, size_t size)
{
    char *text = malloc(MOUNTINFO_BYTES), *rest = NULL;
    bool has_found = false;

    if (text && (read_text(root_fd, "proc/1/mountinfo", text, MOUNTINFO_BYTES) ||
                 read_text(root_fd, "proc/self/mountinfo", text, MOUNTINFO_BYTES))) {
        for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
            char *words[5] = { NULL }, *end = NULL;

            words[0] = strtok_r(line, " ", &end);
            for (size_t i = 1; i < 5 && words[i - 1]; i++)
                words[i] = strtok_r(NULL, " ", &end);
            if (words[4] && strcmp(words[4], "/") == 0) {
                snprintf(ret, size, "%s", words[2]);
                has_found = true;
            }
        }
    }
    free(text);
    return has_found;
}

static void put_boot_disk(int root_fd, struct identity_fingerprint *ret)
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
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && !ret->has[IDENTITY_BOOT_DISK]; i++) {
        snprintf(path, sizeof(path), "sys/block/%.100s/%s", disk, names[i]);
        put_file(root_fd, path, ret, IDENTITY_BOOT_DISK);
    }
}

/* ---- the first interface whose address came with the hardware ---- */

/* Its index, or UINT64_MAX. */
static uint64_t read_interface(int net_fd, const char *name, char *to, size_t size)
{
    char path[320], text[64];
    uint64_t index;

    snprintf(path, sizeof(path), "%s/addr_assign_type", name);
    if (!read_text(net_fd, path, text, sizeof(text)) || strcmp(text, "0") != 0)
        return UINT64_MAX;
    snprintf(path, sizeof(path), "%s/ifindex", name);
    if (!read_text(net_fd, path, text, sizeof(text)) || text_to_u64(text, &index))
        return UINT64_MAX;
    snprintf(path, sizeof(path), "%s/address", name);
    if (!read_text(net_fd, path, to, size) || strspn(to, "0:") == strlen(to))
        return UINT64_MAX;
    return index;
}

static void put_first_mac(int root_fd, struct identity_fingerprint *ret)
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
        char address[64];
        uint64_t index;

        if (entry->d_name[0] == '.')
            continue;
        index = read_interface(fd, entry->d_name, address, sizeof(address));
        if (index >= lowest)
            continue;
        lowest = index;
        memcpy(first, address, sizeof(first));
    }
    closedir(directory);
    if (first[0])
        put_hash(ret, IDENTITY_FIRST_MAC, first);
}

void identity_fingerprint_read(const char *root, struct identity_fingerprint *ret)
{
    CLEANUP(fd_closep) int root_fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);

    *ret = (struct identity_fingerprint){ .has = { false } };
    if (root_fd < 0)
        return;
    put_file(root_fd, "etc/machine-id", ret, IDENTITY_MACHINE_ID);
    if (!ret->has[IDENTITY_MACHINE_ID])
        put_file(root_fd, "var/lib/dbus/machine-id", ret, IDENTITY_MACHINE_ID);
    put_file(root_fd, "sys/class/dmi/id/product_uuid", ret, IDENTITY_DMI);
    put_boot_disk(root_fd, ret);
    put_first_mac(root_fd, ret);
}

bool identity_fingerprint_agrees(const struct identity_fingerprint *a,
                                 const struct identity_fingerprint *b)
{
    for (size_t i = 0; i < IDENTITY_N_SOURCES; i++) {
        if (a->has[i] && b->has[i] && memcmp(a->sha256[i], b->sha256[i], 32) != 0)
            return false;
    }
    return true;
}
