/* SPDX-License-Identifier: Apache-2.0 */

/* grpc.health.v1.Health: for anyone, on the call's thread. */

#include "grpc/health/v1/health.pb-c.h"

#include <errno.h>
#include <stdlib.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "server/front/inside.h"

#define SERVING GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING
#define NOT_SERVING GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING
#define SERVICE_UNKNOWN GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVICE_UNKNOWN

#define WATCH_SERVICE_BYTES 255

typedef Grpc__Health__V1__HealthCheckResponse__ServingStatus serving_status;

/* "" is the hub as a whole: with a full disk it still answers questions, but takes no telemetry. */
static serving_status status_of(const struct front *front, const char *service)
{
    const enum front_state state = (enum front_state) atomic_load(&front->state);

    if (service[0] != '\0' && !front_handles_service(front, service))
        return SERVICE_UNKNOWN;
    if (state == FRONT_SERVING)
        return SERVING;
    if (state == FRONT_FULL)
        return strncmp(service, "sentinel.telemetry.", 19) == 0 ? NOT_SERVING : SERVING;
    return NOT_SERVING;
}

enum front_failure svc_health_check(struct unary *unary)
{
    const Grpc__Health__V1__HealthCheckRequest *request = (const void *) unary->request;
    Grpc__Health__V1__HealthCheckResponse *answer = unary_alloc(unary, 1, sizeof(*answer));

    if (!answer)
        return unary_finish(unary, NULL);
    grpc__health__v1__health_check_response__init(answer);
    answer->status = status_of(unary->front, request->service);
    if (answer->status == SERVICE_UNKNOWN) {
        front_describe(&unary->detail, "service", "%.128s is not served here; List has what is",
                       request->service);
        return FAIL_NOT_FOUND;
    }
    return unary_finish(unary, &answer->base);
}

static Grpc__Health__V1__HealthListResponse__StatusesEntry *list_entry(struct unary *unary,
                                                                       const char *service)
{
    Grpc__Health__V1__HealthListResponse__StatusesEntry *entry =
        unary_alloc(unary, 1, sizeof(*entry));
    Grpc__Health__V1__HealthCheckResponse *value = unary_alloc(unary, 1, sizeof(*value));

    if (!entry || !value)
        return NULL;
    grpc__health__v1__health_list_response__statuses_entry__init(entry);
    grpc__health__v1__health_check_response__init(value);
    entry->key = front_borrow(service);
    entry->value = value;
    value->status = status_of(unary->front, service);
    return entry;
}

enum front_failure svc_health_list(struct unary *unary)
{
    Grpc__Health__V1__HealthListResponse *answer = unary_alloc(unary, 1, sizeof(*answer));
    Grpc__Health__V1__HealthListResponse__StatusesEntry **entries =
        unary_alloc(unary, wire_n_methods + 1, sizeof(*entries));
    const char *last = "";
    size_t n = 0;

    if (!answer || !entries)
        return unary_finish(unary, NULL);
    grpc__health__v1__health_list_response__init(answer);
    entries[n++] = list_entry(unary, "");
    for (size_t i = 0; i < wire_n_methods; i++) {
        const char *service = wire_methods[i].service;

        /* The table is sorted: a service's methods stand together. */
        if (strcmp(service, last) == 0 || !front_handles_service(unary->front, service))
            continue;
        last = service;
        entries[n++] = list_entry(unary, service);
    }
    answer->statuses = entries;
    answer->n_statuses = n;
    return unary_finish(unary, &answer->base);
}

/* ---- Watch ---- */

struct watch {
    struct front *front;
    struct rpc_call *call;
    struct front_caller caller;
    struct list in_watchers;
    struct rpc_post post;
    char *service;       /* NULL until asked */
    serving_status told; /* UNKNOWN: nothing yet */
    bool is_closed;
    bool is_posted; /* under watchers.lock */
};

static void watch_free(struct watch *watch)
{
    free(watch->service);
    free(watch);
}

static void tell(struct watch *watch)
{
    Grpc__Health__V1__HealthCheckResponse answer;
    struct buf packed = { 0 };

    if (!watch->service)
        return;
    grpc__health__v1__health_check_response__init(&answer);
    answer.status = status_of(watch->front, watch->service);
    /* A full queue: on_writable tells what holds then. */
    if (answer.status != watch->told && wire_pack(&answer.base, &packed) == 0 &&
        rpc_call_send(watch->call, buf_span(&packed)) == RPC_DONE)
        watch->told = answer.status;
    buf_deinit(&packed);
}

/* Anyone may watch, but who came with an identity that counts no more is thrown out of here too. */
static bool is_allowed(struct watch *watch)
{
    const enum front_failure failure =
        front_recheck(watch->front, front_call_method(watch->call), &watch->caller);

    if (failure == FAIL_NOT)
        return true;
    if (failure != FAIL_FAULT)
        front_log_refused(watch->call, &watch->caller, failure);
    front_fail(watch->call, failure, NULL, 0);
    return false;
}

static void on_changed(struct rpc_post *post)
{
    struct watch *watch = container_of(post, struct watch, post);
    struct rpc_call *call = watch->call;

    pthread_mutex_lock(&watch->front->watchers.lock);
    ensure(watch->is_posted);
    watch->is_posted = false;
    pthread_mutex_unlock(&watch->front->watchers.lock);
    if (watch->is_closed)
        watch_free(watch);
    else if (rpc_call_is_open(call) && is_allowed(watch))
        tell(watch);
    (void) rpc_call_unref(call);
}

static void post_all(struct front *front, bool only_known)
{
    pthread_mutex_lock(&front->watchers.lock);
    for (const struct list *pos = front->watchers.calls.next; pos != &front->watchers.calls;
         pos = pos->next) {
        struct watch *watch = container_of(pos, struct watch, in_watchers);

        if (watch->is_posted || (only_known && !watch->caller.is_known))
            continue;
        watch->is_posted = true;
        (void) rpc_call_ref(watch->call);
        rpc_call_post(watch->call, &watch->post);
    }
    pthread_mutex_unlock(&front->watchers.lock);
}

void svc_health_state_changed(struct front *front)
{
    post_all(front, false);
}

void svc_health_recheck_all(struct front *front)
{
    post_all(front, true);
}

static void on_open(struct rpc_call *call)
{
    struct front *front = rpc_call_ctx(call);
    struct front_caller caller;
    struct watch *watch;

    if (!front_authorise(call, &caller))
        return;
    watch = calloc(1, sizeof(*watch));
    if (!watch) {
        front_fail(call, FAIL_FAULT, NULL, fault(-ENOMEM, "no memory for a call"));
        return;
    }
    watch->front = front;
    watch->call = call;
    watch->caller = caller;
    watch->post.fn = on_changed;
    rpc_call_set_state(call, watch);
    pthread_mutex_lock(&front->watchers.lock);
    list_append(&front->watchers.calls, &watch->in_watchers);
    pthread_mutex_unlock(&front->watchers.lock);
    rpc_call_read(call);
}

static void on_message(struct rpc_call *call, struct span message)
{
    struct watch *watch = rpc_call_state(call);
    Grpc__Health__V1__HealthCheckRequest *request;
    struct wire_problem problem = { 0 };
    struct front_detail detail = { 0 };
    ProtobufCMessage *unpacked = NULL;
    struct arena arena;
    int r;

    if (watch->service)
        return;
    arena_init(&arena, wire_arena_limit(0));
    r = wire_unpack(&grpc__health__v1__health_check_request__descriptor, message, &arena, &unpacked,
                    &problem);
    if (r != WIRE_OK) {
        front_fail(call, front_failure_of_wire(r, &problem, &detail), &detail, r);
    } else {
        request = (Grpc__Health__V1__HealthCheckRequest *) unpacked;
        /* No service has a longer name: it stays unknown, and anyone may call. */
        watch->service = strndup(request->service, WATCH_SERVICE_BYTES);
        if (watch->service)
            tell(watch);
        else
            front_fail(call, FAIL_FAULT, NULL, fault(-ENOMEM, "no memory for a service's name"));
    }
    arena_deinit(&arena);
}

static void on_half_close(struct rpc_call *call)
{
    const struct watch *watch = rpc_call_state(call);

    if (watch && !watch->service)
        front_fail(call, FAIL_NO_REQUEST, NULL, 0);
}

static void on_writable(struct rpc_call *call)
{
    tell(rpc_call_state(call));
}

static void on_drain(struct rpc_call *call)
{
    front_fail(call, FAIL_STOPPING, NULL, 0);
}

static void on_closed(struct rpc_call *call, bool was_cancelled)
{
    struct watch *watch = rpc_call_state(call);
    bool is_posted;

    (void) was_cancelled;
    if (!watch)
        return;
    pthread_mutex_lock(&watch->front->watchers.lock);
    list_remove(&watch->in_watchers);
    is_posted = watch->is_posted;
    pthread_mutex_unlock(&watch->front->watchers.lock);
    watch->is_closed = true;
    if (!is_posted)
        watch_free(watch);
}

const struct rpc_handler svc_health_watch = {
    .on_open = on_open,
    .on_message = on_message,
    .on_half_close = on_half_close,
    .on_writable = on_writable,
    .on_drain = on_drain,
    .on_closed = on_closed,
};
