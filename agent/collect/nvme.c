/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <linux/nvme_ioctl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "agent/collect/collector.h"
#include "agent/collect/custom.h"
#include "agent/collect/nvme_log.h"
#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/log/log.h"

/*
 * /sys/class/nvme/nvmeN: "state" (live, connecting, dead ...) and "model"; and the drive's SMART
 * log, where this user may ask for it: by an ioctl on /dev/nvmeN that takes CAP_SYS_ADMIN.
 *
 * A drive is asked once a minute, as each question may wake it; the rounds between tell what it
 * answered. Where the agent sees no /dev/nvmeN, as in its unit's sandbox, nothing is asked, and
 * nothing is wrong.
 */

static const struct collect_metric status = { "hw.status", "1", SPOOL_GAUGE };
static const struct collect_metric temperature = { "hw.temperature", "Cel", SPOOL_GAUGE };
static const struct collect_metric spare = { "system.linux.nvme.spare", "1", SPOOL_GAUGE };
static const struct collect_metric spare_limit = { "system.linux.nvme.spare.limit", "1",
                                                   SPOOL_GAUGE };
static const struct collect_metric used = { "system.linux.nvme.endurance.used", "1", SPOOL_GAUGE };
static const struct collect_metric io = { "system.linux.nvme.io", "By", SPOOL_COUNTER };
static const struct collect_metric power_on_time = { "system.linux.nvme.power_on_time", "s",
                                                     SPOOL_COUNTER };
static const struct collect_metric power_cycles = { "system.linux.nvme.power_cycles", "{cycle}",
                                                    SPOOL_COUNTER };
static const struct collect_metric unsafe_shutdowns = { "system.linux.nvme.unsafe_shutdowns",
                                                        "{shutdown}", SPOOL_COUNTER };
static const struct collect_metric media_errors = { "system.linux.nvme.media_errors", "{error}",
                                                    SPOOL_COUNTER };
static const struct collect_metric warning = { "system.linux.nvme.critical_warning", "1",
                                               SPOOL_GAUGE };

#define MAX_DRIVES 64
#define NAME_BYTES 32
#define ASK_US (INT64_C(60) * 1000000)
#define GET_LOG_PAGE 0x02
#define ALL_NAMESPACES 0xffffffffu
#define HEALTH_PAGE 0x02u

struct drive {
    char name[NAME_BYTES]; /* "": free */
    int64_t asked_us;
    int answer; /* of collect_nvme_log_fn */
    bool has_health;
    struct nvme_health health;
};

struct state {
    struct drive drives[MAX_DRIVES];
    struct custom_troubles troubles;
};

/* ---- the drive's log ---- */

static int read_log(int root_fd, const char *name, uint8_t to[static NVME_LOG_BYTES])
{
    struct nvme_admin_cmd command = {
        .opcode = GET_LOG_PAGE,
        .nsid = ALL_NAMESPACES,
        .addr = (uint64_t) (uintptr_t) to,
        .data_len = NVME_LOG_BYTES,
        .cdw10 = HEALTH_PAGE | (NVME_LOG_BYTES / 4 - 1) << 16,
        /* timeout_ms stays 0, the driver's own: when one is over, it resets the drive. */
    };
    CLEANUP(fd_closep) int fd = -1;
    char path[NAME_BYTES + 8];
    int r;

    snprintf(path, sizeof(path), "dev/%s", name);
    fd = openat(root_fd, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return -errno;
    r = ioctl(fd, NVME_IOCTL_ADMIN_CMD, &command);
    return r < 0 ? -errno : r;
}

static struct drive *find_drive(struct state *state, const char *name)
{
    struct drive *unused = NULL;

    for (size_t i = 0; i < MAX_DRIVES; i++) {
        struct drive *drive = &state->drives[i];

        if (strcmp(drive->name, name) == 0)
            return drive;
        if (!drive->name[0] && !unused)
            unused = drive;
    }
    if (unused)
        snprintf(unused->name, sizeof(unused->name), "%s", name);
    return unused;
}

static void ask(struct probe *c, struct drive *drive)
{
    collect_nvme_log_fn *log_fn = c->rules->nvme_log ? c->rules->nvme_log : read_log;
    const int64_t now_us = clock_mono().us;
    uint8_t page[NVME_LOG_BYTES] = { 0 };

    if (drive->asked_us && now_us - drive->asked_us < ASK_US)
        return;
    drive->asked_us = now_us;
    drive->answer = log_fn(c->machine->root_fd, drive->name, page);
    drive->has_health =
        drive->answer == 0 && nvme_health_decode(span_of(page, sizeof(page)), &drive->health);
}

/* Each round says that it failed, and why: the log once for each reason. */
static void say_trouble(struct probe *c, struct state *state, const struct drive *drive)
{
    char path[NAME_BYTES + 8], words[96];

    snprintf(path, sizeof(path), "dev/%s", drive->name);
    switch (-drive->answer) {
    case ENOENT:
    case ENXIO:
    case ENODEV:
        return;
    case EACCES:
    case EPERM:
        collect_count_failure(c, path, -drive->answer);
        return;
    default:
        break;
    }
    collect_count_error(c);
    if (drive->answer > 0)
        snprintf(words, sizeof(words), "the drive answers with status 0x%x",
                 (unsigned) drive->answer);
    else if (drive->answer < 0)
        snprintf(words, sizeof(words), "%s", strerror(-drive->answer));
    else
        snprintf(words, sizeof(words), "the drive answers with zeros");
    if (custom_is_news(&state->troubles, drive->name, words))
        log_event(LOG_WARN, "nvme_log_failed", LOG_S("path", path), LOG_S("error", words),
                  LOG_S("remedy", "update the drive's firmware, or leave it out with "
                                  "collect.disk.exclude; this is said once"));
}

static void add_health(struct probe *c, const struct nvme_health *health, const char *name)
{
    const struct spool_attribute *who = ATTRIBUTES({ "hw.id", name });

    if (health->has_temperature)
        collect_add(c, &temperature, health->temperature_celsius, who);
    collect_add(c, &spare, health->spare, who);
    collect_add(c, &spare_limit, health->spare_threshold, who);
    collect_add(c, &used, health->used, who);
    collect_add(c, &io, health->read_bytes,
                ATTRIBUTES({ "hw.id", name }, { "disk.io.direction", "read" }));
    collect_add(c, &io, health->written_bytes,
                ATTRIBUTES({ "hw.id", name }, { "disk.io.direction", "write" }));
    collect_add(c, &power_on_time, health->power_on_s, who);
    collect_add(c, &power_cycles, health->power_cycles, who);
    collect_add(c, &unsafe_shutdowns, health->unsafe_shutdowns, who);
    collect_add(c, &media_errors, health->media_errors, who);
    for (size_t i = 0; i < NVME_N_WARNINGS; i++)
        collect_add(
            c, &warning, health->warnings[i],
            ATTRIBUTES({ "hw.id", name }, { "system.linux.nvme.warning", nvme_warning_names[i] }));
}

/* ---- drives ---- */

static void
add_status(struct probe *c, const char *name, const char *model, const char *state, bool is_so)
{
    collect_add(c, &status, is_so,
                ATTRIBUTES({ "hw.id", name }, { "hw.name", model }, { "hw.state", state },
                           { "hw.type", "physical_disk" }));
}

static void add_drive(struct probe *c, struct state *state, const char *name)
{
    char state_text[COLLECT_SMALL_BYTES], model_text[COLLECT_SMALL_BYTES];
    const char *now = collect_read_small(c, state_text, "sys/class/nvme/%s/state", name);
    const char *model = collect_read_small(c, model_text, "sys/class/nvme/%s/model", name);
    struct drive *drive = state && strlen(name) < NAME_BYTES ? find_drive(state, name) : NULL;
    bool is_ok, has_warning = false;

    if (!now || !collect_wants(c, COLLECT_DISKS, name))
        return;
    is_ok = strcmp(now, "live") == 0;
    add_status(c, name, model ? model : name, "ok", is_ok);
    add_status(c, name, model ? model : name, "failed", !is_ok);
    if (!drive || !is_ok)
        return;
    ask(c, drive);
    if (!drive->has_health) {
        say_trouble(c, state, drive);
        return;
    }
    custom_is_well(&state->troubles, name);
    add_health(c, &drive->health, name);
    for (size_t i = 0; i < NVME_N_WARNINGS; i++)
        has_warning = has_warning || drive->health.warnings[i];
    add_status(c, name, model ? model : name, "predicted_failure", has_warning);
}

void collect_nvme(struct probe *c)
{
    DIR *directory = collect_open_directory(c, "sys/class/nvme");
    struct state *state = directory ? collect_state(c, sizeof(*state)) : NULL;
    const char *name;

    if (!directory)
        return;
    for (size_t n = 0; n < MAX_DRIVES && (name = collect_next_name(directory)); n++)
        add_drive(c, state, name);
    closedir(directory);
}
