/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "common/base/clock.h"
#include "server/ctl/admin.h"

#define LIST_AGENTS "/sentinel.query.v1.QueryService/ListAgents"
#define GET_AGENT "/sentinel.query.v1.QueryService/GetAgent"

typedef Sentinel__Query__V1__Agent agent_message;

static const char *host_fact(const agent_message *agent, const char *key)
{
    for (size_t i = 0; i < agent->n_host; i++)
        if (strcmp(agent->host[i]->key, key) == 0)
            return agent->host[i]->value;
    return "";
}

static void agent_json(struct json_writer *json, const agent_message *agent)
{
    json_put_text(json, "agent", agent->agent_id);
    json_put_bool(json, "connected", agent->connected);
    json_put_i64(json, "first_seen_us", convert_time_us(agent->first_seen));
    json_put_i64(json, "last_seen_us", convert_time_us(agent->last_seen));
    json_put_i64(json, "last_sample_us", convert_time_us(agent->last_sample));
    json_put_text(json, "version", agent->agent_version);
    json_put_text(json, "address", agent->address);
    json_put_i64(json, "clock_offset_us", convert_duration_us(agent->clock_offset));
    json_put_i64(json, "interval_us", convert_duration_us(agent->interval));
    json_put_u64(json, "series", agent->series);
    json_put_u64(json, "samples_stored", agent->samples_stored);
    json_put_u64(json, "log_records_stored", agent->log_records_stored);
    json_put_u64(json, "log_bytes_stored", agent->log_bytes_stored);
    json_put_u64(json, "log_records_skipped", agent->log_records_skipped);
    json_put_i64(json, "last_log_record_us", convert_time_us(agent->last_log_record));
    json_put_u64(json, "samples_skipped", agent->samples_skipped);
    json_put_u64(json, "batches_lost", agent->batches_lost);
    json_key(json, "labels");
    json_open_object(json);
    for (size_t i = 0; i < agent->n_labels; i++)
        json_put_text(json, agent->labels[i]->key, agent->labels[i]->value);
    json_close_object(json);
    json_key(json, "host");
    json_open_object(json);
    for (size_t i = 0; i < agent->n_host; i++)
        json_put_text(json, agent->host[i]->key, agent->host[i]->value);
    json_close_object(json);
}

static void
list_row(struct ctl *ctl, struct table *table, const agent_message *agent, int64_t now_us)
{
    struct buf labels = { 0 };

    table_add(table, agent->agent_id);
    table_add(table, agent->connected ? "connected" : "away");
    table_add(table, format_ago(ctl, convert_time_us(agent->last_seen), now_us));
    table_printf(table, "%u", agent->series);
    table_add(table, format_number(ctl, (double) agent->samples_stored));
    table_add(table, agent->agent_version);
    table_add(table, host_fact(agent, "os.description"));
    table_add(table, agent->address);
    for (size_t i = 0; i < agent->n_labels; i++)
        buf_printf(&labels, "%s%s=%s", i ? " " : "", agent->labels[i]->key,
                   agent->labels[i]->value);
    table_add(table, buf_text(&labels));
    buf_deinit(&labels);
}

int cmd_agents_list(struct ctl *ctl)
{
    static const char *const headers[] = { "AGENT",   "STATE",  "LAST SEEN", ">SERIES", ">SAMPLES",
                                           "VERSION", "SYSTEM", "ADDRESS",   "LABELS",  NULL };
    Sentinel__Query__V1__ListAgentsRequest request = SENTINEL__QUERY__V1__LIST_AGENTS_REQUEST__INIT;
    ctl_selector selector;
    int64_t now_us = clock_wall().us;
    struct listing list;
    int r;

    r = convert_selector(ctl, &selector);
    if (r)
        return r;
    if (ctl->n_words > 0)
        selector.pattern = arena_copy_text(&ctl->arena, ctl->words[0]);
    request.agents = &selector;
    request.page_size = 1000;
    listing_begin(&list, ctl, "agents", headers);
    do {
        ProtobufCMessage *message;
        const Sentinel__Query__V1__ListAgentsResponse *answer;

        r = ctl_call(ctl, LIST_AGENTS, &request.base, &message);
        if (r)
            break;
        answer = (const void *) message;
        for (size_t i = 0; i < answer->n_agents; i++) {
            list_row(ctl, &list.table, answer->agents[i], now_us);
            json_open_object(&list.json);
            agent_json(&list.json, answer->agents[i]);
            json_close_object(&list.json);
        }
        request.page_token = answer->next_page_token;
    } while (*request.page_token);
    return listing_end(&list, r,
                       "no agent is known that fits; a hub knows one once it has connected");
}

static void
show_identity(struct ctl *ctl, struct table *facts, const Sentinel__Query__V1__AgentIdentity *from)
{
    const int64_t now_us = clock_wall().us;

    table_add(facts, "identity");
    table_printf(facts, "%s%s%s",
                 admin_word(ctl, &sentinel__query__v1__agent_state__descriptor, (int) from->state),
                 *from->reason ? ": " : "", from->reason);
    table_add(facts, "enrolled");
    table_add(facts, format_ago(ctl, convert_time_us(from->enrolled), now_us));
    table_add(facts, "certificate");
    if (*from->certificate_sha256)
        table_printf(facts, "%.16s, expires %s", from->certificate_sha256,
                     format_ago(ctl, convert_time_us(from->certificate_expires), now_us));
    else
        table_add(facts, "none that was used");
    table_add(facts, "seen from");
    table_add(facts, *from->last_address ? from->last_address : "nowhere");
    for (size_t i = 0; i < from->n_addresses; i++) {
        table_add(facts, "allowed from");
        table_add(facts, from->addresses[i]);
    }
    if (from->clones == 0)
        return;
    table_add(facts, "clones refused");
    table_printf(facts, "%llu", (unsigned long long) from->clones);
}

static void show_people(struct ctl *ctl, const Sentinel__Query__V1__GetAgentResponse *answer)
{
    static const char *const headers[] = { "SIGNAL", "SPOOL",    ">LAST SEQUENCE",
                                           "STREAM", "LAST USE", NULL };
    const agent_message *agent = answer->agent;
    int64_t now_us = clock_wall().us;
    struct table facts;
    struct table runs;

    table_begin(&facts, (const char *const[]){ agent->agent_id,
                                               agent->connected ? "connected" : "away", NULL });
#define FACT(name, ...) (table_add(&facts, name), table_printf(&facts, __VA_ARGS__))
    FACT("first seen", "%s", format_time(ctl, convert_time_us(agent->first_seen)));
    FACT("last seen", "%s", format_ago(ctl, convert_time_us(agent->last_seen), now_us));
    FACT("last sample", "%s", format_ago(ctl, convert_time_us(agent->last_sample), now_us));
    FACT("address", "%s", agent->address);
    FACT("version", "%s", agent->agent_version);
    FACT("interval", "%.6g s", (double) convert_duration_us(agent->interval) / 1e6);
    FACT("clock offset", "%.3f s", (double) convert_duration_us(agent->clock_offset) / 1e6);
    FACT("series", "%u", agent->series);
    FACT("samples stored", "%llu", (unsigned long long) agent->samples_stored);
    FACT("log records stored", "%llu, %s", (unsigned long long) agent->log_records_stored,
         format_value(ctl, (double) agent->log_bytes_stored, "By"));
    FACT("log records skipped", "%llu", (unsigned long long) agent->log_records_skipped);
    FACT("last log record", "%s", format_ago(ctl, convert_time_us(agent->last_log_record), now_us));
    FACT("samples skipped", "%llu", (unsigned long long) agent->samples_skipped);
    FACT("batches lost", "%llu", (unsigned long long) agent->batches_lost);
    if (answer->inventory)
        FACT("inventory", "revision %llu of %s", (unsigned long long) answer->inventory->revision,
             format_time(ctl, convert_time_us(answer->inventory->time)));
#undef FACT
    if (answer->identity)
        show_identity(ctl, &facts, answer->identity);
    for (size_t i = 0; i < agent->n_labels; i++) {
        table_printf(&facts, "label %s", agent->labels[i]->key);
        table_add(&facts, agent->labels[i]->value);
    }
    for (size_t i = 0; i < agent->n_host; i++) {
        table_add(&facts, agent->host[i]->key);
        table_add(&facts, agent->host[i]->value);
    }
    table_end(&facts, stdout);
    if (answer->n_runs == 0)
        return;
    printf("\n");
    table_begin(&runs, headers);
    for (size_t i = 0; i < answer->n_runs; i++) {
        table_add(&runs, answer->runs[i]->signal);
        table_add(&runs, answer->runs[i]->spool_id);
        table_printf(&runs, "%llu", (unsigned long long) answer->runs[i]->last_sequence);
        table_add(&runs, answer->runs[i]->connected ? "open" : "closed");
        table_add(&runs, format_ago(ctl, convert_time_us(answer->runs[i]->last_use), now_us));
    }
    table_end(&runs, stdout);
}

static void identity_json(struct ctl *ctl,
                          struct json_writer *json,
                          const Sentinel__Query__V1__AgentIdentity *from)
{
    json_key(json, "identity");
    json_open_object(json);
    json_put_text(
        json, "state",
        admin_word(ctl, &sentinel__query__v1__agent_state__descriptor, (int) from->state));
    json_put_text(json, "reason", from->reason);
    json_put_i64(json, "enrolled_us", convert_time_us(from->enrolled));
    json_put_i64(json, "changed_us", convert_time_us(from->changed));
    json_put_text(json, "certificate_sha256", from->certificate_sha256);
    json_put_i64(json, "certificate_expires_us", convert_time_us(from->certificate_expires));
    json_put_bool(json, "has_fingerprint", from->has_fingerprint);
    json_put_u64(json, "clones", from->clones);
    json_put_text(json, "last_address", from->last_address);
    json_key(json, "addresses");
    json_open_array(json);
    for (size_t i = 0; i < from->n_addresses; i++)
        json_text(json, from->addresses[i]);
    json_close_array(json);
    json_close_object(json);
}

static void show_json(struct ctl *ctl, const Sentinel__Query__V1__GetAgentResponse *answer)
{
    struct json_writer json;
    struct buf out = { 0 };

    json_begin(&json, &out, true);
    json_open_object(&json);
    agent_json(&json, answer->agent);
    json_key(&json, "runs");
    json_open_array(&json);
    for (size_t i = 0; i < answer->n_runs; i++) {
        json_open_object(&json);
        json_put_text(&json, "signal", answer->runs[i]->signal);
        json_put_text(&json, "spool_id", answer->runs[i]->spool_id);
        json_put_u64(&json, "last_sequence", answer->runs[i]->last_sequence);
        json_put_bool(&json, "connected", answer->runs[i]->connected);
        json_put_i64(&json, "last_use_us", convert_time_us(answer->runs[i]->last_use));
        json_close_object(&json);
    }
    json_close_array(&json);
    if (answer->inventory) {
        json_put_u64(&json, "inventory_revision", answer->inventory->revision);
        json_put_i64(&json, "inventory_time_us", convert_time_us(answer->inventory->time));
        json_put_i64(&json, "inventory_confirmed_us",
                     convert_time_us(answer->inventory->confirmed_time));
    }
    if (answer->identity)
        identity_json(ctl, &json, answer->identity);
    json_close_object(&json);
    printf("%s\n", buf_text(&out));
    buf_deinit(&out);
}

int cmd_agents_show(struct ctl *ctl)
{
    Sentinel__Query__V1__GetAgentRequest request = SENTINEL__QUERY__V1__GET_AGENT_REQUEST__INIT;
    const Sentinel__Query__V1__GetAgentResponse *answer;
    ProtobufCMessage *message;
    int r;

    request.agent_id = arena_copy_text(&ctl->arena, ctl->words[0]);
    r = ctl_call(ctl, GET_AGENT, &request.base, &message);
    if (r)
        return r;
    answer = (const void *) message;
    if (!answer->agent)
        return ctl_say(CTL_FAILED, "the hub's answer has no agent in it");
    if (ctl->is_json)
        show_json(ctl, answer);
    else
        show_people(ctl, answer);
    return CTL_OK;
}
