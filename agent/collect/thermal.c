/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "agent/collect/collector.h"

/*
 * /sys/class/thermal: thermal_zoneN with "type" and "temp" in thousandths of a degree,
 * cooling_deviceN with "type", "cur_state" and "max_state". A read may ask the firmware: so this
 * runs on the helper.
 */

static const struct collect_metric temperature = { "hw.temperature", "Cel", SPOOL_GAUGE };
static const struct collect_metric state = { "system.linux.cooling_device.state", "{level}",
                                             SPOOL_GAUGE };
static const struct collect_metric limit = { "system.linux.cooling_device.limit", "{level}",
                                             SPOOL_GAUGE };

#define MAX_ENTRIES 512

static void add_entry(struct probe *c, const char *name)
{
    char text[COLLECT_SMALL_BYTES];
    const char *type;
    double value;

    if (!collect_wants(c, COLLECT_SENSORS, name))
        return;
    type = collect_read_small(c, text, "sys/class/thermal/%s/type", name);
    if (!type)
        type = name;
    const struct spool_attribute *attributes = ATTRIBUTES({ "hw.id", name }, { "hw.name", type });

    if (strncmp(name, "thermal_zone", 12) == 0) {
        if (collect_read_number(c, &value, "sys/class/thermal/%s/temp", name))
            collect_add(c, &temperature, value * 1e-3, attributes);
        return;
    }
    if (strncmp(name, "cooling_device", 14) != 0)
        return;
    if (collect_read_number(c, &value, "sys/class/thermal/%s/cur_state", name))
        collect_add(c, &state, value, attributes);
    if (collect_read_number(c, &value, "sys/class/thermal/%s/max_state", name))
        collect_add(c, &limit, value, attributes);
}

void collect_thermal(struct probe *c)
{
    DIR *directory = collect_open_directory(c, "sys/class/thermal");
    const char *name;

    if (!directory)
        return;
    for (size_t n = 0; n < MAX_ENTRIES && (name = collect_next_name(directory)); n++)
        add_entry(c, name);
    closedir(directory);
}
