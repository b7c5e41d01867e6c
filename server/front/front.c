/* SPDX-License-Identifier: Apache-2.0 */
#include "server/front/front.h"

#include <errno.h>
#include <stdlib.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/log/log.h"
#include "server/front/inside.h"

static void open_unimplemented(struct rpc_call *call)
{
    struct front_caller caller;

    if (front_authorise(call, &caller))
        front_fail(call, FAIL_UNIMPLEMENTED, NULL, 0);
}

static void nothing_on_message(struct rpc_call *call, struct span message)
{
    (void) call;
    (void) message;
}

static void nothing_on_closed(struct rpc_call *call, bool was_cancelled)
{
    (void) call;
    (void) was_cancelled;
}

static const struct rpc_handler unimplemented_handler = {
    .on_open = open_unimplemented,
    .on_message = nothing_on_message,
    .on_closed = nothing_on_closed,
};

/* Every method that is handled. */
static const struct {
    const char *path;
    const struct rpc_handler *handler;
    front_answer_fn *answer;
    bool is_quick;
} handled[] = {
    { "/grpc.health.v1.Health/Check", &unary_handler, svc_health_check, true },
    { "/grpc.health.v1.Health/List", &unary_handler, svc_health_list, true },
    { "/grpc.health.v1.Health/Watch", &svc_health_watch, NULL, true },
    { "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", &svc_reflection, NULL, true },
    { "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", &svc_reflection, NULL,
      true },
    { "/sentinel.admin.v1.AdminService/GetStatus", &unary_handler, svc_admin_get_status, false },
    { "/sentinel.admin.v1.AdminService/SetAgentLabels", &unary_handler, svc_admin_set_agent_labels,
      false },
    { "/sentinel.query.v1.QueryService/DiffInventory", &unary_handler, svc_inventory_diff, false },
    { "/sentinel.query.v1.QueryService/FindInventory", &unary_handler, svc_inventory_find, false },
    { "/sentinel.query.v1.QueryService/DownloadUpload", &svc_query_download, NULL, false },
    { "/sentinel.query.v1.QueryService/GetAgent", &unary_handler, svc_query_get_agent, false },
    { "/sentinel.query.v1.QueryService/GetInventory", &unary_handler, svc_inventory_get, false },
    { "/sentinel.query.v1.QueryService/ListAgents", &unary_handler, svc_query_list_agents, false },
    { "/sentinel.query.v1.QueryService/ListInventoryHistory", &unary_handler, svc_inventory_history,
      false },
    { "/sentinel.query.v1.QueryService/ListMetrics", &unary_handler, svc_query_list_metrics,
      false },
    { "/sentinel.query.v1.QueryService/ListUploads", &unary_handler, svc_query_list_uploads,
      false },
    { "/sentinel.query.v1.QueryService/QueryMetrics", &unary_handler, svc_query_metrics, false },
    { "/sentinel.query.v1.QueryService/SearchLogs", &svc_query_search_logs, NULL, false },
    { "/sentinel.query.v1.QueryService/TailLogs", &svc_query_tail_logs, NULL, false },
    { "/sentinel.query.v1.QueryService/TopMetrics", &unary_handler, svc_query_top_metrics, false },
    { "/sentinel.telemetry.v1.TelemetryService/StreamFileContent", &svc_uploads, NULL, false },
    { "/sentinel.telemetry.v1.TelemetryService/StreamLogs", &svc_telemetry_logs, NULL, false },
    { "/sentinel.telemetry.v1.TelemetryService/StreamMetrics", &svc_telemetry_metrics, NULL,
      false },
    { "/sentinel.telemetry.v1.TelemetryService/UploadBulkData", &svc_uploads, NULL, false },
    { "/sentinel.telemetry.v1.TelemetryService/UploadInventory", &svc_inventory_upload, NULL,
      false },
};

/* Who may see the descriptors is a setting. */
static enum wire_role role_of(const struct front_options *options, const struct wire_method *method)
{
    if (options->reflection_for_all && strncmp(method->service, "grpc.reflection.", 16) == 0)
        return WIRE_ROLE_ANYONE;
    return method->role;
}

static void bind_methods(struct front *front)
{
    for (size_t i = 0; i < wire_n_methods; i++) {
        front->methods[i] = (struct front_method){
            .wire = &wire_methods[i],
            .handler = &unimplemented_handler,
            .role = role_of(&front->options, &wire_methods[i]),
        };
    }
    for (size_t i = 0; i < sizeof(handled) / sizeof(handled[0]); i++) {
        const struct wire_method *wire = wire_find_method(handled[i].path);
        struct front_method *method;

        ensure(wire != NULL);
        method = &front->methods[wire - wire_methods];
        method->handler = handled[i].handler;
        method->answer = handled[i].answer;
        method->is_quick = handled[i].is_quick;
        method->is_handled = true;
    }
}

int front_new(struct front **ret, const struct front_options *options)
{
    struct front *front = calloc(1, sizeof(*front));

    ensure(options->is_insecure == (options->pki == NULL));
    if (!front)
        return fault(-ENOMEM, "no memory for the front");
    front->options = *options;
    front->methods = calloc(wire_n_methods, sizeof(*front->methods));
    if (!front->methods) {
        free(front);
        return fault(-ENOMEM, "no memory for the method table");
    }
    bind_methods(front);
    atomic_init(&front->state, FRONT_STARTING);
    for (size_t i = 0; i < FRONT_MAX_WORKERS; i++)
        arena_init(&front->workers[i].arena, 0);
    pthread_mutex_init(&front->watchers.lock, NULL);
    pthread_mutex_init(&front->streams.lock, NULL);
    pthread_mutex_init(&front->uploads.lock, NULL);
    pthread_mutex_init(&front->serials.lock, NULL);
    list_init(&front->watchers.calls);
    list_init(&front->streams.calls);
    list_init(&front->uploads.calls);
    list_init(&front->serials.calls);
    pthread_mutex_init(&front->inventories.lock, NULL);
    list_init(&front->inventories.calls);
    *ret = front;
    return 0;
}

struct front *front_free(struct front *front)
{
    if (!front)
        return NULL;
    ensure(list_is_empty(&front->watchers.calls));
    ensure(list_is_empty(&front->streams.calls));
    ensure(list_is_empty(&front->uploads.calls));
    ensure(list_is_empty(&front->serials.calls));
    ensure(list_is_empty(&front->inventories.calls));
    ensure(atomic_load(&front->arena_used) == 0);
    for (size_t i = 0; i < FRONT_MAX_WORKERS; i++)
        arena_deinit(&front->workers[i].arena);
    pthread_mutex_destroy(&front->watchers.lock);
    pthread_mutex_destroy(&front->streams.lock);
    pthread_mutex_destroy(&front->uploads.lock);
    pthread_mutex_destroy(&front->serials.lock);
    pthread_mutex_destroy(&front->inventories.lock);
    free(front->methods);
    free(front);
    return NULL;
}

const struct rpc_handler *front_route(void *ctx, const char *path, const void **ret_method)
{
    struct front *front = ctx;
    const struct wire_method *wire = wire_find_method(path);
    const struct front_method *method;

    if (!wire)
        return NULL;
    method = &front->methods[wire - wire_methods];
    *ret_method = method;
    return method->handler;
}

const struct front_method *front_call_method(const struct rpc_call *call)
{
    return rpc_call_method(call);
}

bool front_handles_service(const struct front *front, const char *service)
{
    for (size_t i = 0; i < wire_n_methods; i++) {
        if (front->methods[i].is_handled && strcmp(wire_methods[i].service, service) == 0)
            return true;
    }
    return false;
}

void front_set_state(struct front *front, enum front_state state)
{
    atomic_store(&front->state, state);
    svc_health_state_changed(front);
}

void front_registry_changed(struct front *front)
{
    stream_recheck_all(front);
    svc_uploads_recheck_all(front);
    serial_recheck_all(front);
    svc_inventory_recheck_all(front, false);
}

void front_end_late(struct front *front)
{
    svc_inventory_recheck_all(front, true);
}

bool front_charge(struct front *front, uint64_t n_bytes)
{
    const uint64_t before = atomic_fetch_add(&front->arena_used, n_bytes);

    if (before + n_bytes <= front->options.arena_total_bytes)
        return true;
    atomic_fetch_sub(&front->arena_used, n_bytes);
    return false;
}

void front_discharge(struct front *front, uint64_t n_bytes)
{
    const uint64_t before = atomic_fetch_sub(&front->arena_used, n_bytes);

    ensure(before >= n_bytes);
}

/* ---- authorisation ---- */

static bool has_role(enum pki_role have, enum wire_role need)
{
    switch (need) {
    case WIRE_ROLE_ANYONE:
    case WIRE_ROLE_KNOWN:
        return true;
    case WIRE_ROLE_AGENT:
        return have == PKI_ROLE_AGENT;
    case WIRE_ROLE_VIEWER:
        return have == PKI_ROLE_VIEWER || have == PKI_ROLE_OPERATOR || have == PKI_ROLE_ADMIN;
    case WIRE_ROLE_OPERATOR:
        return have == PKI_ROLE_OPERATOR || have == PKI_ROLE_ADMIN;
    case WIRE_ROLE_ADMIN:
        return have == PKI_ROLE_ADMIN;
    case WIRE_ROLE_EXPORTER:
        return have == PKI_ROLE_EXPORTER;
    case WIRE_ROLE_NONE:
    default:
        return false;
    }
}

static enum front_failure failure_of_pki(int r, const struct pki_identity *identity)
{
    if (r < 0)
        return FAIL_FAULT;
    switch ((enum pki_outcome) r) {
    case PKI_OK:
        return FAIL_NOT;
    case PKI_EXPIRED:
        return FAIL_CERTIFICATE_EXPIRED;
    case PKI_NOT_ACTIVE:
        return identity->state == PKI_SUPERSEDED ? FAIL_CERTIFICATE_SUPERSEDED
                                                 : FAIL_CERTIFICATE_REVOKED;
    case PKI_UNKNOWN:
        return FAIL_CERTIFICATE_UNKNOWN;
    case PKI_EXISTS:
    case PKI_BAD_NAME:
    case PKI_ABSENT:
    case PKI_BAD:
    case PKI_FORKED:
    case PKI_REFUSED:
    case PKI_CLONED:
    case PKI_FULL:
    default:
        return FAIL_FAULT;
    }
}

static void caller_of_identity(struct front_caller *caller, const struct pki_identity *identity)
{
    memcpy(caller->name, identity->name, sizeof(caller->name));
    caller->role = identity->role;
    memcpy(caller->sha256, identity->sha256, sizeof(caller->sha256));
    caller->has_certificate = true;
    caller->expires = identity->not_after;
    caller->generation = identity->generation;
}

/* Plaintext on loopback: everybody is an admin, an agent says who it is. */
static enum front_failure
who_insecure(struct rpc_call *call, enum wire_role need, struct front_caller *ret)
{
    const struct span name = rpc_call_header(call, "sentinel-agent");

    ret->role = PKI_ROLE_ADMIN;
    if (need != WIRE_ROLE_AGENT)
        return need == WIRE_ROLE_NONE ? FAIL_ROLE_MISSING : FAIL_NOT;
    if (name.len == 0 || name.len >= sizeof(ret->name))
        return FAIL_NO_AGENT_NAME;
    memcpy(ret->name, name.data, name.len);
    ret->role = PKI_ROLE_AGENT;
    return pki_name_is_good(ret->name) ? FAIL_NOT : FAIL_NO_AGENT_NAME;
}

static enum front_failure who(struct front *front,
                              struct rpc_call *call,
                              enum wire_role need,
                              struct front_caller *ret,
                              int *ret_r)
{
    const struct span leaf = rpc_call_peer_certificate(call);
    struct pki_identity identity = { 0 };
    enum front_failure failure;

    if (front->options.is_insecure)
        return who_insecure(call, need, ret);
    if (leaf.len == 0)
        return need == WIRE_ROLE_ANYONE ? FAIL_NOT : FAIL_NO_CERTIFICATE;
    *ret_r = pki_identify(front->options.pki, leaf, clock_wall(), &identity);
    failure = failure_of_pki(*ret_r, &identity);
    if (failure == FAIL_NOT)
        caller_of_identity(ret, &identity);
    if (need == WIRE_ROLE_ANYONE && failure != FAIL_FAULT)
        return FAIL_NOT;
    if (failure != FAIL_NOT)
        return failure;
    return has_role(ret->role, need) ? FAIL_NOT : FAIL_ROLE_MISSING;
}

/* A stable shape, for fail2ban and its like. */
void front_log_refused(struct rpc_call *call, enum front_failure failure)
{
    log_peer(LOG_WARN, "authentication_failed", LOG_S("peer", rpc_call_peer(call)),
             LOG_S("reason", front_reason(failure)), LOG_S("method", rpc_call_path(call)));
}

bool front_authorise(struct rpc_call *call, struct front_caller *ret)
{
    struct front *front = rpc_call_ctx(call);
    enum front_failure failure;
    int r = 0;

    *ret = (struct front_caller){ .role = PKI_ROLE_NONE };
    failure = who(front, call, front_call_method(call)->role, ret, &r);
    if (failure == FAIL_NOT)
        return true;
    if (failure != FAIL_FAULT)
        front_log_refused(call, failure);
    front_fail(call, failure, NULL, r);
    return false;
}

enum front_failure
front_recheck(struct front *front, const struct front_method *method, struct front_caller *caller)
{
    struct pki_identity identity = { 0 };
    enum front_failure failure;
    int r;

    if (!caller->has_certificate)
        return FAIL_NOT;
    if (clock_wall().us >= caller->expires.us)
        return FAIL_CERTIFICATE_EXPIRED;
    if (pki_generation(front->options.pki) == caller->generation)
        return FAIL_NOT;
    r = pki_recheck(front->options.pki, caller->sha256, clock_wall(), &identity);
    failure = failure_of_pki(r, &identity);
    if (failure != FAIL_NOT)
        return failure;
    caller_of_identity(caller, &identity);
    return has_role(caller->role, method->role) ? FAIL_NOT : FAIL_ROLE_MISSING;
}
