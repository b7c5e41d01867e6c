/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "agent/collect/collector.h"

/*
 * /sys/devices/system/cpu/cpuN/cpufreq/scaling_cur_freq in kHz; where there is no cpufreq (virtual
 * machines), "cpu MHz" of /proc/cpuinfo. A series for each logical CPU with collect.per_cpu, else
 * their mean: a machine of 256 CPUs would spend a third of its series here.
 */

static const struct collect_metric frequency = { "system.cpu.frequency", "Hz", SPOOL_GAUGE };

#define MAX_CPUS 4096

struct tally {
    double sum_hz;
    unsigned n;
};

static void say(struct probe *c, struct tally *tally, unsigned cpu, double hz)
{
    char number[16];

    tally->sum_hz += hz;
    tally->n++;
    if (!c->rules->numbers.per_cpu)
        return;
    snprintf(number, sizeof(number), "%u", cpu);
    collect_add(c, &frequency, hz, ATTRIBUTES({ "cpu.logical_number", number }));
}

static void read_cpufreq(struct probe *c, struct tally *tally)
{
    DIR *directory = collect_open_directory(c, "sys/devices/system/cpu");
    const char *name;

    if (!directory)
        return;
    while ((name = collect_next_name(directory))) {
        uint64_t cpu;
        double khz;

        if (!collect_number_of(name, "cpu", &cpu) || cpu >= MAX_CPUS)
            continue;
        if (collect_read_number(c, &khz, "sys/devices/system/cpu/%s/cpufreq/scaling_cur_freq",
                                name))
            say(c, tally, (unsigned) cpu, khz * 1000);
        else if (tally->n == 0 && cpu > 0)
            break; /* neither has this one, nor has cpu0 */
    }
    closedir(directory);
}

static void read_cpuinfo(struct probe *c, struct tally *tally)
{
    char *text = collect_read(c, "proc/cpuinfo");
    uint64_t cpu = 0;

    for (char *line; text && (line = collect_line(&text));) {
        char *colon = strchr(line, ':');
        double mhz;

        if (!colon)
            continue;
        colon++;
        if (strncmp(line, "processor", 9) == 0)
            (void) collect_u64(&colon, &cpu);
        else if (strncmp(line, "cpu MHz", 7) == 0 && collect_f64(&colon, &mhz))
            say(c, tally, (unsigned) cpu, mhz * 1e6);
    }
}

void collect_cpufreq(struct probe *c)
{
    struct tally tally = { 0 };

    read_cpufreq(c, &tally);
    if (tally.n == 0)
        read_cpuinfo(c, &tally);
    if (tally.n > 0 && !c->rules->numbers.per_cpu)
        collect_add(c, &frequency, tally.sum_hz / tally.n, NULL);
}
