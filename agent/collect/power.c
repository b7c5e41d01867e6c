/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "agent/collect/collector.h"

/*
 * /sys/class/powercap/intel-rapl:N[:M]: "energy_uj", which goes round at "max_energy_range_uj"
 * (some minutes under load) and is made whole here; root may read it since Linux 5.10, others are
 * denied. /sys/class/power_supply: "capacity" of a battery in percent, "online" of mains.
 */

static const struct collect_metric energy = { "hw.energy", "J", SPOOL_COUNTER };
static const struct collect_metric charge = { "hw.battery.charge", "1", SPOOL_GAUGE };
static const struct collect_metric online = { "system.linux.power_supply.online", "1",
                                              SPOOL_GAUGE };

#define MAX_ZONES 64
#define MAX_NAME 48

struct state {
    struct zone {
        char name[MAX_NAME];
        double last_uj, turns_uj;
    } zones[MAX_ZONES];
    size_t n_zones;
};

static struct zone *zone_of(struct state *state, const char *name)
{
    struct zone *zone;

    for (size_t i = 0; i < state->n_zones; i++)
        if (strcmp(state->zones[i].name, name) == 0)
            return &state->zones[i];
    if (state->n_zones == MAX_ZONES || strlen(name) >= MAX_NAME)
        return NULL;
    zone = &state->zones[state->n_zones++];
    snprintf(zone->name, sizeof(zone->name), "%s", name);
    return zone;
}

static void add_zone(struct probe *c, struct state *state, const char *name)
{
    struct zone *zone;
    char text[COLLECT_SMALL_BYTES];
    const char *label;
    double uj, range_uj;

    if (!collect_wants(c, COLLECT_SENSORS, name) ||
        !collect_read_number(c, &uj, "sys/class/powercap/%s/energy_uj", name))
        return;
    zone = zone_of(state, name);
    if (!zone)
        return;
    if (uj < zone->last_uj &&
        collect_read_number(c, &range_uj, "sys/class/powercap/%s/max_energy_range_uj", name))
        zone->turns_uj += range_uj;
    zone->last_uj = uj;
    label = collect_read_small(c, text, "sys/class/powercap/%s/name", name);
    collect_add(c, &energy, (zone->turns_uj + uj) / 1e6,
                ATTRIBUTES({ "hw.id", name }, { "hw.name", label ? label : name }));
}

static void add_supply(struct probe *c, const char *name)
{
    double value;

    if (!collect_wants(c, COLLECT_SENSORS, name))
        return;
    if (collect_read_number(c, &value, "sys/class/power_supply/%s/capacity", name))
        collect_add(c, &charge, value / 100, ATTRIBUTES({ "hw.id", name }));
    if (collect_read_number(c, &value, "sys/class/power_supply/%s/online", name))
        collect_add(c, &online, value, ATTRIBUTES({ "hw.id", name }));
}

void collect_power(struct probe *c)
{
    struct state *state = collect_state(c, sizeof(*state));
    DIR *directory = state ? collect_open_directory(c, "sys/class/powercap") : NULL;
    const char *name;

    while (directory && (name = collect_next_name(directory)))
        if (strchr(name, ':')) /* intel-rapl alone is the type of all */
            add_zone(c, state, name);
    if (directory)
        closedir(directory);
    directory = collect_open_directory(c, "sys/class/power_supply");
    if (!directory)
        return;
    for (size_t n = 0; n < MAX_ZONES && (name = collect_next_name(directory)); n++)
        add_supply(c, name);
    closedir(directory);
}
