/* SPDX-License-Identifier: Apache-2.0 */

/* The machine, its firmware, its processors, its operating system. */

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "agent/inventory/table.h"

#define FACT_BYTES 256

static void put_fact(struct table *t, const char *path)
{
    char fact[FACT_BYTES];

    table_put(t, table_fact(t, path, fact, sizeof(fact)));
}

/* ---- processors ---- */

struct cpus {
    char model[FACT_BYTES], vendor[FACT_BYTES];
    unsigned n_logical, n_physical, n_sockets;
    uint64_t cores[1024]; /* socket << 32 | core, as they come */
};

static void note_core(struct cpus *cpus, uint64_t socket, uint64_t core)
{
    const uint64_t key = socket << 32 | core;

    for (unsigned i = 0; i < cpus->n_physical; i++)
        if (cpus->cores[i] == key)
            return;
    if (cpus->n_physical < sizeof(cpus->cores) / sizeof(cpus->cores[0]))
        cpus->cores[cpus->n_physical++] = key;
    if (socket + 1 > cpus->n_sockets && socket < 1024)
        cpus->n_sockets = (unsigned) socket + 1;
}

static void copy_value(char *line, char to[static FACT_BYTES])
{
    const char *value = strchr(line, ':');

    if (value && !to[0])
        snprintf(to, FACT_BYTES, "%s", table_trim((char *) (uintptr_t) value + 1));
}

static void read_cpus(struct table *t, struct cpus *cpus)
{
    char *text = table_read(t, "proc/cpuinfo");
    uint64_t socket = 0, core = 0;
    bool has_core = false;

    *cpus = (struct cpus){ 0 };
    for (char *line; text && (line = table_line(&text));) {
        if (strncmp(line, "processor", 9) == 0)
            cpus->n_logical++;
        else if (strncmp(line, "model name", 10) == 0)
            copy_value(line, cpus->model);
        else if (strncmp(line, "vendor_id", 9) == 0 || strncmp(line, "CPU implementer", 15) == 0)
            copy_value(line, cpus->vendor);
        else if (strncmp(line, "physical id", 11) == 0)
            socket = strtoull(strchr(line, ':') ? strchr(line, ':') + 1 : "0", NULL, 10);
        else if (strncmp(line, "core id", 7) == 0) {
            core = strtoull(strchr(line, ':') ? strchr(line, ':') + 1 : "0", NULL, 10);
            has_core = true;
        } else if (!line[0] && has_core) {
            note_core(cpus, socket, core);
            has_core = false;
        }
    }
    if (has_core)
        note_core(cpus, socket, core);
    if (!cpus->n_physical)
        cpus->n_physical = cpus->n_logical;
    if (!cpus->n_sockets)
        cpus->n_sockets = 1;
}

void table_cpu_info(struct table *t)
{
    struct cpus cpus;
    uint64_t max_khz = table_number(t, "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq");

    read_cpus(t, &cpus);
    for (unsigned socket = 0; socket < cpus.n_sockets; socket++) {
        unsigned n_cores = 0;

        for (unsigned i = 0; i < cpus.n_physical; i++)
            n_cores += cpus.cores[i] >> 32 == socket;
        table_put_format(t, "CPU%u", socket);
        table_put(t, cpus.model);
        table_put(t, cpus.vendor);
        table_put_u64(t, n_cores ? n_cores : cpus.n_physical);
        table_put_u64(t, cpus.n_logical / cpus.n_sockets);
        table_put_u64(t, max_khz / 1000);
        table_put_u64(t, socket);
        table_end_row(t);
    }
}

/* ---- the machine ---- */

static uint64_t memory_bytes(struct table *t)
{
    char *text = table_read(t, "proc/meminfo");

    for (char *line; text && (line = table_line(&text));) {
        const char *value = table_after(line, "MemTotal", ':');

        if (value)
            return strtoull(value, NULL, 10) * 1024;
    }
    return 0;
}

void table_system_info(struct table *t)
{
    const uint64_t n_bytes = memory_bytes(t);
    struct utsname name = { 0 };
    char host[FACT_BYTES];
    struct cpus cpus;

    read_cpus(t, &cpus);
    (void) uname(&name);
    table_fact(t, "proc/sys/kernel/hostname", host, sizeof(host));
    table_put(t, host);
    put_fact(t, "sys/class/dmi/id/product_uuid");
    table_put(t, name.machine);
    table_put(t, cpus.model);
    table_put_u64(t, cpus.n_physical);
    table_put_u64(t, cpus.n_logical);
    table_put_u64(t, n_bytes);
    put_fact(t, "sys/class/dmi/id/sys_vendor");
    put_fact(t, "sys/class/dmi/id/product_name");
    put_fact(t, "sys/class/dmi/id/product_version");
    put_fact(t, "sys/class/dmi/id/product_serial");
    put_fact(t, "sys/class/dmi/id/board_vendor");
    put_fact(t, "sys/class/dmi/id/board_name");
    put_fact(t, "sys/class/dmi/id/board_version");
    put_fact(t, "sys/class/dmi/id/board_serial");
    table_put(t, host);
    table_end_row(t);
}

void table_platform_info(struct table *t)
{
    char fact[FACT_BYTES];

    if (!table_fact(t, "sys/class/dmi/id/bios_vendor", fact, sizeof(fact))[0]) {
        table_absent(t);
        return;
    }
    table_put(t, fact);
    put_fact(t, "sys/class/dmi/id/bios_version");
    put_fact(t, "sys/class/dmi/id/bios_date");
    put_fact(t, "sys/class/dmi/id/bios_release");
    table_end_row(t);
}

/* ---- the operating system ---- */

enum { OS_NAME, OS_VERSION, OS_ID, OS_LIKE, OS_CODENAME, OS_VERSION_ID, OS_BUILD, N_OS };

/* os-release(5): a shell's assignments; quotes and backslashes are taken away. */
static void unquote(char *value)
{
    const bool is_quoted = *value == '"' || *value == '\'';
    const char quote = *value;
    char *to = value;

    for (const char *from = value + is_quoted; *from && (!is_quoted || *from != quote); from++) {
        if (*from == '\\' && from[1])
            from++;
        *to++ = *from;
    }
    *to = '\0';
}

void table_os_version(struct table *t)
{
    static const char *const keys[N_OS] = {
        [OS_NAME] = "NAME",      [OS_VERSION] = "VERSION",           [OS_ID] = "ID",
        [OS_LIKE] = "ID_LIKE",   [OS_CODENAME] = "VERSION_CODENAME", [OS_VERSION_ID] = "VERSION_ID",
        [OS_BUILD] = "BUILD_ID",
    };
    char facts[N_OS][FACT_BYTES] = { "" }, *end;
    struct utsname name = { 0 };
    char *text = table_read(t, "etc/os-release");

    if (!text)
        text = table_read(t, "usr/lib/os-release");
    for (char *line; text && (line = table_line(&text));)
        for (int i = 0; i < N_OS; i++) {
            char *value = table_after(line, keys[i], '=');

            if (!value)
                continue;
            unquote(value);
            snprintf(facts[i], sizeof(facts[i]), "%s", value);
        }
    (void) uname(&name);
    table_put(t, facts[OS_NAME]);
    table_put(t, facts[OS_VERSION]);
    table_put_u64(t, strtoull(facts[OS_VERSION_ID], &end, 10));
    table_put_u64(t, *end == '.' ? strtoull(end + 1, &end, 10) : 0);
    table_put_u64(t, *end == '.' ? strtoull(end + 1, &end, 10) : 0);
    table_put(t, facts[OS_BUILD]);
    table_put(t, facts[OS_ID]);
    table_put(t, facts[OS_LIKE]);
    table_put(t, facts[OS_CODENAME]);
    table_put(t, name.machine);
    table_end_row(t);
}

void table_kernel_info(struct table *t)
{
    char *text, *image = NULL, *root = NULL;

    put_fact(t, "proc/sys/kernel/osrelease");
    text = table_read_if(t, "proc/cmdline");
    text = text ? table_trim(text) : NULL;
    table_put(t, text);
    for (char *word; text && (word = table_word(&text));) {
        if (strncmp(word, "BOOT_IMAGE=", 11) == 0)
            image = word + 11;
        else if (strncmp(word, "root=", 5) == 0)
            root = word + 5;
    }
    table_put(t, image);
    table_put(t, root);
    table_end_row(t);
}

void table_kernel_modules(struct table *t)
{
    char *text = table_read(t, "proc/modules");

    if (!text && !t->is_unreadable)
        table_absent(t);
    for (char *line; text && (line = table_line(&text));) {
        /* name size references users status address */
        char *words[5] = { NULL };

        for (int i = 0; i < 5; i++)
            words[i] = table_word(&line);
        if (!words[4])
            continue;
        table_put(t, words[0]);
        table_put(t, words[1]);
        table_put(t, strcmp(words[3], "-") == 0 ? "" : words[3]);
        table_put(t, words[4]);
        table_end_row(t);
    }
}

/* ---- moments ---- */

void table_reboot_required(struct table *t)
{
    struct buf names = { 0 };
    char *text = table_read_if(t, "run/reboot-required.pkgs");
    bool is_required = false;

    for (char *line; text && (line = table_line(&text));) {
        buf_append_text(&names, names.len ? "," : "");
        buf_append_text(&names, line);
    }
    is_required = table_read_if(t, "run/reboot-required") != NULL;
    table_put_u64(t, is_required);
    table_put_span(t, buf_span(&names));
    table_end_row(t);
    buf_deinit(&names);
}

void table_uptime(struct table *t)
{
    char fact[FACT_BYTES];
    const uint64_t seconds = strtoull(table_fact(t, "proc/uptime", fact, sizeof(fact)), NULL, 10);

    table_put_u64(t, seconds);
    table_put_u64(t, (uint64_t) (clock_wall().us / 1000000) - seconds);
    table_end_row(t);
}

void table_time(struct table *t)
{
    char zone[FACT_BYTES];

    table_put_i64(t, clock_wall().us / 1000000);
    table_put(t, table_fact(t, "etc/timezone", zone, sizeof(zone)));
    table_end_row(t);
}
