/* SPDX-License-Identifier: Apache-2.0 */
/* sentinel-agent reload [--state-dir D] [--json]: SIGHUP to the agent, and its answer from
 * status.json. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "agent/agent.h"
#include "agent/cli/cmd.h"
#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/json/json.h"

/* A round may be under way (collectors' deadlines are 10 s at most) before the signal is heard. */
#define PATIENCE_US INT64_C(30000000)
/* Without inotify, and for what it misses. */
#define LOOK_MS 250

static int64_t reloads_of(const struct json *status)
{
    return json_get_i64(json_member(json_member(status, "reload"), "count"), 0);
}

/* A pid may have gone to another process since it was written down. */
static bool is_agent(pid_t pid)
{
    CLEANUP(buf_deinit) struct buf name = { 0 };
    char path[64];

    snprintf(path, sizeof(path), "/proc/%d/comm", (int) pid);
    return file_read(path, 64, &name) == 0 && strcmp(buf_text(&name), "sentinel-agent\n") == 0;
}

static int say(const struct json *status, bool is_json, int64_t took_us)
{
    const struct json *reload = json_member(status, "reload");
    const char *error = json_get_text(json_member(reload, "error"), "");
    const char *restart = json_get_text(json_member(reload, "restart_needed"), "");
    const char *digest = json_get_text(json_member(status, "settings_sha256"), "");
    const struct json *policy = json_member(status, "policy");
    CLEANUP(buf_deinit) struct buf text = { 0 };
    struct json_writer json;
    int r;

    if (is_json) {
        json_begin(&json, &text, true);
        json_open_object(&json);
        json_put_bool(&json, "reloaded", !error[0]);
        json_put_text(&json, "error", error);
        json_put_text(&json, "restart_needed", restart);
        json_put_text(&json, "settings_sha256", digest);
        json_put_text(&json, "policy", json_get_text(json_member(policy, "state"), ""));
        json_put_f64(&json, "took_s", (double) took_us / 1e6);
        json_close_object(&json);
        buf_append_text(&text, "\n");
    } else if (!error[0]) {
        buf_printf(&text, "reloaded sha256=%s policy=%s%s%s\n", digest,
                   json_get_text(json_member(policy, "state"), ""),
                   restart[0] ? " restart_needed=" : "", restart);
    }
    r = cmd_print(&text);
    if (r)
        return r;
    return error[0] ? cmd_fail(CLI_FAILURE, "the agent keeps its old settings: %s", error) : CLI_OK;
}

/* Until status.json tells of one more reload. */
static int wait_for(const struct cmd_line *line, int watch, pid_t pid, int64_t before)
{
    const int64_t begin_us = clock_mono().us;
    char events[4096];

    while (clock_mono().us - begin_us < PATIENCE_US) {
        CLEANUP(buf_deinit) struct buf content = { 0 };
        CLEANUP(json_freep) struct json *status = NULL;
        struct pollfd file = { .fd = watch, .events = POLLIN };
        int code = CLI_FAILURE;

        if (cmd_read_status(line->settings.state_dir, &content, &status, &code))
            return code;
        if (json_get_i64(json_member(status, "pid"), 0) != pid || kill(pid, 0) < 0)
            return cmd_fail(CLI_UNAVAILABLE, "reload: the agent ended meanwhile; see its log");
        if (reloads_of(status) > before)
            return say(status, line->is_json, clock_mono().us - begin_us);
        if (poll(&file, 1, LOOK_MS) > 0)
            (void) !read(watch, events, sizeof(events));
    }
    return cmd_fail(CLI_UNAVAILABLE, "reload: the agent has not answered in %d s; see its log",
                    (int) (PATIENCE_US / 1000000));
}

int cmd_reload(int argc, char **argv)
{
    static const struct cmd cmd = {
        .usage = "reload [--state-dir D] [--json]",
        .help = "Tells the running agent to read its settings and its policy anew, and waits for "
                "its answer. Exits with 1 when they are refused: the old ones stay then.",
        .has_json = true,
        .has_settings = true,
    };
    CLEANUP(cmd_line_deinit) struct cmd_line line = { 0 };
    CLEANUP(buf_deinit) struct buf content = { 0 };
    CLEANUP(json_freep) struct json *status = NULL;
    CLEANUP(fd_closep) int watch = -1;
    int code = CLI_FAILURE;
    pid_t pid;

    if (cmd_parse(argc, argv, &cmd, &line, &code))
        return code;
    watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (watch >= 0)
        (void) inotify_add_watch(watch, line.settings.state_dir, IN_MOVED_TO);
    if (cmd_read_status(line.settings.state_dir, &content, &status, &code))
        return code;
    pid = (pid_t) json_get_i64(json_member(status, "pid"), 0);
    if (pid <= 1 || !is_agent(pid))
        return cmd_fail(CLI_UNAVAILABLE, "reload: no agent runs with %s", line.settings.state_dir);
    if (kill(pid, SIGHUP) < 0)
        return cmd_fail(errno == EPERM ? CLI_DENIED : CLI_UNAVAILABLE,
                        "reload: cannot signal process %d: %s%s", (int) pid, strerror(errno),
                        errno == EPERM ? "; try as root or as the agent's user" : "");
    return wait_for(&line, watch, pid, reloads_of(status));
}
