/* SPDX-License-Identifier: Apache-2.0 */
/* sentinel-agent upload FILE... [--name NAME] [--type TYPE] [--label KEY=VALUE] [--json] */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/cli/cmd.h"
#include "agent/uplink/uplink.h"
#include "common/base/file.h"
#include "common/base/progress.h"
#include "common/base/text.h"
#include "common/json/json.h"
#include "common/log/log.h"
#include "common/rpc/rpc.h"

#define GIVE_UP_US (INT64_C(300) * 1000000)

struct upload_command {
    struct cmd_line line;
    struct conf_list labels;
    struct send_label pairs[SEND_LABELS];
    size_t n_pairs;
    const char *name, *type, *id, *give_up, *insecure_id;
    int64_t give_up_us;
    uint8_t key[SEND_KEY_BYTES];
    struct progress progress;
    const char *word; /* the file at hand */
    struct json_writer json;
    struct buf out;
};

static void on_progress(void *ctx, uint64_t done_bytes, uint64_t all_bytes)
{
    struct upload_command *command = ctx;

    progress_show(&command->progress, done_bytes, all_bytes);
}

static void on_retry(void *ctx, const char *why, int64_t wait_us)
{
    struct upload_command *command = ctx;
    char wait[TEXT_DURATION_BYTES];

    progress_end(&command->progress);
    (void) cmd_fail(0, "%s: %s; again in %s", command->word, why,
                    text_of_duration_us(wait_us / 1000 * 1000, wait));
}

/* ---- what is said of it ---- */

static int exit_of(int outcome, const struct send *send)
{
    if (outcome == SEND_UNREACHABLE)
        return CLI_UNAVAILABLE;
    if (outcome == SEND_REFUSED &&
        (send->code == RPC_UNAUTHENTICATED || send->code == RPC_PERMISSION_DENIED))
        return CLI_DENIED;
    return CLI_FAILURE;
}

static int say_failed(const struct upload_command *command, int outcome, const struct send *send)
{
    return cmd_fail(exit_of(outcome, send), "upload: %s: %s%s%s%s", command->word, send->message,
                    send->quota[0] ? "; limit " : "", send->quota,
                    outcome == SEND_UNREACHABLE
                        ? "; what has arrived stays there: run this again to go on"
                        : "");
}

static void put_json(struct upload_command *command, const struct send *send)
{
    struct json_writer *json = &command->json;
    char sha256[2 * SEND_SHA256_BYTES + 1];

    json_open_object(json);
    json_put_text(json, "file", command->word);
    json_put_text(json, "object_id", send->object_id);
    json_put_text(json, "sha256", text_of_hex(send->sha256, sizeof(send->sha256), sha256));
    json_put_u64(json, "bytes", send->n_bytes);
    json_put_u64(json, "sent_bytes", send->n_sent_bytes);
    json_put_u64(json, "resumed_at", send->resumed_at);
    json_put_u64(json, "cuts", send->n_cuts);
    json_put_bool(json, "had_it", send->had_it);
    json_close_object(json);
}

static void put_line(struct upload_command *command, const struct send *send)
{
    char bytes[TEXT_SIZE_BYTES], at[TEXT_SIZE_BYTES], sha256[2 * SEND_SHA256_BYTES + 1];

    text_append_printable(&command->out, span_of_text(send->object_id));
    buf_printf(&command->out, "  %s  %s  ", text_of_hex(send->sha256, sizeof(send->sha256), sha256),
               text_of_size(send->n_bytes, bytes));
    text_append_printable(&command->out, span_of_text(command->word));
    if (send->had_it)
        buf_append_text(&command->out, "  (the hub has it already)");
    else if (send->resumed_at)
        buf_printf(&command->out, "  (went on at %s)", text_of_size(send->resumed_at, at));
    buf_append_text(&command->out, "\n");
}

/* ---- one file ---- */

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash && slash[1] ? slash + 1 : path;
}

static int send_one(struct upload_command *command, int fd)
{
    const struct settings *settings = &command->line.settings;
    const bool is_stdin = strcmp(command->word, "-") == 0;
    struct send send = {
        .give_up_us = command->give_up_us,
        .fd = fd,
        .name = command->name ? command->name
                : is_stdin    ? "stdin"
                              : base_name(command->word),
        .type = command->type ? command->type : "",
        .labels = command->pairs,
        .n_labels = command->n_pairs,
        .key = command->id ? command->key : NULL,
        .on_progress = on_progress,
        .on_retry = on_retry,
        .ctx = command,
    };
    struct tls_why why = { "" };
    int r;

    progress_begin(&command->progress, "uploading");
    r = uplink_upload(
        &(struct uplink_options){
            .hub = settings->hub,
            .server_name = settings->server_name[0] ? settings->server_name : NULL,
            .identity = settings->identity,
            .insecure_id = command->insecure_id,
            .is_tls13_only = settings->tls_min_version == SETTINGS_TLS_1_3,
            .pace = { .keepalive_us = settings->uplink_keepalive },
        },
        &send, &why);
    progress_end(&command->progress);
    if (r == SEND_UNCONNECTED)
        return cmd_fail(CLI_USAGE, "upload: no usable identity in %s: %s", settings->identity,
                        why.text);
    if (r)
        return r < 0 ? CLI_FAILURE : say_failed(command, r, &send);
    if (command->line.is_json)
        put_json(command, &send);
    else
        put_line(command, &send);
    return CLI_OK;
}

static int open_and_send(struct upload_command *command)
{
    CLEANUP(fd_closep) int fd = -1;

    if (strcmp(command->word, "-") == 0)
        return send_one(command, STDIN_FILENO);
    fd = open(command->word, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return cmd_fail(errno == ENOENT ? CLI_NOT_FOUND : CLI_FAILURE, "upload: %s: %s",
                        command->word, strerror(errno));
    return send_one(command, fd);
}

/* The first failure is what the command exits with; the others are sent all the same. */
static int send_files(struct upload_command *command)
{
    int code = CLI_OK;

    if (command->line.is_json) {
        json_begin(&command->json, &command->out, true);
        json_open_object(&command->json);
        json_key(&command->json, "uploads");
        json_open_array(&command->json);
    }
    for (size_t i = 0; i < command->line.args.n_rest; i++) {
        int r;

        command->word = command->line.args.rest[i];
        r = open_and_send(command);
        code = code ? code : r;
    }
    if (command->line.is_json) {
        json_close_array(&command->json);
        json_close_object(&command->json);
        buf_append_text(&command->out, "\n");
    }
    return code;
}

/* ---- the command line ---- */

static int read_labels(struct upload_command *command)
{
    for (size_t i = 0; i < command->labels.n_items; i++) {
        char *equals = strchr(command->labels.items[i], '=');

        if (i == SEND_LABELS)
            return cmd_fail(CLI_USAGE, "upload: at most %d labels", SEND_LABELS);
        if (!equals || equals == command->labels.items[i])
            return cmd_fail(CLI_USAGE, "upload: --label %s: not KEY=VALUE",
                            command->labels.items[i]);
        command->pairs[i].key =
            strndup(command->labels.items[i], (size_t) (equals - command->labels.items[i]));
        command->pairs[i].value = equals + 1;
        if (!command->pairs[i].key)
            return cmd_fail(CLI_FAILURE, "no memory");
        command->n_pairs++;
    }
    return CLI_OK;
}

static int check(struct upload_command *command)
{
    const struct cmd_line *line = &command->line;

    command->give_up_us = GIVE_UP_US;
    if (line->args.n_rest == 0)
        return cmd_fail(CLI_USAGE, "upload: which file? `-` is what comes on stdin");
    if (!line->settings.hub[0])
        return cmd_fail(CLI_USAGE, "upload: no hub; give --hub HOST:PORT");
    if (command->insecure_id && !cmd_is_on_loopback(line->settings.hub))
        return cmd_fail(CLI_USAGE, "upload: " CMD_INSECURE_REMEDY, line->settings.hub);
    if ((command->name || command->id) && line->args.n_rest > 1)
        return cmd_fail(CLI_USAGE, "upload: --name and --id are for one file");
    if (command->id && text_to_hex(command->id, command->key, sizeof(command->key)))
        return cmd_fail(CLI_USAGE, "upload: --id: 32 hex digits are wanted");
    if (command->give_up && text_to_duration_us(command->give_up, &command->give_up_us))
        return cmd_fail(CLI_USAGE, "upload: --give-up: `%s` is not a duration such as 5m",
                        command->give_up);
    return read_labels(command);
}

static int run(struct upload_command *command)
{
    int code = check(command), r;

    if (code)
        return code;
    log_init(&(struct log_options){ .level = LOG_ERROR, .format = LOG_LOGFMT, .fd = 2 });
    if (rpc_init())
        return CLI_FAILURE;
    code = send_files(command);
    rpc_deinit();
    r = cmd_print(&command->out);
    return r ? r : code;
}

int cmd_upload(int argc, char **argv)
{
    struct upload_command command = { .name = NULL };
    const struct conf_option options[] = {
        { .flag = "--name", .metavar = "NAME", .value = &command.name, .help = "else the file's" },
        { .flag = "--type",
          .metavar = "TYPE",
          .value = &command.type,
          .help = "of the content, such as application/gzip" },
        { .flag = "--label",
          .metavar = "KEY=VALUE",
          .values = &command.labels,
          .help = "may be given more than once" },
        { .flag = "--id",
          .metavar = "HEX",
          .value = &command.id,
          .help = "the upload's, 32 hex digits; else made of name, labels and content, so that the "
                  "same file goes on where it was cut" },
        { .flag = "--give-up",
          .metavar = "DURATION",
          .value = &command.give_up,
          .help = "when nothing went on for so long; 5m" },
        { .flag = "--insecure",
          .metavar = "ID",
          .value = &command.insecure_id,
          .help = "plaintext, under this id, to a hub that runs with --insecure" },
        { .flag = NULL },
    };
    const struct cmd cmd = {
        .usage = "upload FILE... [--name NAME] [--type TYPE] [--label KEY=VALUE]... [--json]",
        .help = "Sends files to the hub as this agent; - is what comes on stdin.",
        .options = options,
        .has_json = true,
        .has_settings = true,
        .max_words = 256,
    };
    int code = CLI_FAILURE;

    if (cmd_parse(argc, argv, &cmd, &command.line, &code) == 0)
        code = run(&command);
    for (size_t i = 0; i < command.n_pairs; i++)
        free((char *) (uintptr_t) command.pairs[i].key);
    free(command.labels.items);
    buf_deinit(&command.out);
    cmd_line_deinit(&command.line);
    return code;
}
