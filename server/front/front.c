/* SPDX-License-Identifier: Apache-2.0 */
#include "server/front/front.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
#define ADMIN(rpc, answer)                                                    \
    {                                                                         \
        "/sentinel.admin.v1.AdminService/" rpc, &unary_handler, answer, false \
    }
#define ENROL(rpc, answer)                                                              \
    {                                                                                   \
        "/sentinel.enrollment.v1.EnrollmentService/" rpc, &unary_handler, answer, false \
    }
    ADMIN("AddForeignCa", svc_admin_add_foreign),
    { "/sentinel.admin.v1.AdminService/Backup", &svc_admin_backup, NULL, false },
    ADMIN("ChangeAgent", svc_admin_change_agent),
    ADMIN("ChangeOperator", svc_admin_change_operator),
    ADMIN("CreateBearer", svc_admin_create_bearer),
    ADMIN("CreateToken", svc_admin_create_token),
    ADMIN("GetCaStatus", svc_admin_get_ca_status),
    ADMIN("GetStatus", svc_admin_get_status),
    ADMIN("ListAgentIdentities", svc_admin_list_agent_identities),
    ADMIN("ListBearers", svc_admin_list_bearers),
    ADMIN("ListCertificates", svc_admin_list_certificates),
    ADMIN("ListForeignCas", svc_admin_list_foreign),
    ADMIN("ListLimits", svc_admin_list_limits),
    ADMIN("ListOperators", svc_admin_list_operators),
    ADMIN("ListTokens", svc_admin_list_tokens),
    ADMIN("Reload", svc_admin_reload),
    ADMIN("RemoveForeignCa", svc_admin_remove_foreign),
    ADMIN("RenewOwnCertificate", svc_admin_renew_own),
    ADMIN("RevokeBearer", svc_admin_revoke_bearer),
    ADMIN("RevokeCertificate", svc_admin_revoke_certificate),
    ADMIN("RevokeToken", svc_admin_revoke_token),
    ADMIN("RollBearer", svc_admin_roll_bearer),
    ADMIN("RotateCa", svc_admin_rotate_ca),
    ADMIN("SetAgentLabels", svc_admin_set_agent_labels),
    ADMIN("SetLimit", svc_admin_set_limit),
    ENROL("Enroll", svc_enrollment_enroll),
    ENROL("GetTrustBundle", svc_enrollment_get_trust_bundle),
    ENROL("Renew", svc_enrollment_renew),
    { "/sentinel.enrollment.v1.EnrollmentService/RenewExpired", &svc_enrollment_renew_expired, NULL,
      false },
    { "/sentinel.query.v1.QueryService/ExportAudit", &svc_audit_export, NULL, false },
    { "/sentinel.query.v1.QueryService/QueryAudit", &unary_handler, svc_audit_query, false },
    { "/sentinel.query.v1.QueryService/VerifyAudit", &unary_handler, svc_audit_verify, false },
#undef ADMIN
#undef ENROL
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

/* By the names that the protos give to what changes nothing. */
static bool only_looks(const struct wire_method *method)
{
    return strncmp(method->name, "List", 4) == 0 || strncmp(method->name, "Get", 3) == 0;
}

static enum front_class class_of(const struct wire_method *method)
{
    static const struct {
        const char *path;
        enum front_class class;
    } classes[] = {
        { "/sentinel.telemetry.v1.TelemetryService/UploadBulkData", FRONT_UPLOAD },
        { "/sentinel.telemetry.v1.TelemetryService/StreamFileContent", FRONT_UPLOAD },
        { "/sentinel.enrollment.v1.EnrollmentService/Enroll", FRONT_ENROLMENT },
        { "/sentinel.enrollment.v1.EnrollmentService/RenewExpired", FRONT_ENROLMENT },
        { "/sentinel.enrollment.v1.EnrollmentService/Renew", FRONT_RENEWAL },
        { "/sentinel.admin.v1.AdminService/RenewOwnCertificate", FRONT_PRIVILEGED },
    };

    for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]); i++) {
        if (strcmp(method->path, classes[i].path) == 0)
            return classes[i].class;
    }
    if (strcmp(method->service, "sentinel.admin.v1.AdminService") == 0 &&
        (method->role == WIRE_ROLE_OPERATOR || method->role == WIRE_ROLE_ADMIN))
        return only_looks(method) ? FRONT_QUERY : FRONT_PRIVILEGED;
    if (strcmp(method->service, "sentinel.query.v1.QueryService") == 0)
        return FRONT_QUERY;
    return FRONT_ORDINARY;
}

static void bind_methods(struct front *front)
{
    for (size_t i = 0; i < wire_n_methods; i++) {
        front->methods[i] = (struct front_method){
            .wire = &wire_methods[i],
            .handler = &unimplemented_handler,
            .role = role_of(&front->options, &wire_methods[i]),
            .class = class_of(&wire_methods[i]),
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
    pthread_cond_init(&front->streams.checked, NULL);
    pthread_mutex_init(&front->uploads.lock, NULL);
    pthread_mutex_init(&front->serials.lock, NULL);
    list_init(&front->watchers.calls);
    list_init(&front->streams.calls);
    list_init(&front->uploads.calls);
    list_init(&front->serials.calls);
    pthread_mutex_init(&front->inventories.lock, NULL);
    list_init(&front->inventories.calls);
    pthread_mutex_init(&front->watched.lock, NULL);
    list_init(&front->watched.calls);
    pthread_mutex_init(&front->address.lock, NULL);
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
    ensure(list_is_empty(&front->watched.calls));
    ensure(atomic_load(&front->arena_used) == 0);
    for (size_t i = 0; i < FRONT_MAX_WORKERS; i++)
        logblock_room_free(front->workers[i].room);
    for (size_t i = 0; i < FRONT_MAX_WORKERS; i++)
        arena_deinit(&front->workers[i].arena);
    pthread_mutex_destroy(&front->watchers.lock);
    pthread_cond_destroy(&front->streams.checked);
    pthread_mutex_destroy(&front->streams.lock);
    pthread_mutex_destroy(&front->uploads.lock);
    pthread_mutex_destroy(&front->serials.lock);
    pthread_mutex_destroy(&front->inventories.lock);
    pthread_mutex_destroy(&front->watched.lock);
    pthread_mutex_destroy(&front->address.lock);
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
    svc_health_recheck_all(front);
    front_watched_recheck_all(front, false);
}

void front_set_address(struct front *front, const char *address)
{
    pthread_mutex_lock(&front->address.lock);
    (void) snprintf(front->address.text, sizeof(front->address.text), "%s", address);
    pthread_mutex_unlock(&front->address.lock);
}

void front_end_late(struct front *front)
{
    svc_inventory_recheck_all(front, true);
    front_watched_recheck_all(front, true);
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
