/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "agent/collect/collector.h"

/*
 * /proc/mdstat (md(4)):
 *
 *     md0 : active raid1 sdb1[1] sda1[0](F) sdc1[2](S)
 *           104320 blocks super 1.2 [2/1] [U_]
 *           [==>..................]  recovery = 12.6% (37043392/292945152) finish=127.5min
 *
 * [2/1]: two wanted, one there. A linear or raid0 array has no such brackets.
 */

static const struct collect_metric disks = { "system.linux.md.disk.count", "{disk}", SPOOL_GAUGE };
static const struct collect_metric wanted = { "system.linux.md.disk.limit", "{disk}", SPOOL_GAUGE };
static const struct collect_metric missing = { "system.linux.md.disk.missing", "{disk}",
                                               SPOOL_GAUGE };
static const struct collect_metric active = { "system.linux.md.active", "1", SPOOL_GAUGE };
static const struct collect_metric progress = { "system.linux.md.sync.progress", "1", SPOOL_GAUGE };

static void add_members(struct probe *c, const char *device, char *words)
{
    unsigned n_active = 0, n_failed = 0, n_spare = 0;

    for (const char *word; (word = collect_word(&words));) {
        if (!strchr(word, '['))
            continue; /* "raid1", "(read-only)" */
        if (strstr(word, "(F)"))
            n_failed++;
        else if (strstr(word, "(S)"))
            n_spare++;
        else
            n_active++;
    }
    collect_add(c, &disks, n_active,
                ATTRIBUTES({ "system.device", device }, { "system.linux.md.state", "active" }));
    collect_add(c, &disks, n_failed,
                ATTRIBUTES({ "system.device", device }, { "system.linux.md.state", "failed" }));
    collect_add(c, &disks, n_spare,
                ATTRIBUTES({ "system.device", device }, { "system.linux.md.state", "spare" }));
}

/* "[2/1]" anywhere in the line. */
static void add_wanted(struct probe *c, const char *device, char *line)
{
    for (char *at = line; (at = strchr(at, '['));) {
        uint64_t n_wanted, n_there;

        at++;
        if (!collect_u64(&at, &n_wanted) || *at != '/')
            continue;
        at++;
        if (!collect_u64(&at, &n_there) || *at != ']')
            continue;
        collect_add(c, &wanted, (double) n_wanted, ATTRIBUTES({ "system.device", device }));
        collect_add(c, &missing, n_wanted > n_there ? (double) (n_wanted - n_there) : 0,
                    ATTRIBUTES({ "system.device", device }));
        return;
    }
}

static void add_progress(struct probe *c, const char *device, char *line)
{
    static const char *const actions[] = { "resync", "recovery", "reshape", "check", "repair" };

    for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++) {
        char *at = strstr(line, actions[i]);
        double percent;

        if (!at)
            continue;
        at += strlen(actions[i]);
        at += strspn(at, " ");
        if (*at++ == '=' && collect_f64(&at, &percent) && *at == '%')
            collect_add(c, &progress, percent / 100,
                        ATTRIBUTES({ "system.device", device },
                                   { "system.linux.md.sync.action", actions[i] }));
        return;
    }
}

void collect_mdadm(struct probe *c)
{
    char *text = collect_read(c, "proc/mdstat");
    const char *device = NULL;

    if (!text)
        return;
    for (char *line; (line = collect_line(&text));) {
        char *rest = line;
        const char *word, *state;

        if (line[0] == ' ' || line[0] == '\t' || line[0] == '\0') {
            if (device) {
                add_progress(c, device, line);
                add_wanted(c, device, line);
            }
            continue;
        }
        device = NULL;
        word = collect_word(&rest);
        if (!word || strncmp(word, "md", 2) != 0)
            continue; /* Personalities, unused devices */
        state = collect_word(&rest);
        if (!state || strcmp(state, ":") != 0 || !(state = collect_word(&rest))) {
            collect_count_error(c);
            continue;
        }
        device = word;
        if (!collect_wants(c, COLLECT_DISKS, device)) {
            device = NULL;
            continue;
        }
        collect_add(c, &active, strcmp(state, "active") == 0,
                    ATTRIBUTES({ "system.device", device }));
        add_members(c, device, rest);
    }
}
