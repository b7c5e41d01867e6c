/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "agent/collect/collector.h"

/*
 * /sys/class/nvme/nvmeN: "state" (live, connecting, dead ...) and "model". What the drive itself
 * measures (temperature, its limits) comes through hwmon; the rest of its SMART log takes an ioctl
 * that only root may make, and is left to a text file of smartctl's.
 */

static const struct collect_metric status = { "hw.status", "1", SPOOL_GAUGE };

#define MAX_DRIVES 64

static void add_drive(struct probe *c, const char *name)
{
    char state_text[COLLECT_SMALL_BYTES], model_text[COLLECT_SMALL_BYTES];
    const char *state = collect_read_small(c, state_text, "sys/class/nvme/%s/state", name);
    const char *model = collect_read_small(c, model_text, "sys/class/nvme/%s/model", name);
    bool is_ok;

    if (!state || !collect_wants(c, COLLECT_DISKS, name))
        return;
    is_ok = strcmp(state, "live") == 0;
    collect_add(c, &status, is_ok,
                ATTRIBUTES({ "hw.id", name }, { "hw.name", model ? model : name },
                           { "hw.state", "ok" }, { "hw.type", "physical_disk" }));
    collect_add(c, &status, !is_ok,
                ATTRIBUTES({ "hw.id", name }, { "hw.name", model ? model : name },
                           { "hw.state", "failed" }, { "hw.type", "physical_disk" }));
}

void collect_nvme(struct probe *c)
{
    DIR *directory = collect_open_directory(c, "sys/class/nvme");
    const char *name;

    if (!directory)
        return;
    for (size_t n = 0; n < MAX_DRIVES && (name = collect_next_name(directory)); n++)
        add_drive(c, name);
    closedir(directory);
}
