/* SPDX-License-Identifier: Apache-2.0 */
/* sentinelctl limits list, set; backup; reload. */
#include <string.h>

#include "common/base/clock.h"
#include "common/base/progress.h"
#include "common/base/text.h"
#include "server/ctl/admin.h"

static void put_limit(struct listing *to, const Sentinel__Admin__V1__Limit *limit)
{
    char per[TEXT_DURATION_BYTES];

    text_of_duration_us(convert_duration_us(limit->per), per);
    json_open_object(&to->json);
    json_put_text(&to->json, "name", limit->name);
    json_put_text(&to->json, "scope", limit->scope);
    json_put_u64(&to->json, "value", limit->value);
    json_put_i64(&to->json, "per_us", convert_duration_us(limit->per));
    json_put_u64(&to->json, "burst", limit->burst);
    json_put_text(&to->json, "unit", limit->unit);
    json_put_bool(&to->json, "is_default", limit->is_default);
    json_put_u64(&to->json, "refused", limit->refused);
    json_put_text(&to->json, "help", limit->help);
    json_close_object(&to->json);
    table_add(&to->table, limit->name);
    table_add(&to->table, limit->scope);
    table_printf(&to->table, "%llu in %s", (unsigned long long) limit->value, per);
    table_printf(&to->table, "%llu", (unsigned long long) limit->burst);
    table_printf(&to->table, "%llu", (unsigned long long) limit->refused);
    table_add(&to->table, limit->is_default ? "default" : "set");
    table_add(&to->table, limit->help);
}

int cmd_limits_list(struct ctl *ctl)
{
    static const char *const headers[] = { "LIMIT",    "FOR", ">VALUE", ">BURST",
                                           ">REFUSED", "",    "WHAT",   NULL };
    Sentinel__Admin__V1__ListLimitsRequest request = SENTINEL__ADMIN__V1__LIST_LIMITS_REQUEST__INIT;
    const Sentinel__Admin__V1__ListLimitsResponse *answer;
    struct listing list;
    ProtobufCMessage *message;
    int r = ctl_call(ctl, ADMIN_PATH("ListLimits"), &request.base, &message);

    if (r)
        return r;
    answer = (const void *) message;
    listing_begin(&list, ctl, "limits", headers);
    for (size_t i = 0; i < answer->n_limits; i++)
        put_limit(&list, answer->limits[i]);
    return listing_end(&list, CTL_OK, "there is no limit");
}

int cmd_limits_set(struct ctl *ctl)
{
    Sentinel__Admin__V1__SetLimitRequest request = SENTINEL__ADMIN__V1__SET_LIMIT_REQUEST__INIT;
    ProtobufCMessage *message;
    int r = CTL_OK;

    request.name = admin_copy(ctl, ctl->words[0]);
    request.who = admin_copy(ctl, ctl->admin.who);
    request.reset = strcmp(ctl->words[1], "default") == 0;
    if (!request.reset)
        r = admin_number("limits set", ctl->words[1], UINT32_MAX, &request.value);
    if (!r && ctl->admin.burst)
        r = admin_number("--burst", ctl->admin.burst, UINT32_MAX, &request.burst);
    if (r)
        return r;
    if (ctl->is_dry_run) {
        printf("would set %s to %s\n", format_printable(ctl, request.name), ctl->words[1]);
        return CTL_OK;
    }
    r = ctl_call(ctl, ADMIN_PATH("SetLimit"), &request.base, &message);
    if (!r)
        printf(ctl->is_json ? "{\"set\": true}\n" : "set\n");
    return r;
}

/* ---- backup ---- */

struct backup {
    struct ctl *ctl;
    struct progress progress;
    bool has_result;
    int code;
};

static void put_result(struct ctl *ctl, const Sentinel__Admin__V1__BackupResult *result)
{
    char size[TEXT_SIZE_BYTES];
    struct object object;

    if (!ctl->is_json) {
        printf("%s: %llu days, %llu segments of the journal, %s; all that was acknowledged before "
               "%s\n",
               format_printable(ctl, result->to), (unsigned long long) result->days,
               (unsigned long long) result->segments, text_of_size(result->bytes, size),
               format_time(ctl, convert_time_us(result->began)));
        return;
    }
    object_begin(&object);
    json_put_text(&object.json, "to", result->to);
    json_put_i64(&object.json, "began_us", convert_time_us(result->began));
    json_put_u64(&object.json, "bytes", result->bytes);
    json_put_u64(&object.json, "days", result->days);
    json_put_u64(&object.json, "segments", result->segments);
    json_put_u64(&object.json, "left_out", result->left_out);
    json_key(&object.json, "damages");
    json_open_array(&object.json);
    for (size_t i = 0; i < result->n_damages; i++)
        json_text(&object.json, result->damages[i]);
    json_close_array(&object.json);
    object_end(&object);
}

static int on_backup(void *ctx, const ProtobufCMessage *message)
{
    const Sentinel__Admin__V1__BackupResponse *answer = (const void *) message;
    struct backup *backup = ctx;

    if (!answer->result) {
        progress_show(&backup->progress, answer->bytes_done, answer->bytes_total);
        return CTL_OK;
    }
    progress_end(&backup->progress);
    put_result(backup->ctl, answer->result);
    backup->has_result = true;
    for (size_t i = 0; !backup->ctl->is_json && i < answer->result->n_damages; i++)
        ctl_say(CTL_OK, "left out: %s", answer->result->damages[i]);
    backup->code = answer->result->left_out ? CTL_PARTIAL : CTL_OK;
    return CTL_OK;
}

int cmd_backup(struct ctl *ctl)
{
    Sentinel__Admin__V1__BackupRequest request = SENTINEL__ADMIN__V1__BACKUP_REQUEST__INIT;
    struct backup backup = { .ctl = ctl };
    int r;

    request.to = admin_copy(ctl, ctl->words[0]);
    if (ctl->is_dry_run) {
        printf("would copy the hub to %s on its machine\n", format_printable(ctl, request.to));
        return CTL_OK;
    }
    progress_begin(&backup.progress, "copying");
    r = ctl_stream(ctl, ADMIN_PATH("Backup"), &request.base, on_backup, &backup);
    progress_end(&backup.progress);
    if (!r && !backup.has_result)
        return ctl_say(CTL_FAILED, "the hub's answer has no result in it");
    return r ? r : backup.code;
}

/* ---- reload ---- */

int cmd_reload(struct ctl *ctl)
{
    Sentinel__Admin__V1__ReloadRequest request = SENTINEL__ADMIN__V1__RELOAD_REQUEST__INIT;
    const Sentinel__Admin__V1__ReloadResponse *answer;
    ProtobufCMessage *message;
    struct object object;
    int r = ctl_call(ctl, ADMIN_PATH("Reload"), &request.base, &message);

    if (r)
        return r;
    answer = (const void *) message;
    if (!ctl->is_json) {
        printf("the settings %.12s count\n", answer->settings_sha256);
        for (size_t i = 0; i < answer->n_needs_restart; i++)
            ctl_say(CTL_OK, "%s counts after a restart", answer->needs_restart[i]);
        return CTL_OK;
    }
    object_begin(&object);
    json_put_text(&object.json, "settings_sha256", answer->settings_sha256);
    json_put_i64(&object.json, "settings_loaded_us", convert_time_us(answer->settings_loaded));
    json_key(&object.json, "needs_restart");
    json_open_array(&object.json);
    for (size_t i = 0; i < answer->n_needs_restart; i++)
        json_text(&object.json, answer->needs_restart[i]);
    json_close_array(&object.json);
    object_end(&object);
    return CTL_OK;
}
