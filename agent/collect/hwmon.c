/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/collect/collector.h"

/*
 * /sys/class/hwmon/hwmonN: "name" of the chip, and TYPE<n>_input with TYPE<n>_label of each sensor
 * (Documentation/hwmon/sysfs-interface.rst). A read asks the chip, over a slow bus at times: so
 * this runs on the helper. hw.id is the device's name, which stays over a boot where hwmonN may
 * not, and the sensor's.
 */

struct kind {
    const char *prefix;
    struct collect_metric metric;
    double scale;
};

static const struct kind kinds[] = {
    { "temp", { "hw.temperature", "Cel", SPOOL_GAUGE }, 1e-3 },
    { "fan", { "hw.fan.speed", "rpm", SPOOL_GAUGE }, 1 },
    { "in", { "hw.voltage", "V", SPOOL_GAUGE }, 1e-3 },
    { "curr", { "hw.current", "A", SPOOL_GAUGE }, 1e-3 },
    { "power", { "hw.power", "W", SPOOL_GAUGE }, 1e-6 },
    { "energy", { "hw.energy", "J", SPOOL_COUNTER }, 1e-6 },
    { "humidity", { "hw.humidity", "1", SPOOL_GAUGE }, 1e-5 },
};
static const struct collect_metric temperature_limit = { "hw.temperature.limit", "Cel",
                                                         SPOOL_GAUGE };
static const struct {
    const char *suffix, *type;
} limits[] = { { "crit", "high.critical" }, { "max", "high.degraded" }, { "min", "low.degraded" } };

/* Of one chip; the largest have some sixty. */
#define MAX_CHIPS 64

struct sensor {
    const char *hwmon, *chip, *device;
    char name[32]; /* temp1 */
    char id[2 * COLLECT_SMALL_BYTES + 40];
    char label[2 * COLLECT_SMALL_BYTES + 40];
};

/* "temp1_input" (or power's "_average"): the row, and sensor->name. */
static const struct kind *kind_of(const char *file, struct sensor *sensor)
{
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        size_t len = strlen(kinds[i].prefix);
        size_t n_digits =
            strncmp(file, kinds[i].prefix, len) == 0 ? strspn(file + len, "0123456789") : 0;

        if (n_digits == 0 || len + n_digits >= sizeof(sensor->name))
            continue;
        if (strcmp(file + len + n_digits, "_input") != 0)
            continue;
        snprintf(sensor->name, sizeof(sensor->name), "%.*s", (int) (len + n_digits), file);
        return &kinds[i];
    }
    return NULL;
}

static void add_limits(struct probe *c, const struct sensor *sensor)
{
    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        double value;

        if (collect_read_number(c, &value, "sys/class/hwmon/%s/%s_%s", sensor->hwmon, sensor->name,
                                limits[i].suffix))
            collect_add(c, &temperature_limit, value * 1e-3,
                        ATTRIBUTES({ "hw.id", sensor->id }, { "hw.name", sensor->label },
                                   { "hw.parent", sensor->chip },
                                   { "hw.limit_type", limits[i].type }));
    }
}

static void add_sensor(struct probe *c, const char *file, struct sensor *sensor)
{
    const struct kind *kind = kind_of(file, sensor);
    char text[COLLECT_SMALL_BYTES];
    const char *label;
    double value;

    if (!kind)
        return;
    snprintf(sensor->id, sizeof(sensor->id), "%s/%s", sensor->device, sensor->name);
    if (!collect_wants(c, COLLECT_SENSORS, sensor->id))
        return;
    if (!collect_read_number(c, &value, "sys/class/hwmon/%s/%s", sensor->hwmon, file))
        return;
    label = collect_read_small(c, text, "sys/class/hwmon/%s/%s_label", sensor->hwmon, sensor->name);
    snprintf(sensor->label, sizeof(sensor->label), "%s", label ? label : sensor->name);
    collect_add(c, &kind->metric, value * kind->scale,
                ATTRIBUTES({ "hw.id", sensor->id }, { "hw.name", sensor->label },
                           { "hw.parent", sensor->chip }));
    if (kind == &kinds[0])
        add_limits(c, sensor);
}

/* The last part of where the link points; the chip's name where there is no device. */
static void read_device(struct probe *c, const char *hwmon, const char *chip, char *to)
{
    char path[64], target[1024];
    const char *last;
    ssize_t n;

    snprintf(path, sizeof(path), "sys/class/hwmon/%.32s/device", hwmon);
    n = readlinkat(c->machine->root_fd, path, target, sizeof(target) - 1);
    target[n > 0 ? n : 0] = '\0';
    last = strrchr(target, '/');
    snprintf(to, COLLECT_SMALL_BYTES, "%.200s", last ? last + 1 : chip);
}

static void add_chip(struct probe *c, const char *hwmon)
{
    char chip[COLLECT_SMALL_BYTES], device[COLLECT_SMALL_BYTES], path[64];
    struct sensor sensor = { .hwmon = hwmon, .chip = chip, .device = device };
    DIR *directory;
    const char *file;

    if (!collect_read_small(c, chip, "sys/class/hwmon/%s/name", hwmon))
        snprintf(chip, sizeof(chip), "%.32s", hwmon);
    read_device(c, hwmon, chip, device);
    snprintf(path, sizeof(path), "sys/class/hwmon/%.32s", hwmon);
    directory = collect_open_directory(c, path);
    if (!directory)
        return;
    while ((file = collect_next_name(directory)))
        add_sensor(c, file, &sensor);
    closedir(directory);
}

void collect_hwmon(struct probe *c)
{
    DIR *directory = collect_open_directory(c, "sys/class/hwmon");
    const char *name;

    if (!directory)
        return;
    for (size_t n = 0; n < MAX_CHIPS && (name = collect_next_name(directory)); n++)
        add_chip(c, name);
    closedir(directory);
}
