/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/fault.h"
#include "common/base/faultpoint.h"
#include "common/base/file.h"
#include "server/store/copy/backup.h"
#include "server/store/copy/copy.h"
#include "server/store/db.h"

#define MARK_BYTES 4096

struct work {
    struct store_restore *asked;
    struct store_why *why;
    struct copy copy;
    char partial[BACKUP_PATH_BYTES];
    uint64_t n_done_bytes, n_all_bytes;
    bool has_made_target;
};

static int path_to(char to[static BACKUP_PATH_BYTES], const char *directory, const char *name)
{
    if (snprintf(to, BACKUP_PATH_BYTES, "%s/%s", directory, name) >= BACKUP_PATH_BYTES)
        return fault(-ENAMETOOLONG, "the path %s/%s is too long", directory, name);
    return 0;
}

/* ---- what there is ---- */

/* The number behind `name` at the begin of a line; false: there is none. */
static bool number_after(const char *text, const char *name, long long *ret)
{
    const char *at = strstr(text, name);
    char *end;

    if (!at || (at != text && at[-1] != '\n'))
        return false;
    at += strlen(name);
    *ret = strtoll(at, &end, 10);
    return end != at && *end == '\n';
}

static int read_mark(struct work *work)
{
    CLEANUP(buf_deinit) struct buf text = { 0 };
    char path[BACKUP_PATH_BYTES];
    long long began_us = 0, version = 0;
    int r = path_to(path, work->asked->from, BACKUP_MARK);

    if (!r)
        r = file_read(path, MARK_BYTES, &text);
    if (r < 0)
        return pass(r);
    if (r == FILE_DENIED)
        return backup_say(work->why, STORE_UNFIT, "may not read %.200s", path);
    if (r || !number_after(buf_text(&text), BACKUP_MARK " ", &version))
        return backup_say(work->why, STORE_NOT_FOUND,
                          "%.200s is no backup, or one that did not come to its end: it has no "
                          "file " BACKUP_MARK " that says so",
                          work->asked->from);
    if (version != 1 || !number_after(buf_text(&text), "began_us ", &began_us))
        return backup_say(work->why, STORE_NEWER,
                          "%.200s was made by a newer version: restore it with that one",
                          work->asked->from);
    work->asked->began_us = began_us;
    return 0;
}

static int not_dots(const struct dirent *entry)
{
    return strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
}

/* Empty, or with what an earlier, cut restore left alone. */
static int clear_target(struct work *work)
{
    struct dirent **entries = NULL;
    int n = scandir(work->asked->to, &entries, not_dots, NULL);
    bool is_ours = n == 1 && strcmp(entries[0]->d_name, "restore.partial") == 0;

    for (int i = 0; i < n; i++)
        free(entries[i]);
    free(entries);
    if (n == 0)
        return 0;
    if (n < 0 && errno != ENOENT && errno != ENOTDIR)
        return fault(-errno, "cannot read %s", work->asked->to);
    if (n < 0 && errno == ENOENT) {
        int r = file_make_directories(work->asked->to, 0700);

        work->has_made_target = r == 0;
        if (r == FILE_DENIED)
            return backup_say(work->why, STORE_UNFIT, "may not make %.200s", work->asked->to);
        return pass(r);
    }
    if (is_ours && backup_remove_partial(work->partial) == 0)
        return 0;
    return backup_say(work->why, STORE_UNFIT,
                      "%.200s is not empty: give a directory that is not there yet, or empty",
                      work->asked->to);
}

/* ---- copying ---- */

static uint64_t bytes_of(const char *path)
{
    struct dirent **entries = NULL;
    int n = scandir(path, &entries, not_dots, NULL);
    uint64_t n_bytes = 0;

    for (int i = 0; i < n; i++) {
        char entry[BACKUP_PATH_BYTES];
        struct stat st;

        if (path_to(entry, path, entries[i]->d_name) == 0 && lstat(entry, &st) == 0)
            n_bytes += S_ISDIR(st.st_mode) ? bytes_of(entry) : (uint64_t) st.st_size;
        free(entries[i]);
    }
    free(entries);
    return n_bytes;
}

static void tell_progress(struct work *work, uint64_t done_bytes)
{
    if (work->asked->on_progress)
        work->asked->on_progress(work->asked->ctx, done_bytes, work->n_all_bytes);
}

static void on_bytes(void *ctx, uint64_t n_more)
{
    struct work *work = ctx;

    work->n_done_bytes += n_more;
    tell_progress(work, work->n_done_bytes);
}

/* The second half of the way. */
static void on_read(void *ctx, uint64_t done_bytes, uint64_t all_bytes)
{
    struct work *work = ctx;

    (void) all_bytes;
    tell_progress(work, work->n_done_bytes + done_bytes);
}

static void on_damage(void *ctx, const struct store_damage *damage)
{
    const struct work *work = ctx;

    if (work->asked->on_damage)
        work->asked->on_damage(work->asked->ctx, damage);
}

static const char *check_row(void *ctx, enum store_table table, struct span key, struct span value)
{
    const struct work *work = ctx;

    return work->asked->check_row ? work->asked->check_row(work->asked->ctx, table, key, value)
                                  : NULL;
}

static int look(struct work *work, const char *database)
{
    struct store_survey survey = { .directory = database,
                                   .is_deep = true,
                                   .check_row = check_row,
                                   .on_damage = on_damage,
                                   .on_progress = on_read,
                                   .ctx = work };
    int r = store_survey(&survey, work->why);

    work->asked->found = survey.found;
    return pass(r);
}

/* It says of itself that it is restored. */
static int mark(struct work *work, const char *database)
{
    CLEANUP(store_closep) struct store *store = NULL;
    const int64_t when_us[2] = { clock_wall().us, work->asked->began_us };
    const struct store_options options = { .directory = database, .is_shared = true };
    const struct store_write write = { STORE_TABLE_META, span_of_text(STORE_RESTORED_KEY),
                                       span_of(when_us, sizeof(when_us)) };
    int r = store_open(&store, &options, work->why);

    if (r)
        return r < 0 ? pass(r) : r;
    r = store_state_write(store, &write, 1);
    if (r == STORE_FULL)
        snprintf(work->copy.full, sizeof(work->copy.full), "%s", database);
    if (!r && work->asked->on_copied)
        r = work->asked->on_copied(work->asked->ctx, store, work->partial);
    return r == STORE_FULL ? r : pass(r);
}

/* The database last: without it there is nothing that a hub would start with. */
static int put_in_place(struct work *work)
{
    struct dirent **entries = NULL;
    int n = scandir(work->partial, &entries, not_dots, alphasort), r = 0;
    char from[BACKUP_PATH_BYTES], to[BACKUP_PATH_BYTES];

    if (n < 0)
        return fault(-errno, "cannot read %s", work->partial);
    faultpoint("restore_before_rename");
    for (int i = 0; i <= n; i++) {
        const char *name = i < n ? entries[i]->d_name : "db";

        if (!r && (i == n || (strcmp(name, "db") != 0 && strcmp(name, BACKUP_MARK) != 0))) {
            r = path_to(from, work->partial, name);
            if (!r)
                r = path_to(to, work->asked->to, name);
            if (!r && rename(from, to) < 0)
                r = fault(-errno, "cannot put %s in its place", from);
            if (!r)
                r = db_sync_directory(work->asked->to);
            faultpoint("restore_renamed");
        }
        if (i < n)
            free(entries[i]);
    }
    free(entries);
    if (!r)
        r = file_remove_tree(work->partial);
    return r ? pass(r) : pass(db_sync_directory(work->asked->to));
}

/* The mark first: what is cut is known as ours. */
static int begin(struct work *work)
{
    char mark_path[BACKUP_PATH_BYTES];
    int r = path_to(mark_path, work->partial, BACKUP_MARK);

    if (!r)
        r = copy_make_directory(&work->copy, work->partial);
    return r ? pass(r) : pass(copy_write(&work->copy, mark_path, ""));
}

static int copy_all(struct work *work)
{
    struct dirent **entries = NULL;
    int n = scandir(work->asked->from, &entries, not_dots, alphasort), r = 0;

    if (n < 0)
        return fault(-errno, "cannot read %s", work->asked->from);
    for (int i = 0; i < n; i++) {
        char from[BACKUP_PATH_BYTES], to[BACKUP_PATH_BYTES];
        struct stat st;

        if (!r)
            r = path_to(from, work->asked->from, entries[i]->d_name);
        if (!r)
            r = path_to(to, work->partial, entries[i]->d_name);
        if (!r && strcmp(entries[i]->d_name, BACKUP_MARK) != 0 && lstat(from, &st) == 0 &&
            (S_ISDIR(st.st_mode) || S_ISREG(st.st_mode)))
            r = copy_tree(&work->copy, from, to);
        r = r == STORE_NOT_FOUND ? 0 : r;
        free(entries[i]);
    }
    free(entries);
    return pass(r);
}

static int restore(struct work *work)
{
    char database[BACKUP_PATH_BYTES];
    int r = begin(work);

    if (!r)
        r = copy_all(work);
    faultpoint("restore_copied");
    if (!r)
        r = path_to(database, work->partial, "db");
    if (!r)
        r = look(work, database);
    if (!r)
        r = mark(work, database);
    return r ? r : pass(put_in_place(work));
}

int store_restore(struct store_restore *asked, struct store_why *ret_why)
{
    struct work work = { .asked = asked, .why = ret_why };
    int r = path_to(work.partial, asked->to, "restore.partial");

    ret_why->text[0] = 0;
    work.copy = (struct copy){ .on_bytes = on_bytes, .ctx = &work };
    if (!r)
        r = read_mark(&work);
    if (!r)
        r = clear_target(&work);
    if (r)
        return r < 0 ? pass(r) : r;
    work.n_all_bytes = 2 * bytes_of(asked->from);
    r = restore(&work);
    if (r == STORE_FULL)
        backup_say(ret_why, r, "there is no room for %.200s: nothing was kept", work.copy.full);
    if (r && file_remove_tree(work.partial) < 0)
        return -EIO;
    if (r && work.has_made_target)
        (void) rmdir(asked->to);
    return r < 0 ? pass(r) : r;
}
