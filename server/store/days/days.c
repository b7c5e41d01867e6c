/* SPDX-License-Identifier: Apache-2.0 */
#include "server/store/days/days.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/base/crc32c.h"
#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/faultpoint.h"
#include "common/base/file.h"
#include "common/log/log.h"

#define DAY_TABLES 4

/* ---- names ---- */

/* The civil date of its begin, as many digits of it as tell periods apart. */
static void name_of(const struct days_kind *kind, int32_t number, char to[static 16])
{
    time_t at = (time_t) (kind->begin_us(number) / 1000000);
    struct tm tm;

    ensure(gmtime_r(&at, &tm));
    snprintf(to, 16, "%04d%02d%02d", (tm.tm_year + 1900) % 10000, (tm.tm_mon + 1) % 100,
             tm.tm_mday % 100);
    to[kind->n_digits] = 0;
}

bool day_number_of(const struct days_kind *kind, const char *name, int32_t *ret)
{
    char date[16] = "00000101", back[16];
    struct tm tm = { 0 };
    long digits;

    if (strlen(name) != kind->n_digits || strspn(name, "0123456789") != kind->n_digits)
        return false;
    memcpy(date, name, kind->n_digits);
    digits = strtol(date, NULL, 10);
    tm.tm_year = (int) (digits / 10000) - 1900;
    tm.tm_mon = (int) (digits / 100 % 100) - 1;
    tm.tm_mday = (int) (digits % 100);
    *ret = kind->of((int64_t) timegm(&tm) * 1000000);
    name_of(kind, *ret, back);
    return strcmp(back, name) == 0;
}

/* ---- kinds ---- */

static int64_t begin_of_day(int32_t number)
{
    return number * DAY_US;
}

static struct tm date_of(int64_t time_us)
{
    time_t at = (time_t) day_of(time_us) * 86400;
    struct tm tm;

    ensure(gmtime_r(&at, &tm));
    return tm;
}

static int32_t month_of(int64_t time_us)
{
    struct tm tm = date_of(time_us);

    return (tm.tm_year - 70) * 12 + tm.tm_mon;
}

static int64_t begin_of_month(int32_t number)
{
    int32_t year = number / 12 - (number % 12 < 0);
    struct tm tm = { .tm_year = 70 + year, .tm_mon = number - year * 12, .tm_mday = 1 };

    return (int64_t) timegm(&tm) * 1000000;
}

static int32_t year_of(int64_t time_us)
{
    return date_of(time_us).tm_year - 70;
}

static int64_t begin_of_year(int32_t number)
{
    struct tm tm = { .tm_year = 70 + number, .tm_mday = 1 };

    return (int64_t) timegm(&tm) * 1000000;
}

const struct days_kind days_of_samples = { .name = "metrics",
                                           .n_digits = 8,
                                           .of = day_of,
                                           .begin_us = begin_of_day };
const struct days_kind days_of_logs = { .name = "logs",
                                        .n_digits = 8,
                                        .of = day_of,
                                        .begin_us = begin_of_day };
const struct days_kind days_of_minutes = { .name = "rollup-1m",
                                           .n_digits = 6,
                                           .of = month_of,
                                           .begin_us = begin_of_month,
                                           .has_marks = true };
const struct days_kind days_of_hours = { .name = "rollup-1h",
                                         .n_digits = 4,
                                         .of = year_of,
                                         .begin_us = begin_of_year,
                                         .has_marks = true };

/* ---- environments ---- */

static struct day *day_new(const struct days *days, int32_t number)
{
    struct day *day = calloc(1, sizeof(*day));
    char name[16];

    if (!day)
        return NULL;
    day->kind = days->kind;
    day->number = number;
    name_of(days->kind, number, name);
    ensure(snprintf(day->path, sizeof(day->path), "%s/%s", days->directory, name) <
           (int) sizeof(day->path));
    return day;
}

static void day_free(struct day *day)
{
    if (day->env)
        mdb_env_close(day->env);
    free(day);
}

/* With the lock held. False: every open one is in use. */
static bool close_one(struct days *days)
{
    struct day *oldest = NULL;

    for (struct day *day = days->first; day; day = day->next) {
        if (day->env && day->n_users == 0 && (!oldest || day->last_use < oldest->last_use))
            oldest = day;
    }
    if (!oldest)
        return false;
    mdb_env_close(take(oldest->env));
    days->n_open--;
    return true;
}

/* The answer is LMDB's. */
static int check_format(const struct day *day, MDB_txn *txn)
{
    MDB_val key = db_val("format", 6), value;
    uint32_t format = 0;
    int rc = mdb_get(txn, day->meta, &key, &value);

    if (rc)
        return rc;
    if (value.mv_size == sizeof(format))
        memcpy(&format, value.mv_data, sizeof(format));
    if (format == DAY_FORMAT)
        return 0;
    log_event(LOG_ERROR, "day_has_another_format", LOG_S("path", day->path),
              LOG_U("format", format), LOG_U("known", DAY_FORMAT),
              LOG_S("remedy", "start the version that made it, or restore a backup"));
    return MDB_INCOMPATIBLE;
}

static int open_tables(const struct days *days, struct day *day)
{
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    int rc = mdb_txn_begin(day->env, NULL, MDB_RDONLY, &txn);

    if (!rc)
        rc = mdb_dbi_open(txn, "blocks", 0, &day->blocks);
    if (!rc)
        rc = mdb_dbi_open(txn, "agents", 0, &day->agents);
    if (!rc)
        rc = mdb_dbi_open(txn, "meta", 0, &day->meta);
    if (!rc && days->kind->has_marks)
        rc = mdb_dbi_open(txn, "marks", 0, &day->marks);
    if (!rc)
        rc = check_format(day, txn);
    /* All of it is in the first commit: without one it is a beginning, with one it is damage. */
    if (rc == MDB_NOTFOUND && mdb_txn_id(txn) > 0)
        rc = MDB_CORRUPTED;
    return rc ? rc : mdb_txn_commit(take(txn));
}

/* With the lock held. The answer is LMDB's. */
static int open_env(struct days *days, struct day *day)
{
    int rc;

    while (days->n_open >= DAYS_OPEN && close_one(days))
        ;
    do {
        rc = db_env_open(&day->env, day->path, days->map_bytes, DAY_TABLES);
    } while ((rc == EMFILE || rc == ENFILE || rc == ENOMEM) && close_one(days));
    if (rc)
        return rc;
    days->n_open++;
    return 0;
}

static void close_env(struct days *days, struct day *day)
{
    mdb_env_close(take(day->env));
    days->n_open--;
}

/* One that is there. With the lock held. */
static int open_whole(struct days *days, struct day *day)
{
    int rc = open_env(days, day);

    if (!rc) {
        rc = open_tables(days, day);
        if (rc)
            close_env(days, day);
    }
    return rc;
}

/* With the lock held. Where the day is, or where it belongs. */
static struct day **find(struct days *days, int32_t number)
{
    struct day **at = &days->first;

    while (*at && (*at)->number < number)
        at = &(*at)->next;
    return at;
}

void day_found_damage(struct day *day, const char *why)
{
    char path[sizeof(day->path) + 16];
    int fd;

    if (atomic_exchange(&day->is_damaged, true))
        return;
    log_event(LOG_ERROR, "day_damaged", LOG_S("path", day->path), LOG_S("why", why),
              LOG_S("remedy", "it is set aside at the next start; restore it from a backup"));
    snprintf(path, sizeof(path), "%s/damaged", day->path);
    fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    fd_closep(&fd);
}

/* With the lock held; it is open. */
static void begin_use(struct days *days, struct day *day)
{
    day->n_users++;
    day->last_use = ++days->n_uses;
}

int days_use(struct days *days, int32_t number, struct day **ret)
{
    struct day *day;
    int rc = 0, r = 0;

    pthread_mutex_lock(&days->lock);
    day = *find(days, number);
    if (!day || day->number != number || atomic_load(&day->is_damaged))
        r = STORE_NOT_FOUND;
    if (!r && !day->env)
        rc = open_whole(days, day);
    if (rc == MDB_NOTFOUND || db_is_damage(rc)) {
        day_found_damage(day, mdb_strerror(rc));
        r = STORE_NOT_FOUND;
    } else if (rc) {
        r = fold(db_check(rc, "cannot open a day"));
    }
    if (!r)
        begin_use(days, day);
    pthread_mutex_unlock(&days->lock);
    if (!r)
        *ret = day;
    return r;
}

void days_release(struct days *days, struct day *day)
{
    bool is_gone;

    pthread_mutex_lock(&days->lock);
    ensure(day->n_users > 0);
    day->n_users--;
    is_gone = day->is_removed && day->n_users == 0;
    if (is_gone && day->env)
        close_env(days, day);
    pthread_mutex_unlock(&days->lock);
    if (is_gone)
        day_free(day);
}

static int write_beginning(const struct days *days, struct day *day)
{
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    uint32_t format = DAY_FORMAT;
    MDB_val key = db_val("format", 6), value = db_val(&format, sizeof(format));
    MDB_val begun_key = db_val("begun", 5), begun = db_val(&day->begun, sizeof(day->begun));
    int rc = mdb_txn_begin(day->env, NULL, 0, &txn);

    if (!rc)
        rc = mdb_dbi_open(txn, "blocks", MDB_CREATE, &day->blocks);
    if (!rc)
        rc = mdb_dbi_open(txn, "agents", MDB_CREATE, &day->agents);
    if (!rc)
        rc = mdb_dbi_open(txn, "meta", MDB_CREATE, &day->meta);
    if (!rc && days->kind->has_marks)
        rc = mdb_dbi_open(txn, "marks", MDB_CREATE, &day->marks);
    if (!rc)
        rc = mdb_put(txn, day->meta, &key, &value, 0);
    if (!rc && day->begun.seal)
        rc = mdb_put(txn, day->meta, &begun_key, &begun, 0);
    if (rc)
        return pass(db_check(rc, "cannot begin a day"));
    return pass(db_commit(day->env, take(txn), "cannot begin a day"));
}

/* A whole new one, durable, open; not yet in the table. */
static int make_day(struct days *days, int32_t number, struct day_begun begun, struct day **ret)
{
    struct day *day = day_new(days, number);
    int r;

    if (!day)
        return fault(-ENOMEM, "no memory for a day");
    day->begun = begun;
    day->n_new = begun.seal > 0; /* its windows may lack some, and no block comes */
    r = file_remove_tree(day->path);
    if (!r && mkdir(day->path, 0700) < 0)
        r = db_check(errno, "cannot make a directory for a day");
    if (!r) {
        pthread_mutex_lock(&days->lock);
        r = db_check(open_env(days, day), "cannot make a day");
        pthread_mutex_unlock(&days->lock);
    }
    faultpoint("day_before_beginning");
    if (!r)
        r = write_beginning(days, day);
    if (!r)
        r = db_sync_directory(day->path);
    if (!r)
        r = db_sync_directory(days->directory);
    if (r) {
        if (day->env) {
            pthread_mutex_lock(&days->lock);
            close_env(days, day);
            pthread_mutex_unlock(&days->lock);
        }
        day_free(day);
        return pass(r);
    }
    *ret = day;
    return 0;
}

int days_make(struct days *days, int32_t number, struct day_begun begun, struct day **ret)
{
    struct day *day = NULL, **at;
    bool is_there;
    int r;

    pthread_mutex_lock(&days->lock);
    day = *find(days, number);
    is_there = day && day->number == number;
    pthread_mutex_unlock(&days->lock);
    if (is_there)
        return pass(days_use(days, number, ret));
    r = make_day(days, number, begun, &day);
    if (r)
        return pass(r);
    pthread_mutex_lock(&days->lock);
    at = find(days, number);
    day->next = *at;
    *at = day;
    begin_use(days, day);
    pthread_mutex_unlock(&days->lock);
    *ret = day;
    return 0;
}

int32_t days_next(struct days *days, int32_t number)
{
    const struct day *day;

    pthread_mutex_lock(&days->lock);
    day = *find(days, number);
    number = day ? day->number : INT32_MAX;
    pthread_mutex_unlock(&days->lock);
    return number;
}

int32_t days_last_begun_anew(struct days *days)
{
    int32_t number = INT32_MIN;

    pthread_mutex_lock(&days->lock);
    for (const struct day *day = days->first; day; day = day->next)
        number = day->begun.seal ? day->number : number;
    pthread_mutex_unlock(&days->lock);
    return number;
}

uint64_t days_next_begun(struct days *days, uint64_t chunk)
{
    uint64_t next = UINT64_MAX;

    pthread_mutex_lock(&days->lock);
    for (const struct day *day = days->first; day; day = day->next)
        if (day->begun.chunk > chunk && day->begun.chunk < next)
            next = day->begun.chunk;
    pthread_mutex_unlock(&days->lock);
    return next;
}

int days_remove(struct days *days, int32_t number)
{
    struct day **at, *day;
    char path[sizeof(day->path)];
    bool is_idle;
    int r;

    pthread_mutex_lock(&days->lock);
    at = find(days, number);
    day = *at;
    ensure(day && day->number == number);
    *at = day->next;
    day->is_removed = true;
    is_idle = day->n_users == 0;
    if (is_idle && day->env)
        close_env(days, day);
    memcpy(path, day->path, sizeof(path));
    pthread_mutex_unlock(&days->lock);
    if (is_idle)
        day_free(day);
    faultpoint("retention_before_unlink");
    r = db_remove(path);
    if (!r)
        r = db_sync_directory(days->directory);
    faultpoint("retention_after_unlink");
    return pass(r);
}

/* ---- a file without free pages ---- */

bool day_wants_rewrite(struct day *day)
{
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    MDB_stat stat;
    uint64_t n_used = 4;
    MDB_dbi tables[] = { day->blocks, day->agents, day->meta };

    if (mdb_txn_begin(day->env, NULL, MDB_RDONLY, &txn))
        return false;
    for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
        if (mdb_stat(txn, tables[i], &stat))
            return false;
        n_used += stat.ms_branch_pages + stat.ms_leaf_pages + stat.ms_overflow_pages;
    }
    return db_env_used_bytes(day->env) > (n_used + n_used / 16 + 4) * stat.ms_psize;
}

/* The copy, durable, beside. */
static int copy_day(const struct days *days, const struct day *day, const char *path)
{
    char file[sizeof(day->path) + 32];
    int fd, r = file_remove_tree(path);

    if (!r && mkdir(path, 0700) < 0)
        r = db_check(errno, "cannot make a directory for a day");
    if (!r)
        r = db_check(mdb_env_copy2(day->env, path, MDB_CP_COMPACT), "cannot copy a day");
    if (!r)
        r = db_check(db_reserve_lock_file(path), "cannot make a lock file for a day");
    if (r)
        return pass(r);
    snprintf(file, sizeof(file), "%s/data.mdb", path);
    fd = open(file, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return fault(-errno, "cannot open %s", file);
    r = fsync(fd) < 0 ? db_check(errno, "cannot sync a day") : 0;
    fd_closep(&fd);
    if (!r)
        r = db_sync_directory(path);
    return r ? pass(r) : pass(db_sync_directory(days->directory));
}

/* The new one is in the table; the last user of the old one (the caller is one) closes it. */
static void exchange(struct days *days, struct day *day, struct day *fresh)
{
    struct day **at;

    pthread_mutex_lock(&days->lock);
    at = find(days, day->number);
    ensure(*at == day && day->n_users > 0);
    fresh->next = day->next;
    fresh->n_new = day->n_new;
    fresh->begun = day->begun;
    fresh->has_erased = day->has_erased;
    *at = fresh;
    day->is_removed = true;
    pthread_mutex_unlock(&days->lock);
}

int days_rewrite(struct days *days, int32_t number)
{
    struct day *day, *fresh;
    char path[sizeof(day->path) + 16];
    int removed, r = days_use(days, number, &day);

    if (r)
        return r == STORE_NOT_FOUND ? 0 : pass(r);
    snprintf(path, sizeof(path), "%s.new", day->path);
    fresh = day_new(days, number);
    r = fresh ? copy_day(days, day, path) : fault(-ENOMEM, "no memory for a day");
    faultpoint("rewrite_before_exchange");
    /* A file system without the exchange keeps the day as it is: larger, and whole. */
    if (!r && renameat2(AT_FDCWD, path, AT_FDCWD, day->path, RENAME_EXCHANGE) < 0) {
        days->cannot_exchange = true;
        log_event(LOG_WARN, "day_not_rewritten", LOG_S("path", day->path),
                  LOG_S("why", strerror(errno)));
    } else if (!r) {
        exchange(days, day, take(fresh));
    }
    faultpoint("rewrite_after_exchange");
    days_release(days, day);
    free(fresh);
    /* The exchange first: were it lost and the removal not, the day would be. */
    if (!r)
        r = db_sync_directory(days->directory);
    if (r < 0)
        return pass(r);
    removed = db_remove(path);
    if (removed || r)
        return removed ? pass(removed) : r;
    return pass(db_sync_directory(days->directory));
}

uint64_t day_file_bytes(const struct day *day)
{
    return db_file_bytes(day->path);
}

uint64_t days_file_bytes(struct days *days)
{
    uint64_t n_bytes = 0;

    pthread_mutex_lock(&days->lock);
    for (const struct day *day = days->first; day; day = day->next)
        n_bytes += day_file_bytes(day);
    pthread_mutex_unlock(&days->lock);
    return n_bytes;
}

size_t days_count(struct days *days)
{
    size_t n = 0;

    pthread_mutex_lock(&days->lock);
    for (const struct day *day = days->first; day; day = day->next)
        n++;
    pthread_mutex_unlock(&days->lock);
    return n;
}

void days_check_readers(struct days *days)
{
    int n_dead;

    pthread_mutex_lock(&days->lock);
    for (struct day *day = days->first; day; day = day->next) {
        if (day->env)
            (void) mdb_reader_check(day->env, &n_dead);
    }
    pthread_mutex_unlock(&days->lock);
}

/* ---- the start ---- */

/* Its name says that it is no day; what is in it stays for who can mend it. */
static int set_aside(const struct day *day)
{
    char path[sizeof(day->path) + 32];

    snprintf(path, sizeof(path), "%s.damaged-%lld", day->path, (long long) time(NULL));
    log_event(LOG_ERROR, "day_set_aside", LOG_S("path", path),
              LOG_S("remedy", "the rest is served; restore this day from a backup"));
    return rename(day->path, path) < 0 ? fault(-errno, "cannot rename %s", day->path) : 0;
}

/* A copy that did not come to its place, or a period that had not gone all the way. */
static bool is_left_over(const struct days *days, const char *name)
{
    const char *end = strlen(name) > days->kind->n_digits ? name + days->kind->n_digits : "";

    return strcmp(end, ".new") == 0 || strcmp(end, ".new" DB_GONE) == 0 ||
           strcmp(end, DB_GONE) == 0;
}

/* Not written where it is not there. The answer is LMDB's. */
static int
read_meta(const struct day *day, MDB_txn *txn, const char *name, void *to, size_t n_bytes)
{
    MDB_val key = db_val(name, strlen(name)), value;
    int rc = mdb_get(txn, day->meta, &key, &value);

    if (!rc && value.mv_size == n_bytes)
        memcpy(to, value.mv_data, n_bytes);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

/* The answer is LMDB's. */
static int read_seal(struct days *days, struct day *day)
{
    CLEANUP(db_txn_abortp) MDB_txn *txn = NULL;
    uint64_t seal = 0;
    char erased = 0;
    int rc = mdb_txn_begin(day->env, NULL, MDB_RDONLY, &txn);

    if (!rc)
        rc = read_meta(day, txn, "seal", &seal, sizeof(seal));
    if (!rc)
        rc = read_meta(day, txn, "begun", &day->begun, sizeof(day->begun));
    if (!rc)
        rc = read_meta(day, txn, DAY_META_ERASED, &erased, sizeof(erased));
    day->has_erased = erased != 0;
    seal = day->begun.seal > seal ? day->begun.seal : seal;
    days->max_seal = seal > days->max_seal ? seal : days->max_seal;
    return rc;
}

static int is_set_aside(const struct dirent *entry)
{
    return strstr(entry->d_name, ".damaged-") != NULL;
}

static int find_set_aside(struct days *days)
{
    struct dirent **entries = NULL;
    int n = scandir(days->directory, &entries, is_set_aside, alphasort);

    for (int i = 0; i < n; i++) {
        int32_t number;

        entries[i]->d_name[days->kind->n_digits] = 0;
        if (day_number_of(days->kind, entries[i]->d_name, &number))
            buf_append(&days->set_aside, &number, sizeof(number));
        free(entries[i]);
    }
    free(entries);
    return buf_failed(&days->set_aside) ? fault(-ENOMEM, "no memory for damaged days") : 0;
}

bool days_is_set_aside(const struct days *days, int32_t number)
{
    const int32_t *numbers = (const void *) days->set_aside.data;

    for (size_t i = 0; i < days->set_aside.len / sizeof(*numbers); i++)
        if (numbers[i] == number)
            return true;
    return false;
}

static int open_day(struct days *days, int32_t number)
{
    struct day *day = day_new(days, number), **at;
    char marker[sizeof(day->path) + 16];
    struct stat st;
    int rc, r = 0;

    if (!day)
        return fault(-ENOMEM, "no memory for a day");
    snprintf(marker, sizeof(marker), "%s/damaged", day->path);
    rc = stat(marker, &st) == 0 ? MDB_CORRUPTED : open_whole(days, day);
    if (!rc)
        rc = read_seal(days, day);
    if (!rc) {
        day->n_new = 1; /* it is not known what was left to compact */
        at = find(days, number);
        day->next = *at;
        *at = day;
        return 0;
    }
    if (day->env)
        close_env(days, day);
    if (rc == MDB_NOTFOUND) /* a beginning cut short: nothing was in it */
        r = file_remove_tree(day->path);
    else if (db_is_damage(rc))
        r = set_aside(day);
    else
        r = fold(db_check(rc, "cannot open a day"));
    day_free(day);
    return pass(r);
}

static int open_entry(struct days *days, const char *name)
{
    char path[sizeof(days->directory) + 300];
    int32_t number;

    if (day_number_of(days->kind, name, &number))
        return pass(open_day(days, number));
    if (!is_left_over(days, name))
        return 0;
    snprintf(path, sizeof(path), "%s/%s", days->directory, name);
    return pass(file_remove_tree(path));
}

/* And its entry in the one above: without it the days would be gone after a power cut, and the
 * journal behind them is gone already. Outcomes: STORE_FULL. */
static int make_directory(struct days *days, const char *database)
{
    char tenant[sizeof(days->directory)];

    if (snprintf(days->directory, sizeof(days->directory), "%s/default/%s", database,
                 days->kind->name) >= (int) sizeof(days->directory))
        return fault(-ENAMETOOLONG, "the path of the days is too long");
    snprintf(tenant, sizeof(tenant), "%s/default", database);
    if (mkdir(days->directory, 0700) < 0 && errno != EEXIST)
        return pass(db_check(errno, "cannot make the directory of the days"));
    return pass(db_sync_directory(tenant));
}

int days_open(struct days *days,
              const char *database,
              const struct days_kind *kind,
              uint64_t map_bytes)
{
    struct dirent **entries = NULL;
    int n, r = 0;

    memset(days, 0, sizeof(*days));
    ensure(pthread_mutex_init(&days->lock, NULL) == 0);
    days->is_open = true;
    days->kind = kind;
    days->map_bytes = map_bytes;
    r = make_directory(days, database);
    if (r)
        return pass(r);
    n = scandir(days->directory, &entries, NULL, alphasort);
    if (n < 0)
        return fault(-errno, "cannot read %s", days->directory);
    for (int i = 0; i < n; i++) {
        if (!r)
            r = open_entry(days, entries[i]->d_name);
        free(entries[i]);
    }
    free(entries);
    return r ? pass(r) : pass(find_set_aside(days));
}

void days_close(struct days *days)
{
    struct day *day, *next;

    if (!days->is_open)
        return;
    for (day = days->first; day; day = next) {
        next = day->next;
        ensure(day->n_users == 0);
        day_free(day);
    }
    buf_deinit(&days->set_aside);
    pthread_mutex_destroy(&days->lock);
    days->is_open = false;
}
