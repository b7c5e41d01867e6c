/* SPDX-License-Identifier: Apache-2.0 */

/* Accounts, who is logged in, who may log in, who may become whom. Of local files alone: no name
 * service is asked, which may be far away. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utmp.h>

#include "agent/inventory/table.h"

#define PATH_BYTES 1024
#define MAX_DEPTH 4 /* of @include in sudoers */

void table_users(struct table *t)
{
    char *text = table_read(t, "etc/passwd");

    for (char *line; text && (line = table_line(&text));) {
        char *fields[7] = { NULL };

        for (int i = 0; i < 7; i++)
            fields[i] = table_field(&line, ':');
        if (!fields[6])
            continue;
        table_put(t, fields[2]);
        table_put(t, fields[3]);
        table_put(t, fields[0]);
        table_put(t, fields[4]);
        table_put(t, fields[5]);
        table_put(t, fields[6]);
        table_end_row(t);
    }
}

void table_groups(struct table *t)
{
    char *text = table_read(t, "etc/group");

    for (char *line; text && (line = table_line(&text));) {
        char *fields[4] = { NULL };

        for (int i = 0; i < 4; i++)
            fields[i] = table_field(&line, ':');
        if (!fields[3])
            continue;
        table_put(t, fields[2]);
        table_put(t, fields[0]);
        table_put(t, fields[3]);
        table_end_row(t);
    }
}

/* ---- utmp(5) ---- */

static void put_fixed(struct table *t, const char *text, size_t size)
{
    table_put_span(t, span_of(text, strnlen(text, size)));
}

static const char *type_name(int type)
{
    static const char *const names[] = {
        [RUN_LVL] = "runlevel",  [BOOT_TIME] = "boot",    [NEW_TIME] = "new-time",
        [OLD_TIME] = "old-time", [INIT_PROCESS] = "init", [LOGIN_PROCESS] = "login",
        [USER_PROCESS] = "user", [DEAD_PROCESS] = "dead",
    };

    return type > 0 && (size_t) type < sizeof(names) / sizeof(names[0]) && names[type] ? names[type]
                                                                                       : "";
}

static bool next_entry(const struct table *t, size_t *at, struct utmp *ret)
{
    if (t->text.len - *at < sizeof(*ret))
        return false;
    memcpy(ret, t->text.data + *at, sizeof(*ret));
    *at += sizeof(*ret);
    return true;
}

void table_logged_in_users(struct table *t)
{
    struct utmp entry;
    size_t at = 0;

    if (!table_read(t, "run/utmp"))
        return;
    while (next_entry(t, &at, &entry)) {
        if (entry.ut_type != USER_PROCESS)
            continue;
        table_put(t, type_name(entry.ut_type));
        put_fixed(t, entry.ut_user, sizeof(entry.ut_user));
        put_fixed(t, entry.ut_line, sizeof(entry.ut_line));
        put_fixed(t, entry.ut_host, sizeof(entry.ut_host));
        table_put_i64(t, entry.ut_tv.tv_sec);
        table_put_i64(t, entry.ut_pid);
        table_end_row(t);
    }
}

void table_last(struct table *t)
{
    struct utmp entry;
    size_t at = 0;

    if (!table_read(t, "var/log/wtmp")) {
        if (!t->is_unreadable)
            table_absent(t);
        return;
    }
    while (next_entry(t, &at, &entry)) {
        if (entry.ut_type != USER_PROCESS && entry.ut_type != DEAD_PROCESS &&
            entry.ut_type != BOOT_TIME)
            continue;
        put_fixed(t, entry.ut_user, sizeof(entry.ut_user));
        put_fixed(t, entry.ut_line, sizeof(entry.ut_line));
        table_put_i64(t, entry.ut_pid);
        table_put(t, type_name(entry.ut_type));
        table_put_i64(t, entry.ut_tv.tv_sec);
        put_fixed(t, entry.ut_host, sizeof(entry.ut_host));
        table_end_row(t);
    }
}

/* ---- sshd(8), AUTHORIZED_KEYS FILE FORMAT ---- */

static bool is_algorithm(const char *word)
{
    return strncmp(word, "ssh-", 4) == 0 || strncmp(word, "ecdsa-", 6) == 0 ||
           strncmp(word, "sk-", 3) == 0;
}

/* Cuts the options off: up to a space outside of quotes. */
static char *cut_options(char **cursor)
{
    char *begin = *cursor, *at = begin;
    bool is_quoted = false;

    for (; *at && (is_quoted || (*at != ' ' && *at != '\t')); at++) {
        if (*at == '\\' && at[1])
            at++;
        else if (*at == '"')
            is_quoted = !is_quoted;
    }
    *cursor = *at ? at + 1 : at;
    *at = '\0';
    return begin;
}

static void put_key(struct table *t, char *line, const char *const who[2], const char *path)
{
    char *options = NULL, *algorithm, *key;

    line = table_trim(line);
    if (!*line || *line == '#')
        return;
    if (!is_algorithm(line))
        options = cut_options(&line);
    algorithm = table_word(&line);
    key = algorithm ? table_word(&line) : NULL;
    if (!key || !is_algorithm(algorithm))
        return;
    table_put(t, who[0]);
    table_put(t, who[1]);
    table_put(t, algorithm);
    table_put(t, key);
    table_put(t, options);
    table_put(t, table_trim(line));
    table_put(t, path);
    table_end_row(t);
}

static void keys_of(struct table *t, const char *const who[2], const char *home)
{
    static const char *const names[] = { ".ssh/authorized_keys", ".ssh/authorized_keys2" };
    char path[PATH_BYTES];

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char *text;

        if (snprintf(path, sizeof(path), "%s/%s", home + strspn(home, "/"), names[i]) >=
            (int) sizeof(path))
            continue;
        /* Others' homes are closed to an agent without the right: that is no fault. */
        errno = 0;
        text = table_read_if(t, path);
        if (!text && errno == EFBIG) { /* sshd reads it all the same */
            table_put(t, who[0]);
            table_put(t, who[1]);
            table_put(t, "");
            table_put(t, "");
            table_put(t, "the file is too long to be read");
            table_put(t, "");
            table_put(t, path);
            table_end_row(t);
        }
        for (char *line; text && (line = table_line(&text));)
            put_key(t, line, who, path);
    }
}

void table_authorized_keys(struct table *t)
{
    struct buf passwd = { 0 };
    char *text = table_read(t, "etc/passwd");

    if (!text)
        return;
    buf_append_text(&passwd, text); /* the next read overwrites it */
    text = (char *) (uintptr_t) buf_text(&passwd);
    for (char *line; (line = table_line(&text));) {
        char *fields[6] = { NULL };

        for (int i = 0; i < 6; i++)
            fields[i] = table_field(&line, ':');
        if (fields[5] && fields[5][0] == '/' && strcmp(fields[5], "/") != 0)
            keys_of(t, (const char *const[2]){ fields[2], fields[0] }, fields[5]);
    }
    buf_deinit(&passwd);
}

/* ---- sudoers(5) ---- */

static void read_sudoers(struct table *t, const char *path, int depth);

static void read_sudoers_directory(struct table *t, const char *path, int depth)
{
    CLEANUP(closedirp) DIR *directory = table_directory(t, path);
    const char *entry;
    char file[PATH_BYTES];

    /* Names with a dot or a ~ at the end are passed over, as sudo does. */
    while (directory && (entry = table_entry(directory)) != NULL)
        if (!strchr(entry, '.') && entry[strlen(entry) - 1] != '~' &&
            snprintf(file, sizeof(file), "%s/%s", path, entry) < (int) sizeof(file))
            read_sudoers(t, file, depth);
}

static void take_rule(struct table *t, const char *source, char *line, int depth)
{
    char path[PATH_BYTES];
    char *word;

    line = table_trim(line);
    if (!*line || (*line == '#' && strncmp(line, "#include", 8) != 0 &&
                   strncmp(line, "#includedir", 11) != 0))
        return;
    word = table_word(&line);
    if (strcmp(word + 1, "includedir") == 0 || strcmp(word + 1, "include") == 0) {
        const bool is_directory = strcmp(word + 1, "includedir") == 0;
        const char *to = table_trim(line);

        if (*to == '/')
            snprintf(path, sizeof(path), "%s", to + 1);
        else
            snprintf(path, sizeof(path), "etc/%s", to);
        if (depth < MAX_DEPTH && is_directory)
            read_sudoers_directory(t, path, depth + 1);
        else if (depth < MAX_DEPTH)
            read_sudoers(t, path, depth + 1);
        return;
    }
    table_put_format(t, "/%s", source);
    table_put(t, word);
    table_put(t, table_trim(line));
    table_end_row(t);
}

static void read_sudoers(struct table *t, const char *path, int depth)
{
    struct buf copy = { 0 };
    char *text = table_read(t, path);

    if (!text)
        return;
    /* A backslash at the end goes on in the next line. */
    for (char *from = text; *from; from++) {
        if (from[0] == '\\' && from[1] == '\n')
            from++;
        else
            buf_append(&copy, from, 1);
    }
    text = (char *) (uintptr_t) buf_text(&copy);
    for (char *line; text && (line = table_line(&text));)
        take_rule(t, path, line, depth);
    buf_deinit(&copy);
}

void table_sudoers(struct table *t)
{
    read_sudoers(t, "etc/sudoers", 0);
    if (t->to->n_rows == 0 && !t->is_unreadable)
        table_absent(t);
}
