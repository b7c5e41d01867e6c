/* SPDX-License-Identifier: Apache-2.0 */
#include "server/store/survey/survey.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/file.h"
#include "server/store/days/days.h"

#define OUT_BYTES 32768
#define MESSAGE_BYTES 65536 /* none is longer */
#define PROGRESS_MS 200
#define EXIT_FAULT 3

enum message_kind { TELL_DAMAGE = 1, TELL_USE, TELL_METRIC, TELL_NEWER, TELL_GONE, TELL_FAULT };

struct message {
    uint32_t kind, n_bytes; /* n_bytes follow */
};

/* ---- uses ---- */

static size_t slot_of(const struct survey_uses *uses, uint32_t agent, uint32_t layout)
{
    uint64_t hash = ((uint64_t) agent << 32 | layout) * UINT64_C(0x9e3779b97f4a7c15);
    size_t at = (size_t) (hash >> 20) & (uses->capacity - 1);

    while (uses->slots[at].agent &&
           (uses->slots[at].agent != agent || uses->slots[at].layout != layout))
        at = (at + 1) & (uses->capacity - 1);
    return at;
}

static bool grow_uses(struct survey_uses *uses)
{
    struct survey_uses grown = { .capacity = uses->capacity ? uses->capacity * 2 : 1024 };

    grown.slots = calloc(grown.capacity, sizeof(*grown.slots));
    if (!grown.slots)
        return false;
    for (size_t i = 0; i < uses->capacity; i++) {
        const struct survey_use *use = &uses->slots[i];

        if (use->agent)
            grown.slots[slot_of(&grown, use->agent, use->layout)] = *use;
    }
    grown.n = uses->n;
    free(uses->slots);
    *uses = grown;
    return true;
}

const struct survey_use *
survey_uses_add(struct survey_uses *uses, const struct survey_use *use, bool *ret_is_new)
{
    size_t at;

    if (uses->n * 4 >= uses->capacity * 3 && !grow_uses(uses))
        return NULL;
    at = slot_of(uses, use->agent, use->layout);
    *ret_is_new = uses->slots[at].agent == 0;
    if (*ret_is_new) {
        uses->slots[at] = *use;
        uses->n++;
    }
    return &uses->slots[at];
}

/* ---- in the process of an environment ---- */

static int flush(struct survey *survey)
{
    size_t done = 0;

    while (done < survey->out.len) {
        ssize_t n = write(survey->fd, survey->out.data + done, survey->out.len - done);

        if (n < 0 && errno != EINTR)
            return -errno;
        done += n > 0 ? (size_t) n : 0;
    }
    buf_clear(&survey->out);
    return 0;
}

static int tell(struct survey *survey, enum message_kind kind, const void *data, size_t len)
{
    struct message message = { kind, (uint32_t) len };

    ensure(len <= MESSAGE_BYTES);
    buf_append(&survey->out, &message, sizeof(message));
    buf_append(&survey->out, data, len);
    if (buf_failed(&survey->out))
        return -ENOMEM;
    return survey->out.len < OUT_BYTES ? 0 : flush(survey);
}

int survey_damage(struct survey *survey, const char *what, const char *key_format, ...)
{
    char text[512];
    size_t len = (size_t) snprintf(text, sizeof(text) / 2, "%s", what) + 1;
    va_list args;

    ensure(len <= sizeof(text) / 2);
    va_start(args, key_format);
    vsnprintf(text + len, sizeof(text) - len, key_format, args);
    va_end(args);
    survey->shared->found.n_damaged++;
    return tell(survey, TELL_DAMAGE, text, len + strlen(text + len) + 1);
}

int survey_use(struct survey *survey, uint32_t agent, uint32_t layout, uint32_t n_columns)
{
    struct survey_use use = { agent, layout, n_columns, 0 };
    const struct survey_use *known;
    bool is_new;

    if (agent == 0 || layout == 0)
        return survey_damage(survey, "names an agent or a layout that cannot be",
                             "agent %u, layout %u", agent, layout);
    known = survey_uses_add(&survey->uses, &use, &is_new);
    if (!known)
        return fault(-ENOMEM, "no memory for what is used");
    if (n_columns && known->n_columns && known->n_columns != n_columns)
        return survey_damage(survey, "rows of one layout have not the same number of columns",
                             "agent %u, layout %u", agent, layout);
    return is_new ? tell(survey, TELL_USE, &use, sizeof(use)) : 0;
}

int survey_use_spans(struct survey *survey, uint32_t agent, struct span spans)
{
    struct day_span span;
    int r = 0;

    for (size_t at = 0; at + sizeof(span) <= spans.len && !r; at += sizeof(span)) {
        memcpy(&span, spans.data + at, sizeof(span));
        r = survey_use(survey, agent, span.layout, 0);
    }
    return r;
}

int survey_metric(struct survey *survey, const char *name, uint64_t n_series)
{
    char text[8 + 1024];
    size_t len = strnlen(name, sizeof(text) - 9);

    memcpy(text, &n_series, 8);
    memcpy(text + 8, name, len);
    text[8 + len] = 0;
    return tell(survey, TELL_METRIC, text, 8 + len + 1);
}

int survey_newer(struct survey *survey, const char *why)
{
    return tell(survey, TELL_NEWER, why, strlen(why) + 1);
}

int survey_tell_gone(struct survey *survey, struct span gone)
{
    return gone.len <= MESSAGE_BYTES ? tell(survey, TELL_GONE, gone.data, gone.len) : 0;
}

int survey_open(struct survey *survey, unsigned n_tables, MDB_env **ret)
{
    int rc = db_env_open_read(ret, survey->path, n_tables);

    if (rc == 0)
        return 0;
    if (rc == ENOENT)
        return STORE_NOT_FOUND;
    if (db_is_damage(rc)) {
        rc = survey_damage(survey, mdb_strerror(rc), "data.mdb");
        return rc ? rc : STORE_NOT_FOUND;
    }
    return fault(rc > 0 ? -rc : -EIO, "cannot read %s (%s)", survey->path, mdb_strerror(rc));
}

int survey_end(struct survey *survey, int rc, const char *what)
{
    if (rc == 0 || rc == MDB_NOTFOUND)
        return 0;
    if (db_is_damage(rc) || rc == MDB_CURSOR_FULL || rc == MDB_BAD_VALSIZE || rc == EINVAL)
        return survey_damage(survey, mdb_strerror(rc), "%s", what);
    return fault(rc > 0 ? -rc : -EIO, "cannot read %s (%s)", survey->path, mdb_strerror(rc));
}

int survey_next_agent(struct survey *survey,
                      MDB_cursor *const *cursors,
                      const char *const *names,
                      size_t n,
                      uint32_t from,
                      uint32_t *ret)
{
    *ret = 0;
    for (size_t i = 0; i < n; i++) {
        uint8_t name[4];
        MDB_val key = db_val(name, sizeof(name)), value;
        uint32_t agent;
        int r, rc;

        db_key_u32(name, from);
        rc = mdb_cursor_get(cursors[i], &key, &value, MDB_SET_RANGE);
        if (rc) {
            r = survey_end(survey, rc, names[i]);
            if (r)
                return r;
            continue;
        }
        agent = key.mv_size >= 4 ? db_u32_of(db_val(key.mv_data, 4)) : 0;
        if (agent < from) {
            r = survey_damage(survey, "a key that is none, or out of order", "%s", names[i]);
            if (r)
                return r;
            continue;
        }
        if (*ret == 0 || agent < *ret)
            *ret = agent;
    }
    return 0;
}

int survey_each_of(struct survey *survey,
                   MDB_cursor *cursor,
                   const char *table,
                   uint32_t agent,
                   int (*fn)(void *ctx, MDB_val key, MDB_val value),
                   void *ctx)
{
    uint8_t from[4];
    MDB_val key = db_val(from, sizeof(from)), value;
    int r = 0, rc;

    db_key_u32(from, agent);
    rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    while (!rc && !r && key.mv_size >= 4 && memcmp(key.mv_data, from, sizeof(from)) == 0) {
        r = fn(ctx, key, value);
        if (!r)
            rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    return r ? r : survey_end(survey, rc, table);
}

void survey_pages(struct survey *survey, MDB_txn *txn, const MDB_dbi *tables, size_t n)
{
    struct store_environment *environment = &survey->shared->environment;
    uint64_t n_used = 2; /* the meta pages */
    MDB_envinfo info;
    MDB_stat stat;

    if (mdb_env_info(mdb_txn_env(txn), &info))
        return;
    environment->n_pages = (uint64_t) info.me_last_pgno + 1;
    for (size_t i = 0; i < n + 2; i++) { /* and the tables of pages (0) and of tables (1) */
        MDB_dbi dbi = i < n ? tables[i] : (MDB_dbi) (i - n);

        if (mdb_stat(txn, dbi, &stat) == 0)
            n_used += stat.ms_branch_pages + stat.ms_leaf_pages + stat.ms_overflow_pages;
    }
    environment->n_free_pages = environment->n_pages > n_used ? environment->n_pages - n_used : 0;
}

static struct survey *in_process; /* this one is an environment's */

static void tell_fault(int code, struct fault_site site, const char *reason)
{
    char text[512];

    (void) site;
    if (!reason)
        return;
    memcpy(text, &code, sizeof(code));
    snprintf(text + sizeof(code), sizeof(text) - sizeof(code), "%s", reason);
    (void) !tell(in_process, TELL_FAULT, text, sizeof(code) + strlen(text + sizeof(code)) + 1);
}

static _Noreturn void run_here(struct survey *survey, int (*look)(struct survey *survey))
{
    int quiet = open("/dev/null", O_WRONLY | O_CLOEXEC), r;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (quiet >= 0)
        dup2(quiet, STDERR_FILENO); /* what LMDB says before it aborts is in our own words */
    in_process = survey;
    fault_set_sink(tell_fault);
    r = look(survey);
    if (flush(survey) < 0 && r >= 0)
        r = -EPIPE;
    _exit(r < 0 ? EXIT_FAULT : 0);
}

/* ---- in the process that asks ---- */

struct parent {
    struct survey survey;
    struct store_survey *asked;
    struct store_why *why;
    struct buf in;
    uint64_t n_done_bytes, n_all_bytes;
    bool is_newer, is_quiet;
    int fault_code;
};

static void found_damage(struct parent *parent, const char *path, const char *key, const char *what)
{
    const struct store_damage damage = { path, key, what };

    if (parent->asked->on_damage)
        parent->asked->on_damage(parent->asked->ctx, &damage);
}

/* Damage that the parent sees itself. */
static void count_damage(struct parent *parent, const char *path, const char *key, const char *what)
{
    parent->survey.shared->found.n_damaged++;
    found_damage(parent, path, key, what);
}

static int on_use(struct parent *parent, const uint8_t *data)
{
    struct survey_use use;
    bool is_new;

    memcpy(&use, data, sizeof(use));
    if (!survey_uses_add(&parent->survey.uses, &use, &is_new))
        return fault(-ENOMEM, "no memory for what is used");
    return 0;
}

static int on_message(struct parent *parent, uint32_t kind, const uint8_t *data, size_t len)
{
    const char *text = (const char *) data;
    uint64_t n_series;

    switch ((enum message_kind) kind) {
    case TELL_DAMAGE:
        found_damage(parent, parent->survey.path, text + strlen(text) + 1, text);
        return 0;
    case TELL_USE:
        return pass(on_use(parent, data));
    case TELL_METRIC:
        memcpy(&n_series, data, sizeof(n_series));
        if (parent->asked->on_metric)
            parent->asked->on_metric(parent->asked->ctx, text + sizeof(n_series), n_series);
        return 0;
    case TELL_NEWER:
        parent->is_newer = true;
        snprintf(parent->why->text, sizeof(parent->why->text), "%s", text);
        return 0;
    case TELL_GONE:
        buf_append(&parent->survey.gone, data, len);
        return buf_failed(&parent->survey.gone) ? fault(-ENOMEM, "no memory for days that went")
                                                : 0;
    case TELL_FAULT:
        memcpy(&parent->fault_code, data, sizeof(parent->fault_code));
        return fault(parent->fault_code, "%s", text + sizeof(parent->fault_code));
    }
    return 0;
}

static int on_bytes(struct parent *parent)
{
    size_t at = 0;
    int r = 0;

    while (!r && parent->in.len - at >= sizeof(struct message)) {
        struct message message;

        memcpy(&message, parent->in.data + at, sizeof(message));
        if (parent->in.len - at - sizeof(message) < message.n_bytes)
            break;
        r = on_message(parent, message.kind, parent->in.data + at + sizeof(message),
                       message.n_bytes);
        at += sizeof(message) + message.n_bytes;
    }
    if (at)
        memmove(parent->in.data, parent->in.data + at, parent->in.len - at);
    parent->in.len -= at;
    return pass(r);
}

static void show_progress(struct parent *parent, uint64_t n_env_bytes)
{
    uint64_t n_read = parent->survey.shared->n_read_bytes;

    if (parent->asked->on_progress)
        parent->asked->on_progress(parent->asked->ctx,
                                   parent->n_done_bytes +
                                       (n_read < n_env_bytes ? n_read : n_env_bytes),
                                   parent->n_all_bytes);
}

static int listen_to(struct parent *parent, int fd, uint64_t n_env_bytes)
{
    struct pollfd on = { .fd = fd, .events = POLLIN };
    int r = 0;

    buf_clear(&parent->in);
    for (;;) {
        int n_ready = poll(&on, 1, PROGRESS_MS);
        void *to;
        ssize_t n;

        show_progress(parent, n_env_bytes);
        if (n_ready <= 0)
            continue;
        to = buf_extend(&parent->in, OUT_BYTES);
        if (!to)
            return fault(-ENOMEM, "no memory for what a process tells");
        n = read(fd, to, OUT_BYTES);
        parent->in.len -= OUT_BYTES - (n > 0 ? (size_t) n : 0);
        if (n == 0 || (n < 0 && errno != EINTR))
            return pass(r);
        if (!r)
            r = on_bytes(parent);
    }
}

static void on_end(struct parent *parent, int status)
{
    char what[160];

    if (parent->is_quiet)
        return;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        struct store_environment *environment = &parent->survey.shared->environment;

        environment->path = parent->survey.path;
        if (parent->asked->on_environment && environment->kind)
            parent->asked->on_environment(parent->asked->ctx, environment);
        return;
    }
    snprintf(what, sizeof(what), "its pages lead nowhere: what read it ended with %s %d",
             WIFSIGNALED(status) ? "signal" : "status",
             WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    count_damage(parent, parent->survey.path, "data.mdb", what);
}

/* SIGBUS is a read error of the disk under the map, or a file that ends too early. */
static bool is_stopped(int status)
{
    return WIFSIGNALED(status) && (WTERMSIG(status) == SIGKILL || WTERMSIG(status) == SIGTERM ||
                                   WTERMSIG(status) == SIGINT || WTERMSIG(status) == SIGHUP);
}

/* survey.path is set. */
static int run_one(struct parent *parent, int (*look)(struct survey *survey))
{
    struct survey *survey = &parent->survey;
    uint64_t n_bytes = db_file_bytes(survey->path) + survey->n_beside_bytes;
    int pipe_fds[2], status = 0, r;
    pid_t child;

    survey->shared->n_read_bytes = 0;
    survey->shared->environment = (struct store_environment){ .n_bytes = n_bytes };
    if (pipe2(pipe_fds, O_CLOEXEC) < 0)
        return fault(-errno, "cannot make a pipe");
    child = fork();
    if (child == 0) {
        close(pipe_fds[0]);
        survey->fd = pipe_fds[1];
        run_here(survey, look);
    }
    close(pipe_fds[1]);
    r = child < 0 ? fault(-errno, "cannot fork") : listen_to(parent, pipe_fds[0], n_bytes);
    close(pipe_fds[0]);
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    if (!r && is_stopped(status))
        r = fault(-EINTR, "the reading of %s was stopped", survey->path);
    if (!r)
        on_end(parent, status);
    parent->n_done_bytes += n_bytes;
    return pass(r);
}

/* Says nothing of damage: the state is read again, and then it does. */
static int look_for_gone(struct parent *parent, const char *state)
{
    int r;

    parent->is_quiet = true;
    parent->survey.path = state;
    r = run_one(parent, survey_gone);
    parent->survey.path = NULL;
    parent->is_quiet = false;
    parent->n_done_bytes = 0;
    return pass(r);
}

static int run(struct parent *parent, const char *path, int (*look)(struct survey *survey))
{
    int r;

    parent->survey.path = path;
    r = run_one(parent, look);
    parent->survey.path = NULL;
    return pass(r);
}

/* ---- which there are ---- */

static int no_dots(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static bool is_number(const char *name)
{
    return strlen(name) == 8 && strspn(name, "0123456789") == 8;
}

/* Names that a running hub has for a moment. */
static bool is_passing(const char *name)
{
    size_t len = strlen(name), gone = strlen(DB_GONE);

    return (len > 4 && strcmp(name + len - 4, ".new") == 0) ||
           (len > gone && strcmp(name + len - gone, DB_GONE) == 0);
}

static int each_of(struct parent *parent,
                   const char *kind,
                   int (*fn)(struct parent *parent, const char *path, const char *name))
{
    struct dirent **entries = NULL;
    char directory[512];
    int n, r = 0;

    if (snprintf(directory, sizeof(directory), "%s/default/%s", parent->asked->directory, kind) >=
        (int) sizeof(directory))
        return fault(-ENAMETOOLONG, "the path of the database is too long");
    n = scandir(directory, &entries, no_dots, alphasort);
    if (n < 0)
        return errno == ENOENT ? 0 : fault(-errno, "cannot read %s", directory);
    for (int i = 0; i < n; i++) {
        char path[sizeof(directory) + 300];

        snprintf(path, sizeof(path), "%s/%s", directory, entries[i]->d_name);
        if (!r && !is_passing(entries[i]->d_name))
            r = fn(parent, path, entries[i]->d_name);
        free(entries[i]);
    }
    free(entries);
    return pass(r);
}

static int add_bytes(struct parent *parent, const char *path, const char *name)
{
    (void) name;
    parent->n_all_bytes += db_file_bytes(path);
    return 0;
}

static int look_at_segment(struct parent *parent, const char *path, const char *name)
{
    if (!is_number(name)) {
        count_damage(parent, path, "data.mdb", "set aside as damaged: what it held is not served");
        return 0;
    }
    return pass(run(parent, path, survey_journal));
}

static int look_at_period(struct parent *parent,
                          const char *path,
                          const char *name,
                          const struct days_kind *kind,
                          int (*look)(struct survey *survey))
{
    char marker[900];
    struct stat st;

    if (!day_number_of(kind, name, &parent->survey.period)) {
        count_damage(parent, path, "data.mdb", "set aside as damaged: what it held is not served");
        return 0;
    }
    snprintf(marker, sizeof(marker), "%s/damaged", path);
    if (stat(marker, &st) == 0)
        count_damage(parent, path, "data.mdb",
                     "found damaged by the hub, which sets it aside at its next start");
    return pass(run(parent, path, look));
}

static int look_at_day(struct parent *parent, const char *path, const char *name)
{
    return pass(look_at_period(parent, path, name, &days_of_samples, survey_day));
}

static int look_at_logs(struct parent *parent, const char *path, const char *name)
{
    return pass(look_at_period(parent, path, name, &days_of_logs, survey_logs));
}

static int look_at_minutes(struct parent *parent, const char *path, const char *name)
{
    return pass(look_at_period(parent, path, name, &days_of_minutes, survey_minutes));
}

static int look_at_hours(struct parent *parent, const char *path, const char *name)
{
    return pass(look_at_period(parent, path, name, &days_of_hours, survey_hours));
}

/* What was set aside first; the one that counts is told apart by its name. */
static int look_at_default(struct parent *parent, const char *path, const char *name)
{
    if (strncmp(name, "inventory.damaged-", 18) == 0)
        count_damage(parent, path, "data.mdb", "set aside as damaged: what it held is not served");
    return strcmp(name, "inventory") == 0 ? pass(run(parent, path, survey_inventory)) : 0;
}

static int add_inventory_bytes(struct parent *parent, const char *path, const char *name)
{
    return strcmp(name, "inventory") == 0 ? add_bytes(parent, path, name) : 0;
}

/* ---- uploads ---- */

static uint64_t bytes_of_files(const char *directory)
{
    struct dirent **entries = NULL;
    uint64_t n_bytes = 0;
    int n = scandir(directory, &entries, no_dots, NULL);

    for (int i = 0; i < n; i++) {
        char path[900];
        struct stat st;

        snprintf(path, sizeof(path), "%.600s/%.255s", directory, entries[i]->d_name);
        if (stat(path, &st) == 0)
            n_bytes += (uint64_t) st.st_size;
        free(entries[i]);
    }
    free(entries);
    return n_bytes;
}

/* <directory>/default/<name>; those that the hub set aside are named. */
static int look_at_set_aside(struct parent *parent, const char *path, const char *name)
{
    if (strncmp(name, "objects.damaged-", 16) == 0)
        count_damage(parent, path, "index", "set aside as damaged: what it held is not served");
    return 0;
}

static int look_at_uploads(struct parent *parent)
{
    char index[600], content[600], file[700];
    struct stat st;
    int r = each_of(parent, "", look_at_set_aside);

    snprintf(index, sizeof(index), "%s/default/objects/index", parent->asked->directory);
    snprintf(content, sizeof(content), "%s/default/objects/content", parent->asked->directory);
    snprintf(file, sizeof(file), "%s/data.mdb", index);
    if (r || stat(file, &st) < 0)
        return pass(r);
    parent->survey.n_beside_bytes = parent->asked->is_deep ? bytes_of_files(content) : 0;
    parent->n_all_bytes += db_file_bytes(index) + parent->survey.n_beside_bytes;
    r = run(parent, index, survey_objects);
    parent->survey.n_beside_bytes = 0;
    return pass(r);
}

static int look_at_all(struct parent *parent, const char *state)
{
    static const struct {
        const char *name;
        int (*look)(struct parent *parent, const char *path, const char *name);
    } kinds[] = { { "journal", look_at_segment },
                  { "metrics", look_at_day },
                  { "logs", look_at_logs },
                  { "rollup-1m", look_at_minutes },
                  { "rollup-1h", look_at_hours } };
    size_t n = sizeof(kinds) / sizeof(kinds[0]);
    int r = 0;

    for (size_t i = 0; i < n && !r; i++)
        r = each_of(parent, kinds[i].name, add_bytes);
    if (!r)
        r = each_of(parent, "", add_inventory_bytes);
    parent->n_all_bytes += db_file_bytes(state);
    if (!r)
        r = look_for_gone(parent, state);
    for (size_t i = 0; i < n && !r; i++)
        r = each_of(parent, kinds[i].name, kinds[i].look);
    if (!r)
        r = each_of(parent, "", look_at_default);
    if (!r)
        r = look_at_uploads(parent);
    if (!r)
        r = run(parent, state, survey_state);
    return pass(r);
}

int store_survey(struct store_survey *asked, struct store_why *ret_why)
{
    struct parent parent = { .survey = { .asked = asked }, .asked = asked, .why = ret_why };
    char state[512], file[600];
    struct stat st;
    int r;

    ret_why->text[0] = 0;
    asked->found = (struct store_found){ 0 };
    snprintf(state, sizeof(state), "%s/state", asked->directory);
    snprintf(file, sizeof(file), "%s/data.mdb", state);
    if (stat(file, &st) < 0 && (errno == ENOENT || errno == ENOTDIR)) {
        snprintf(ret_why->text, sizeof(ret_why->text), "there is no database in %.200s",
                 asked->directory);
        return STORE_NOT_FOUND;
    }
    parent.survey.shared = mmap(NULL, sizeof(*parent.survey.shared), PROT_READ | PROT_WRITE,
                                MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (parent.survey.shared == MAP_FAILED)
        return fault(-errno, "no memory to look through a database");
    r = look_at_all(&parent, state);
    asked->found = parent.survey.shared->found;
    munmap(parent.survey.shared, sizeof(*parent.survey.shared));
    free(parent.survey.uses.slots);
    buf_deinit(&parent.survey.gone);
    buf_deinit(&parent.in);
    if (r)
        return pass(r);
    return parent.is_newer ? STORE_NEWER : 0;
}
