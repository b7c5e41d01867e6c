/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/collect/custom.h"
#include "common/base/file.h"
#include "common/log/log.h"

/*
 * *.prom files of collect.textfile.directory, in Prometheus' text format. Whoever writes one writes
 * it beside and renames it; a file that is bad is left out whole, with an error metric under its
 * name and one line in the log. What is no regular file is not opened to be read: a pipe would
 * wait. The directory may be on a network: so this runs on the helper.
 */
#define MAX_FILES 256
#define MAX_BYTES (1u << 20)

static const struct collect_metric error = { "sentinel.agent.textfile.error", "1", SPOOL_GAUGE };
static const struct collect_metric changed = { "sentinel.agent.textfile.mtime", "s", SPOOL_GAUGE };

struct state {
    struct custom_troubles troubles;
};

/* NULL: ret_words say why. Into the probe's text. */
static char *read_file(struct probe *c,
                       int directory,
                       const char *name,
                       struct stat *ret_stat,
                       const char **ret_words)
{
    CLEANUP(fd_closep) int fd = openat(directory, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    char *to;
    ssize_t n = 0;
    size_t len = 0;

    *ret_words = "it cannot be read";
    if (fd < 0 || fstat(fd, ret_stat) < 0)
        return NULL;
    *ret_words = "it is no regular file";
    if (!S_ISREG(ret_stat->st_mode))
        return NULL;
    *ret_words = "it is larger than 1 MiB";
    if (ret_stat->st_size > MAX_BYTES)
        return NULL;
    *ret_words = "it cannot be read";
    buf_clear(c->text);
    to = buf_extend(c->text, (size_t) ret_stat->st_size + 1);
    if (!to)
        return NULL;
    while (len < (size_t) ret_stat->st_size &&
           (n = read(fd, to + len, (size_t) ret_stat->st_size - len)) > 0)
        len += (size_t) n;
    if (n < 0)
        return NULL;
    to[len] = '\0';
    c->text->len = len;
    return to;
}

static void add_file(struct probe *c, struct state *state, int directory, const char *name)
{
    const struct promtext_rules rules = { .max_samples = c->rules->numbers.max_custom };
    struct promtext_problem problem = { 0 };
    const char *words;
    struct stat facts = { 0 };
    char *text = read_file(c, directory, name, &facts, &words);
    bool is_good = text && custom_add_text(c, text, c->text->len, &rules, NULL, &problem);

    if (text)
        words = problem.text;
    collect_add(c, &error, !is_good, ATTRIBUTES({ "sentinel.file", name }));
    if (facts.st_mtim.tv_sec)
        collect_add(c, &changed, (double) facts.st_mtim.tv_sec,
                    ATTRIBUTES({ "sentinel.file", name }));
    if (is_good) {
        custom_is_well(&state->troubles, name);
        return;
    }
    collect_count_error(c);
    if (custom_is_news(&state->troubles, name, words))
        log_event(LOG_WARN, "textfile_refused", LOG_S("file", name), LOG_U("line", problem.line),
                  LOG_S("error", words));
}

void collect_textfile(struct probe *c)
{
    const char *path = c->rules->texts[COLLECT_TEXTFILE_DIRECTORY];
    struct state *state;
    const char *name;
    DIR *directory;

    if (!path[0])
        return;
    state = collect_state(c, sizeof(*state));
    directory = state ? opendir(path) : NULL;
    if (!directory) {
        /* Somebody asked for it: one that is not there is an error. */
        if (errno == EACCES)
            collect_count_failure(c, path, EACCES);
        else
            collect_count_error(c);
        return;
    }
    for (size_t n = 0; n < MAX_FILES && (name = collect_next_name(directory));) {
        size_t len = strlen(name);

        if (len <= 5 || strcmp(name + len - 5, ".prom") != 0)
            continue;
        n++;
        add_file(c, state, dirfd(directory), name);
    }
    closedir(directory);
}
