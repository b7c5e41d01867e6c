/* SPDX-License-Identifier: Apache-2.0 */

/* sentinel.admin.v1.AdminService: on readers. */

#include "sentinel/admin/v1/admin.pb-c.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/buf.h"
#include "common/base/usage.h"
#include "common/log/log.h"
#include "server/front/acts.h"
#include "server/front/inside.h"

static const char *state_name(enum front_state state)
{
    switch (state) {
    case FRONT_SERVING:
        return "SERVING";
    case FRONT_FULL:
        return "FULL";
    case FRONT_DRAINING:
        return "DRAINING";
    case FRONT_STARTING:
    case FRONT_FAILED:
    default:
        return "NOT_SERVING";
    }
}

static void fill_store(struct unary *unary, Sentinel__Admin__V1__GetStatusResponse *to)
{
    struct store_stats stats = { 0 };

    store_get_stats(unary->front->options.store, &stats);
    to->agents_known = (uint32_t) stats.n_agents;
    to->samples_stored = stats.n_samples;
    to->batches_stored = stats.n_batches;
    to->batches_duplicate = stats.n_duplicates;
    to->series_definitions = stats.n_definitions;
    to->layouts = stats.n_layouts;
    to->database_bytes = stats.database_bytes;
    to->disk_free_bytes = stats.disk_free_bytes;
    to->commit_p50 = unary_duration(unary, stats.commit_p50_us);
    to->commit_p99 = unary_duration(unary, stats.commit_p99_us);
}

static void fill_ingest(struct unary *unary, Sentinel__Admin__V1__GetStatusResponse *to)
{
    struct ingest_stats stats = { 0 };

    ingest_get_stats(unary->front->options.ingest, &stats);
    to->agents_connected = stats.n_agents;
    to->streams = stats.n_streams;
    to->batches_refused = stats.n_refused;
}

static void fill_accept(struct unary *unary,
                        const struct rpc_accept_stats *stats,
                        Sentinel__Admin__V1__GetStatusResponse *to)
{
    Sentinel__Admin__V1__HandshakeResult *rows =
        unary_alloc(unary, RPC_N_HANDSHAKE_RESULTS, sizeof(*rows));
    Sentinel__Admin__V1__HandshakeResult **pointers =
        unary_alloc(unary, RPC_N_HANDSHAKE_RESULTS, sizeof(*pointers));

    to->connections = stats->n_connections_now;
    to->handshakes_under_way = stats->n_handshakes_now;
    to->connections_refused = stats->n_refused_limit + stats->n_refused_address;
    to->connections_delayed = stats->n_delayed;
    if (!rows || !pointers)
        return;
    to->handshakes = pointers;
    for (int i = 0; i < RPC_N_HANDSHAKE_RESULTS; i++) {
        if (stats->n_results[i] == 0)
            continue;
        sentinel__admin__v1__handshake_result__init(&rows[i]);
        rows[i].result = front_borrow(rpc_handshake_name((enum rpc_handshake_result) i));
        rows[i].count = stats->n_results[i];
        pointers[to->n_handshakes++] = &rows[i];
    }
}

static void fill_audit(struct unary *unary, Sentinel__Admin__V1__GetStatusResponse *to)
{
    const struct front_options *options = &unary->front->options;
    struct audit_stats audit;
    struct audit_anchor anchor;
    struct quota_stats quota;

    if (options->audit) {
        audit_get_stats(options->audit, &audit);
        to->audit_entries = audit.head;
        to->audit_left_out = audit.n_left_out;
        to->audit_failed = audit.n_failed;
        if (audit_get_anchor(options->audit, &anchor) == AUDIT_OK) {
            to->audit_anchored = anchor.entry;
            to->audit_anchor_time = unary_time(unary, anchor.time);
        }
    }
    if (options->quota) {
        quota_get_stats(options->quota, &quota);
        for (int i = 0; i < QUOTA_N_LIMITS; i++)
            to->limits_refused += quota.n_refused[i];
    }
}

enum front_failure svc_admin_get_status(struct unary *unary)
{
    const struct front_options *options = &unary->front->options;
    Sentinel__Admin__V1__GetStatusResponse *answer = unary_alloc(unary, 1, sizeof(*answer));
    struct front_status *own = unary_alloc(unary, 1, sizeof(*own));

    if (!answer || !own)
        return unary_finish(unary, NULL);
    sentinel__admin__v1__get_status_response__init(answer);
    if (options->get_status)
        options->get_status(options->ctx, own);
    answer->version = front_borrow(SENTINEL_VERSION);
    answer->state = front_borrow(state_name((enum front_state) atomic_load(&unary->front->state)));
    answer->started = unary_time(unary, own->started);
    answer->now = unary_time(unary, unary->now);
    answer->security = own->security;
    answer->settings_loaded = unary_time(unary, own->settings_loaded);
    answer->settings_sha256 = own->settings_sha256;
    answer->certificate_expires = unary_time(unary, own->certificate_expires);
    answer->certificates_expiring = own->certificates_expiring;
    answer->registry_generation = options->pki ? pki_generation(options->pki) : 0;
    answer->handshakes_failed = rpc_accept_failed(&own->grpc) + own->https_handshakes_failed;
    fill_accept(unary, &own->grpc, answer);
    answer->resident_bytes = usage_resident_bytes();
    answer->cpu_time = unary_duration(unary, usage_cpu_us());
    fill_store(unary, answer);
    fill_ingest(unary, answer);
    fill_audit(unary, answer);
    return unary_finish(unary, &answer->base);
}

/* ---- labels: they and the audit entry in one transaction ---- */

struct labelling {
    struct unary *unary;
    const struct query_labels *question;
    struct buf agents, set, removed;
};

static void labelling_deinit(struct labelling *labelling)
{
    buf_deinit(&labelling->agents);
    buf_deinit(&labelling->set);
    buf_deinit(&labelling->removed);
}

/* For people; the audit cuts what is too long. */
static void describe(struct labelling *labelling)
{
    const struct query_labels *question = labelling->question;
    const struct query_selector *selector = question->selector;

    for (size_t i = 0; i < selector->n_ids; i++)
        buf_printf(&labelling->agents, "%s%s", i ? ", " : "", selector->ids[i]);
    if (selector->pattern && selector->pattern[0])
        buf_printf(&labelling->agents, "%s%s", selector->n_ids ? " and " : "", selector->pattern);
    for (size_t i = 0; i < selector->n_labels; i++)
        buf_printf(&labelling->agents, "%s%s=%s", buf_span(&labelling->agents).len ? " with " : "",
                   selector->labels[i].key, selector->labels[i].value);
    for (size_t i = 0; i < question->n_set; i++)
        buf_printf(&labelling->set, "%s%s=%s", i ? ", " : "", question->set[i].key,
                   question->set[i].value);
    for (size_t i = 0; i < question->n_remove; i++)
        buf_printf(&labelling->removed, "%s%s", i ? ", " : "", question->remove[i]);
}

static int note_labels(struct store_change *change, void *ctx)
{
    struct labelling *labelling = ctx;
    const struct query_selector *selector = labelling->question->selector;
    char object[80] = "agents", changed[16];
    struct front_act act;

    (void) front_act_of(labelling->unary, NULL, &act);
    describe(labelling);
    if (selector->n_ids == 1 && labelling->question->n_selected == 1)
        (void) snprintf(object, sizeof(object), "agent/%.63s", selector->ids[0]);
    (void) snprintf(changed, sizeof(changed), "%u", (unsigned) labelling->question->n_changed);
    if (buf_failed(&labelling->agents) || buf_failed(&labelling->set) ||
        buf_failed(&labelling->removed))
        return STORE_FULL;
    const struct audit_field fields[] = {
        { "agents", buf_text(&labelling->agents) },
        { "set", buf_text(&labelling->set) },
        { "removed", buf_text(&labelling->removed) },
        { "changed", changed },
    };
    return audit_put_in(change, &(struct audit_entry){ .event = AUDIT_AGENT_LABELLED,
                                                       .actor = act.by,
                                                       .source = act.source,
                                                       .object = object,
                                                       .correlation = act.correlation,
                                                       .fields = fields,
                                                       .n_fields = 4 });
}

enum front_failure svc_admin_set_agent_labels(struct unary *unary)
{
    CLEANUP(labelling_deinit) struct labelling labelling = { .unary = unary };
    const Sentinel__Admin__V1__SetAgentLabelsRequest *request = (const void *) unary->request;
    const struct query_selector selector = front_selector(unary, request->agents);
    struct query_labels question = {
        .selector = &selector,
        .set = unary_attributes(unary, request->set, request->n_set),
        .n_set = request->n_set,
        .remove = (const char *const *) request->remove,
        .n_remove = request->n_remove,
        .note = note_labels,
        .ctx = &labelling,
    };
    struct query_problem problem = { 0 };
    Sentinel__Admin__V1__SetAgentLabelsResponse *answer = unary_alloc(unary, 1, sizeof(*answer));
    int r;

    if (unary->is_short)
        return unary_finish(unary, NULL);
    labelling.question = &question;
    r = query_set_labels(unary->front->options.query, &question, &unary->arena, &problem);
    if (r != QUERY_OK)
        return front_failure_of_query(r, &problem, &unary->detail);
    log_event(LOG_INFO, "agent_labels_set", LOG_S("by", unary->caller.name),
              LOG_U("selected", question.n_selected), LOG_U("changed", question.n_changed));
    sentinel__admin__v1__set_agent_labels_response__init(answer);
    answer->changed = question.n_changed;
    answer->selected = question.n_selected;
    return unary_finish(unary, &answer->base);
}
