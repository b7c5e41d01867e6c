/* SPDX-License-Identifier: Apache-2.0 */

/* sentinel.admin.v1.AdminService: limits, Reload. On readers. */

#include "sentinel/admin/v1/admin.pb-c.h"

#include <stdio.h>
#include <string.h>

#include "common/log/log.h"
#include "server/front/acts.h"
#include "server/front/inside.h"

static void fill_limit(struct unary *unary, const void *row, void *message)
{
    const struct quota_row *from = row;
    Sentinel__Admin__V1__Limit *to = message;

    sentinel__admin__v1__limit__init(to);
    to->name = front_borrow(from->name);
    to->scope = front_borrow(from->scope);
    to->value = from->n;
    to->unit = front_borrow(from->unit);
    to->help = front_borrow(from->help);
    to->per = unary_duration(unary, from->per_us);
    to->burst = from->burst;
    to->is_default = from->is_default;
    to->refused = from->n_refused;
}

static const struct front_list limit_list = { sizeof(struct quota_row),
                                              sizeof(Sentinel__Admin__V1__Limit), fill_limit };

enum front_failure svc_admin_list_limits(struct unary *unary)
{
    Sentinel__Admin__V1__ListLimitsResponse *answer = unary_alloc(unary, 1, sizeof(*answer));
    struct quota_row *limits = NULL;
    size_t n = 0;

    if (unary->front->options.quota &&
        quota_list(unary->front->options.quota, &unary->arena, &limits, &n) != 0)
        return FAIL_FAULT;
    if (!answer)
        return unary_finish(unary, NULL);
    sentinel__admin__v1__list_limits_response__init(answer);
    answer->limits = front_list_of(unary, &limit_list, limits, n, &answer->n_limits);
    return unary_finish(unary, &answer->base);
}

/* ---- set: the numbers and the audit entry in one transaction ---- */

struct change {
    struct quota_setting setting;
    struct audit_entry entry;
    struct quota_why why;
    int quota_r;
};

static int set_in(struct store_change *change, void *ctx)
{
    struct change *asked = ctx;

    asked->quota_r = quota_set_in(change, &asked->setting, &asked->why);
    if (asked->quota_r != QUOTA_OK)
        return asked->quota_r < 0 ? asked->quota_r : STORE_OUTCOME_FREE;
    return audit_put_in(change, &asked->entry);
}

static enum front_failure failure_of_set(int r, const struct change *asked, struct unary *unary)
{
    if (r < 0)
        return FAIL_FAULT;
    if (r == STORE_OK)
        return FAIL_NOT;
    if (r == STORE_FULL || asked->quota_r == QUOTA_FULL)
        return FAIL_FULL;
    front_describe(&unary->detail, asked->quota_r == QUOTA_UNKNOWN ? "name" : "value", "%s",
                   asked->why.text[0] ? asked->why.text : "no limit of this name; see ListLimits");
    return asked->quota_r == QUOTA_UNKNOWN ? FAIL_NOT_FOUND : FAIL_BAD_QUESTION;
}

enum front_failure svc_admin_set_limit(struct unary *unary)
{
    const Sentinel__Admin__V1__SetLimitRequest *request = (const void *) unary->request;
    Sentinel__Admin__V1__SetLimitResponse *answer = unary_alloc(unary, 1, sizeof(*answer));
    char value[32], object[160];
    const struct audit_field fields[] = { { "value", value }, { "who", request->who } };
    struct front_act act;
    struct change asked = {
        .setting = { .name = request->name,
                     .who = request->who[0] ? request->who : NULL,
                     .n = request->reset ? UINT64_MAX : request->value,
                     .burst = request->burst },
    };
    enum front_failure failure;

    if (!answer)
        return unary_finish(unary, NULL);
    (void) front_act_of(unary, NULL, &act);
    (void) snprintf(value, sizeof(value), "%llu", (unsigned long long) request->value);
    (void) snprintf(object, sizeof(object), "limit/%.100s", request->name);
    asked.entry = (struct audit_entry){
        .event = AUDIT_LIMIT_SET,
        .actor = act.by,
        .source = act.source,
        .object = object,
        .correlation = act.correlation,
        .fields = request->reset ? fields + 1 : fields,
        .n_fields = request->reset ? 1 : 2,
    };
    failure = failure_of_set(store_state_change(unary->front->options.store, set_in, &asked),
                             &asked, unary);
    if (failure != FAIL_NOT)
        return failure;
    if (unary->front->options.quota && quota_refresh(unary->front->options.quota) != 0)
        return FAIL_FAULT;
    log_event(LOG_INFO, "limit_set", LOG_S("by", act.by), LOG_S("limit", request->name),
              LOG_S("who", request->who), LOG_S("value", request->reset ? "default" : value));
    sentinel__admin__v1__set_limit_response__init(answer);
    return unary_finish(unary, &answer->base);
}

/* ---- reload ---- */

/* "a, b" into texts in the arena. */
static char **split(struct unary *unary, const char *names, size_t *ret_n)
{
    const size_t max = strlen(names) / 2 + 1;
    char **to = unary_alloc(unary, max, sizeof(char *));
    char *rest = front_copy(unary, names), *name;

    *ret_n = 0;
    while (to && (name = strtok_r(rest, ", ", &rest)) != NULL)
        to[(*ret_n)++] = name;
    return to;
}

enum front_failure svc_admin_reload(struct unary *unary)
{
    const struct front_options *options = &unary->front->options;
    Sentinel__Admin__V1__ReloadResponse *answer = unary_alloc(unary, 1, sizeof(*answer));
    struct front_status *own = unary_alloc(unary, 1, sizeof(*own));
    struct front_reload done = { .why = "" };
    enum front_failure failure;

    if (!answer || !own)
        return unary_finish(unary, NULL);
    if (!options->reload)
        return FAIL_UNIMPLEMENTED;
    /* Who asked for it; what came of it, the hub says itself. */
    failure = front_act_note(unary, AUDIT_RELOAD_ASKED, "settings");
    if (failure != FAIL_NOT)
        return failure;
    options->reload(options->ctx, &done);
    if (done.why[0]) {
        front_describe(&unary->detail, NULL, "%s", done.why);
        return FAIL_RELOAD;
    }
    options->get_status(options->ctx, own);
    sentinel__admin__v1__reload_response__init(answer);
    answer->settings_sha256 = own->settings_sha256;
    answer->settings_loaded = unary_time(unary, own->settings_loaded);
    answer->needs_restart = split(unary, done.needs_restart, &answer->n_needs_restart);
    return unary_finish(unary, &answer->base);
}
