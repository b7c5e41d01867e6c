/* SPDX-License-Identifier: Apache-2.0 */
#include "server/limits.h"

void limits_of_ingest(const struct settings *settings, struct ingest_limits *ret)
{
    ingest_default_limits(ret);
    ret->batch_samples = (uint32_t) settings->limit_batch_samples;
    ret->batch_new_series = (uint32_t) settings->limit_batch_new_series;
    ret->agent_series = (uint32_t) settings->limit_agent_series;
    ret->name_bytes = (uint32_t) settings->limit_name_bytes;
    ret->series_attributes = (uint32_t) settings->limit_series_attributes;
    ret->attribute_bytes = (uint32_t) settings->limit_attribute_bytes;
    ret->unacknowledged_batches = (uint32_t) settings->limit_unacknowledged_batches;
    ret->batch_log_records = (uint32_t) settings->limit_batch_log_records;
    ret->log_body_bytes = (uint32_t) settings->limit_log_body_bytes;
    ret->log_attributes = (uint32_t) settings->limit_log_attributes;
    ret->future_us = settings->limit_future;
    ret->retention_us = settings->retention;
    ret->inventory = (struct ingest_inventory_limits){
        .tables = (uint32_t) settings->inventory_tables,
        .columns = (uint32_t) settings->inventory_columns,
        .rows = settings->inventory_rows,
        .value_bytes = (uint32_t) settings->inventory_value_size,
        .table_bytes = settings->inventory_table_size,
        .upload_bytes = settings->inventory_upload_size,
        .pending_bytes = settings->inventory_pending_size,
        .retention_us = settings->inventory_retention,
        .upload_us = settings->inventory_upload_time,
    };
    ret->logs_retention_us = settings->logs_retention;
}

struct pki_lives limits_of_pki(const struct settings *settings)
{
    return (struct pki_lives){
        .agent_us = settings->identity_agent_life,
        .operator_us = settings->identity_operator_life,
        .grace_us = settings->identity_grace,
    };
}

struct audit_limits limits_of_audit(const struct settings *settings)
{
    return (struct audit_limits){
        .hot_us = settings->audit_hot,
        .cold_us = settings->audit_cold,
        .hot_entries = settings->audit_hot_entries,
        .notes_per_minute = (uint32_t) settings->audit_notes_per_minute,
    };
}

struct rpc_accept_limits limits_of_accept(const struct settings *settings)
{
    return (struct rpc_accept_limits){
        .max_connections = (uint32_t) settings->listen_max_connections,
        .max_handshakes = (uint32_t) settings->listen_max_handshakes,
        .handshake_timeout_us = settings->listen_handshake_timeout,
    };
}

void limits_of_proxies(const struct settings *settings, struct peer_nets *ret)
{
    const struct conf_list *proxies = &settings->listen_trusted_proxies;

    ret->n = 0;
    /* settings_load() checked them, and how many they are. */
    for (size_t i = 0; i < proxies->n_items && ret->n < PEER_MAX_NETS; i++)
        if (peer_net_parse(proxies->items[i], &ret->nets[ret->n]) == 0)
            ret->n++;
}

void limits_of_web(const struct settings *settings, struct web_limits *ret)
{
    *ret = (struct web_limits){
        .max_connections = (uint32_t) settings->web_max_connections,
        .max_series = (uint32_t) settings->metrics_max_series,
        .request_timeout_us = settings->web_request_timeout,
        .idle_timeout_us = settings->web_idle_timeout,
        .write_timeout_us = settings->web_write_timeout,
        .is_public = settings->metrics_public,
    };
    limits_of_proxies(settings, &ret->proxies);
}

struct store_object_limits limits_of_objects(const struct settings *settings)
{
    return (struct store_object_limits){
        .max_bytes = settings->uploads_max_size,
        .agent_bytes = settings->uploads_agent_size,
        .agent_count = settings->uploads_agent_count,
        .total_bytes = settings->uploads_total_size,
        .retention_us = settings->uploads_retention,
        .retention_bytes = settings->uploads_retention_size,
        .expire_us = settings->uploads_expire,
    };
}

struct uploads_limits limits_of_uploads(const struct settings *settings)
{
    return (struct uploads_limits){
        .max_open = (uint32_t) settings->uploads_max_open,
        .agent_open = (uint32_t) settings->uploads_agent_open,
    };
}
