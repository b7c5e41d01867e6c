/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "agent/collect/collector.h"
#include "common/base/file.h"
#include "common/base/text.h"

/* Facts that stay the same while the agent runs. */

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
    identity_fingerprint_read(root, &ret->fingerprint);
}
