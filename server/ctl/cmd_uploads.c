/* SPDX-License-Identifier: Apache-2.0 */
/* sentinelctl uploads list, put. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/progress.h"
#include "common/base/text.h"
#include "common/rpc/rpc.h"
#include "common/send/send.h"
#include "server/ctl/convert.h"
#include "server/ctl/listing.h"

#define LIST_UPLOADS "/sentinel.query.v1.QueryService/ListUploads"
#define PAGE 1000
#define GIVE_UP_US (INT64_C(300) * 1000000)

/* ---- list ---- */

static void put_row(struct ctl *ctl, struct table *table, const Sentinel__Query__V1__Upload *upload)
{
    const int64_t now_us = clock_wall().us;
    char size[TEXT_SIZE_BYTES], received[TEXT_SIZE_BYTES];

    table_add(table, upload->object_id);
    table_add(table, upload->agent_id);
    table_add(table, upload->kind);
    if (upload->complete)
        table_add(table, text_of_size(upload->size_bytes, size));
    else
        table_printf(table, "%s of %s", text_of_size(upload->received_bytes, received),
                     upload->size_bytes ? text_of_size(upload->size_bytes, size) : "?");
    table_add(table, upload->complete ? "complete" : "unfinished");
    table_add(table, format_ago(ctl, convert_time_us(upload->time), now_us));
    table_add(table,
              upload->expires ? format_ago(ctl, convert_time_us(upload->expires), now_us) : "-");
    table_add(table, upload->name);
}

static void put_json(struct json_writer *json, const Sentinel__Query__V1__Upload *upload)
{
    json_open_object(json);
    json_put_text(json, "object_id", upload->object_id);
    json_put_text(json, "agent_id", upload->agent_id);
    json_put_text(json, "kind", upload->kind);
    json_put_text(json, "name", upload->name);
    json_put_text(json, "content_type", upload->content_type);
    json_put_u64(json, "size_bytes", upload->size_bytes);
    json_put_u64(json, "received_bytes", upload->received_bytes);
    json_put_text(json, "sha256", upload->sha256);
    json_put_bool(json, "complete", upload->complete);
    json_put_i64(json, "time_us", convert_time_us(upload->time));
    json_put_i64(json, "last_use_us", convert_time_us(upload->last_use));
    json_put_i64(json, "expires_us", convert_time_us(upload->expires));
    json_put_text(json, "upload_id", upload->upload_id);
    json_put_u64(json, "mode", upload->mode);
    json_put_i64(json, "modified_us", convert_time_us(upload->modified));
    json_key(json, "labels");
    json_open_object(json);
    for (size_t i = 0; i < upload->n_labels; i++)
        json_put_text(json, upload->labels[i]->key, upload->labels[i]->value);
    json_close_object(json);
    json_close_object(json);
}

/* The range as --from and --to; nothing given: all of time. */
static void set_range(struct ctl *ctl,
                      Sentinel__Query__V1__TimeRange *range,
                      Sentinel__Query__V1__ListUploadsRequest *request)
{
    if (!ctl->from && !ctl->to && !ctl->range)
        return;
    if (ctl->range)
        range->from = arena_printf(&ctl->arena, "-%s", ctl->range);
    if (ctl->from)
        range->from = arena_copy_text(&ctl->arena, ctl->from);
    if (ctl->to)
        range->to = arena_copy_text(&ctl->arena, ctl->to);
    request->range = range;
}

int cmd_uploads_list(struct ctl *ctl)
{
    static const char *const headers[] = { "ID",    "AGENT",   "KIND", ">SIZE", "STATE",
                                           "BEGUN", "EXPIRES", "NAME", NULL };
    Sentinel__Query__V1__ListUploadsRequest request =
        SENTINEL__QUERY__V1__LIST_UPLOADS_REQUEST__INIT;
    Sentinel__Query__V1__TimeRange range = SENTINEL__QUERY__V1__TIME_RANGE__INIT;
    struct listing list;
    ctl_selector selector;
    int r = convert_selector(ctl, &selector);

    if (r)
        return r;
    request.agents = &selector;
    request.page_size = PAGE;
    if (ctl->n_words)
        request.name_pattern = arena_copy_text(&ctl->arena, ctl->words[0]);
    set_range(ctl, &range, &request);
    listing_begin(&list, ctl, "uploads", headers);
    do {
        const Sentinel__Query__V1__ListUploadsResponse *answer;
        ProtobufCMessage *message;

        r = ctl_call(ctl, LIST_UPLOADS, &request.base, &message);
        if (r)
            break;
        answer = (const void *) message;
        for (size_t i = 0; i < answer->n_uploads; i++) {
            put_row(ctl, &list.table, answer->uploads[i]);
            put_json(&list.json, answer->uploads[i]);
        }
        request.page_token = answer->next_page_token;
    } while (*request.page_token);
    return listing_end(&list, r, "there is no upload that fits");
}

/* ---- put ---- */

struct put {
    struct ctl *ctl;
    struct progress progress;
    const char *word;
};

static int connect_again(void *ctx, struct rpc_channel **ret)
{
    const struct put *put = ctx;

    return ctl_connect(put->ctl, ret);
}

static void on_progress(void *ctx, uint64_t done_bytes, uint64_t all_bytes)
{
    struct put *put = ctx;

    progress_show(&put->progress, done_bytes, all_bytes);
}

static void on_retry(void *ctx, const char *why, int64_t wait_us)
{
    struct put *put = ctx;
    char wait[TEXT_DURATION_BYTES];

    progress_end(&put->progress);
    (void) ctl_say(0, "%s: %s; again in %s", put->word, why,
                   text_of_duration_us(wait_us / 1000 * 1000, wait));
}

static int say_failed(const struct put *put, int outcome, const struct send *send)
{
    if (send->code == RPC_PERMISSION_DENIED)
        return ctl_say(CTL_DENIED,
                       "%s: the hub takes uploads from agents, and this identity is none: give "
                       "--identity one that `sentinel-hub issue agent` made (the agent's own "
                       "command is sentinel-agent upload)",
                       put->word);
    (void) ctl_say(
        0, "%s: %s%s%s%s", put->word, send->message, send->quota[0] ? "; limit " : "", send->quota,
        outcome == SEND_UNREACHABLE ? "; what has arrived stays there: run this again to go on"
                                    : "");
    if (outcome == SEND_UNREACHABLE)
        return CTL_UNAVAILABLE;
    return send->code == RPC_UNAUTHENTICATED ? CTL_DENIED : CTL_FAILED;
}

static void say_sent(struct ctl *ctl, const struct put *put, const struct send *send)
{
    CLEANUP(buf_deinit) struct buf out = { 0 };
    char sha256[2 * SEND_SHA256_BYTES + 1], size[TEXT_SIZE_BYTES];
    struct json_writer json;

    (void) text_of_hex(send->sha256, sizeof(send->sha256), sha256);
    if (!ctl->is_json) {
        printf("%s  %s  %s  %s%s\n", format_printable(ctl, send->object_id), sha256,
               text_of_size(send->n_bytes, size), format_printable(ctl, put->word),
               send->had_it ? "  (the hub has it already)" : "");
        return;
    }
    json_begin(&json, &out, false);
    json_open_object(&json);
    json_put_text(&json, "file", put->word);
    json_put_text(&json, "object_id", send->object_id);
    json_put_text(&json, "sha256", sha256);
    json_put_u64(&json, "bytes", send->n_bytes);
    json_put_u64(&json, "sent_bytes", send->n_sent_bytes);
    json_put_bool(&json, "had_it", send->had_it);
    json_close_object(&json);
    printf("%s\n", buf_text(&out));
}

static int put_one(struct ctl *ctl, const char *word, struct send *send)
{
    CLEANUP(fd_closep) int fd = -1;
    struct put put = { .ctl = ctl, .word = word };
    const char *slash = strrchr(word, '/');
    int r;

    send->fd = STDIN_FILENO;
    if (strcmp(word, "-") != 0) {
        fd = open(word, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        if (fd < 0)
            return ctl_say(errno == ENOENT ? CTL_NOT_FOUND : CTL_FAILED, "%s: %s", word,
                           strerror(errno));
        send->fd = fd;
    }
    send->name = ctl->name                  ? ctl->name
                 : send->fd == STDIN_FILENO ? "stdin"
                 : slash                    ? slash + 1
                                            : word;
    send->ctx = send->connect_ctx = &put;
    progress_begin(&put.progress, "uploading");
    r = send_file(send);
    progress_end(&put.progress);
    if (r < 0)
        return CTL_FAILED;
    if (r)
        return say_failed(&put, r, send);
    say_sent(ctl, &put, send);
    return CTL_OK;
}

int cmd_uploads_put(struct ctl *ctl)
{
    struct loop *loop = ctl_loop(ctl);
    struct send_label labels[SEND_LABELS];
    int code = CTL_OK;

    if (!loop)
        return CTL_FAILED;
    if (ctl->name && ctl->n_words > 1)
        return ctl_say(CTL_USAGE, "--name is for one file");
    if (ctl->labels.n_items > SEND_LABELS)
        return ctl_say(CTL_USAGE, "at most %d labels", SEND_LABELS);
    for (size_t i = 0; i < ctl->labels.n_items; i++) {
        char *key, *value;
        int r = convert_pair(ctl, "--label", ctl->labels.items[i], &key, &value);

        if (r)
            return r;
        labels[i] = (struct send_label){ key, value };
    }
    for (size_t i = 0; i < ctl->n_words; i++) {
        struct send send = {
            .loop = loop,
            .connect = connect_again,
            .give_up_us = GIVE_UP_US,
            .type = ctl->type ? ctl->type : "",
            .labels = labels,
            .n_labels = ctl->labels.n_items,
            .on_progress = on_progress,
            .on_retry = on_retry,
        };
        int r = put_one(ctl, ctl->words[i], &send);

        code = code ? code : r;
    }
    return code;
}
