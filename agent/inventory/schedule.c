/* SPDX-License-Identifier: Apache-2.0 */

/* What runs by itself: cron's jobs, systemd's units. */

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/inventory/table.h"
#include "common/base/map.h"

#define PATH_BYTES 1024

/* ---- crontab(5) ---- */

static bool is_assignment(const char *line)
{
    const size_t n = strcspn(line, "= \t");

    return n > 0 && line[n + strspn(line + n, " \t")] == '=';
}

static void put_job(struct table *t, char *line, const char *user, const char *path)
{
    const char *fields[5] = { "", "", "", "", "" }, *event = "";
    char *word;

    line = table_trim(line);
    if (!*line || *line == '#' || is_assignment(line))
        return;
    if (*line == '@') {
        event = table_word(&line);
    } else {
        for (int i = 0; i < 5; i++) {
            word = table_word(&line);
            if (!word)
                return;
            fields[i] = word;
        }
    }
    if (!user) {
        user = table_word(&line);
        if (!user)
            return;
    }
    table_put(t, event);
    for (int i = 0; i < 5; i++)
        table_put(t, fields[i]);
    table_put(t, user);
    table_put(t, table_trim(line));
    table_put_format(t, "/%s", path);
    table_end_row(t);
}

/* user NULL: the lines name it. */
static void jobs_of_file(struct table *t, const char *path, const char *user)
{
    char *text = table_read_if(t, path);

    for (char *line; text && (line = table_line(&text));)
        put_job(t, line, user, path);
}

static void jobs_of_directory(struct table *t, const char *path, bool is_by_user)
{
    CLEANUP(closedirp) DIR *directory = table_directory(t, path);
    const char *entry;
    char file[PATH_BYTES];

    while (directory && (entry = table_entry(directory)) != NULL)
        if (entry[0] != '.' &&
            snprintf(file, sizeof(file), "%s/%s", path, entry) < (int) sizeof(file))
            jobs_of_file(t, file, is_by_user ? entry : NULL);
}

void table_crontab(struct table *t)
{
    jobs_of_file(t, "etc/crontab", NULL);
    jobs_of_directory(t, "etc/cron.d", false);
    jobs_of_directory(t, "var/spool/cron/crontabs", true);
    jobs_of_directory(t, "var/spool/cron", true);
}

/* ---- units: systemd.unit(5), the directories by their rank ---- */

static const char *const unit_directories[] = { "etc/systemd/system", "run/systemd/system",
                                                "usr/local/lib/systemd/system",
                                                "usr/lib/systemd/system", "lib/systemd/system" };
#define N_UNIT_DIRECTORIES (sizeof(unit_directories) / sizeof(unit_directories[0]))

static bool is_unit(const char *name)
{
    static const char *const suffixes[] = { ".service", ".socket", ".timer",     ".mount",
                                            ".path",    ".target", ".automount", ".swap" };
    const char *dot = strrchr(name, '.');

    for (size_t i = 0; dot && i < sizeof(suffixes) / sizeof(suffixes[0]); i++)
        if (strcmp(dot, suffixes[i]) == 0)
            return true;
    return false;
}

/* Names that a *.wants or *.requires directory of /etc or /run holds: they are enabled. */
static void find_enabled(struct table *t, const char *directory_path, struct map *enabled)
{
    CLEANUP(closedirp) DIR *directory = table_directory(t, directory_path);
    const char *entry, *unit;
    char path[PATH_BYTES];

    while (directory && (entry = table_entry(directory)) != NULL) {
        const char *dot = strrchr(entry, '.');

        if (!dot || (strcmp(dot, ".wants") != 0 && strcmp(dot, ".requires") != 0))
            continue;
        snprintf(path, sizeof(path), "%s/%s", directory_path, entry);
        CLEANUP(closedirp) DIR *wants = table_directory(t, path);
        while (wants && (unit = table_entry(wants)) != NULL) {
            char *name = strdup(unit);

            if (!name || map_get(enabled, span_of_text(name)) ||
                map_put(enabled, span_of_text(name), name) != 0)
                free(name);
        }
    }
}

struct unit {
    char description[256];
    bool can_be_enabled;
};

static void read_unit(struct table *t, const char *path, struct unit *ret)
{
    char *text = table_read_if(t, path);

    *ret = (struct unit){ .description = "" };
    for (char *line; text && (line = table_line(&text));) {
        const char *description = table_after(line, "Description", '=');

        if (description && !ret->description[0])
            snprintf(ret->description, sizeof(ret->description), "%s", description);
        if (strncmp(line, "[Install]", 9) == 0)
            ret->can_be_enabled = true;
    }
}

static void put_unit(struct table *t, const char *path, const char *name, struct map *enabled)
{
    struct unit unit;
    struct stat st;
    const char *state;
    char target[PATH_BYTES];

    read_unit(t, path, &unit);
    if (fstatat(t->root_fd, path, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return;
    if (S_ISLNK(st.st_mode) &&
        strcmp(table_link_name(t, path, target, sizeof(target)), "null") == 0)
        state = "masked";
    else if (S_ISLNK(st.st_mode) &&
             strcmp(table_link_name(t, path, target, sizeof(target)), name) != 0)
        state = "alias";
    else if (map_get(enabled, span_of_text(name)))
        state = "enabled";
    else
        state = unit.can_be_enabled ? "disabled" : "static";
    table_put(t, name);
    table_put(t, unit.description);
    table_put(t, state);
    table_put_format(t, "/%s", path);
    table_end_row(t);
}

static void free_names(struct map *names)
{
    size_t at = 0;

    for (void *name; (name = map_next(names, &at));)
        free(name);
    map_deinit(names);
}

void table_systemd_units(struct table *t)
{
    struct map enabled = { 0 }, seen = { 0 };
    bool has_any = false;

    for (size_t i = 0; i < 2; i++)
        find_enabled(t, unit_directories[i], &enabled);
    for (size_t i = 0; i < N_UNIT_DIRECTORIES; i++) {
        CLEANUP(closedirp) DIR *directory = table_directory(t, unit_directories[i]);
        const char *entry;
        char path[PATH_BYTES];

        while (directory && (entry = table_entry(directory)) != NULL) {
            char *name = is_unit(entry) ? strdup(entry) : NULL;

            has_any = true;
            if (!name)
                continue;
            /* The first directory wins. */
            if (map_get(&seen, span_of_text(name)) ||
                map_put(&seen, span_of_text(name), name) != 0) {
                free(name);
                continue;
            }
            snprintf(path, sizeof(path), "%s/%s", unit_directories[i], entry);
            put_unit(t, path, entry, &enabled);
        }
    }
    if (!has_any)
        table_absent(t);
    free_names(&enabled);
    free_names(&seen);
}
