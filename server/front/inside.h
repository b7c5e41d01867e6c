#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Private to server/front: what its files share.
 *
 * A method that is handled has a row in front.c's table: its path and either a handler of its own
 * (streams) or a function that answers (unary.c). To add one: write it in its svc_ file, add the
 * row.
 *
 * Locks: the locks of front->watchers, streams, uploads, serials and inventories stand alone;
 * posting to a call is all that is done under them.
 */

#include <pthread.h>
#include <stdatomic.h>

#include "common/base/arena.h"
#include "common/base/list.h"
#include "common/wire/wire.h"
#include "server/front/failures.h"
#include "server/front/front.h"

#define FRONT_MAX_WORKERS 64
#define FRONT_ANSWER_BYTES \
    (64u << 20) /* what one answer may take while it is made; on reader threads only */

struct front_caller {
    char name[64];      /* empty: nobody known */
    enum pki_kind kind; /* 0: nobody, or insecure mode */
    enum pki_role role;
    uint8_t sha256[32];
    bool is_known;       /* by the registry: a certificate, or a bearer token */
    wall_us expires;     /* either */
    uint64_t generation; /* of the registry when the role was read */
};

/* What a call is counted as. */
enum front_class {
    FRONT_ORDINARY = 0,
    FRONT_PRIVILEGED, /* what AdminService changes for operators and admins: by user */
    FRONT_UPLOAD,     /* by agent */
    FRONT_RENEWAL,    /* by agent */
    FRONT_ENROLMENT,  /* by address */
    FRONT_QUERY,      /* what only looks: by user, its time on readers */
};

struct unary;
/* On a reader (or on the call's thread where the row says so): sets unary->answer, or returns the
 * failure and fills unary->detail. */
typedef enum front_failure front_answer_fn(struct unary *unary);

struct front_method {
    const struct wire_method *wire;
    const struct rpc_handler *handler;
    front_answer_fn *answer; /* unary methods */
    bool is_quick;           /* answered on the call's thread */
    bool is_handled;
    enum wire_role role;
    enum front_class class;
};

struct front_worker {
    struct arena arena;         /* for the message at hand of any call of this worker */
    struct logblock_room *room; /* for blocks of logs; NULL until the first one */
    uint8_t apart[128 - sizeof(struct arena) - sizeof(void *)]; /* no cache line is two workers' */
};

/* Calls of which the registry is asked again when it changes, whatever they are. */
struct front_watched {
    struct list in_calls; /* under the lock of the list that it is in */
    struct rpc_call *call;
    struct rpc_post post;
    struct front_caller caller;
    mono_us due;    /* ends with FAIL_REQUEST_LATE then; INT64_MAX: never */
    bool is_posted; /* under the lock */
    bool is_closed; /* the call's thread's */
    void (*ended)(struct front_watched *watched); /* the owner's memory can go */
};

#define FRONT_SEEN 16384 /* a power of two: newcomers push others out, who are noted once more */

struct front {
    struct front_options options;
    _Atomic uint64_t seen[FRONT_SEEN]; /* who came over which connection, hashed */
    struct {
        pthread_mutex_t lock;
        char text[300];
    } address;
    struct front_method *methods; /* beside wire_methods */
    _Atomic uint64_t arena_used;
    _Atomic int state;
    struct front_worker workers[FRONT_MAX_WORKERS];
    struct {
        pthread_mutex_t lock;
        struct list calls;
        uint32_t n_checks;      /* of certificates: posted and not over */
        pthread_cond_t checked; /* none is */
    } streams;
    struct {
        pthread_mutex_t lock;
        struct list calls;
    } watchers, uploads, serials, inventories, watched;
};

/* ---- authorise.c ---- */

/* Who calls, and whether it may; false: the call is finished. */
bool front_authorise(struct rpc_call *call, struct front_caller *ret);
/* Again, for each message of a long stream: the registry changes, certificates expire. FAIL_NOT or
 * why not. */
enum front_failure
front_recheck(struct front *front, const struct front_method *method, struct front_caller *caller);
/* In the log, in a stable shape, and in the audit. */
void front_log_refused(struct rpc_call *call,
                       const struct front_caller *caller,
                       enum front_failure failure);
#define FRONT_ACTOR_BYTES 80
/* "operator/anna", "agent/web-1", "bearer/ci", "local/insecure"; empty: nobody. Returns `to`. */
const char *front_actor(const struct front_caller *caller, char to[static FRONT_ACTOR_BYTES]);
#define FRONT_SOURCE_BYTES 64
/* The address of a peer without its port. Returns `to`. */
const char *front_source(const char *peer, char to[static FRONT_SOURCE_BYTES]);
/* Nothing is written where there is no audit. Does not block. */
void front_note(struct front *front, const struct audit_entry *entry);
/* FAIL_NOT, or FAIL_RATE_LIMITED with `detail`. n 0 asks whether anything is left. */
enum front_failure front_take(struct front *front,
                              enum quota_limit limit,
                              const char *who,
                              uint32_t n,
                              struct front_detail *detail);
/* What a piece of work on a reader took, where that counts. */
void front_charge_time(struct front *front,
                       const struct front_method *method,
                       const struct front_caller *caller,
                       mono_us begun);
/* A wrong token or secret from this address. */
void front_charge_failure(struct front *front, const char *peer);

/*
 * Long calls without a list of their own (reflection, RenewExpired): they are looked at again when
 * the registry changes. Begin in on_open; end in on_closed: `ended` runs at once, or when a post
 * that is under way has run.
 */
void front_watch_begin(struct front *front, struct front_watched *watched);
void front_watch_end(struct front_watched *watched);
/* `late_only`: those alone that are past their time. */
void front_watched_recheck_all(struct front *front, bool late_only);

/* ---- front.c ---- */

const char *front_reason(enum front_failure failure);
bool front_handles_service(const struct front *front, const char *service);
const struct front_method *front_call_method(const struct rpc_call *call);

/* Of all unpack arenas together; false: the budget is spent. */
bool front_charge(struct front *front, uint64_t n_bytes);
void front_discharge(struct front *front, uint64_t n_bytes);

/* ---- unary.c ---- */

struct unary {
    struct front *front;
    const struct front_method *method;
    struct front_caller caller;
    const char *peer; /* the call's: lives as long as the answer is made */
    const ProtobufCMessage *request;
    struct arena arena;             /* the answer's */
    const ProtobufCMessage *answer; /* in the arena */
    struct front_detail detail;
    bool is_short; /* the arena was: the answer is not whole */
    wall_us now;
};
extern const struct rpc_handler unary_handler;
/*
 * A request into unary->request; method and front are set. The arena is the caller's, and so is to
 * give back what was charged, whatever comes of it.
 */
enum front_failure unary_decode(struct unary *unary,
                                struct span message,
                                struct arena *arena,
                                uint64_t *ret_charged,
                                int *ret_r);

/* ---- convert.c: into messages that lie in the answer's arena; NULL (and is_short) where it has no
 * room ---- */

struct Google__Protobuf__Timestamp;
struct Google__Protobuf__Duration;

void *unary_alloc(struct unary *unary, size_t n_items, size_t item_bytes) MUST_USE;
/* NULL for 0: never. */
struct Google__Protobuf__Timestamp *unary_time(struct unary *unary, wall_us time);
struct Google__Protobuf__Duration *unary_duration(struct unary *unary, int64_t us);
/* Entries of a map<string, string> field, whatever message it is in; texts are borrowed. */
void *unary_entries(struct unary *unary,
                    const ProtobufCMessageDescriptor *type,
                    const struct store_attribute *rows,
                    size_t n_rows);
struct store_attribute *
unary_attributes(struct unary *unary, const void *entries, size_t n_entries);
/* Messages do not say const, but packing only reads. NULL becomes "". */
char *front_borrow(const char *text);
void front_set_time(struct Google__Protobuf__Timestamp *to, int64_t us);
/* false: out of range or malformed. */
bool front_time_of(const struct Google__Protobuf__Timestamp *from, int64_t *ret_us);
bool front_duration_of(const struct Google__Protobuf__Duration *from, int64_t *ret_us);
/* Whether the caller is gone, on a reader; `ctx` is the unary. */
bool unary_is_unwanted(void *ctx);
/* FAIL_NOT, or FAIL_TOO_MUCH when the answer is not whole. */
enum front_failure unary_finish(struct unary *unary, const ProtobufCMessage *answer);

/* ---- svc_*.c ---- */

extern const struct rpc_handler svc_telemetry_metrics, svc_telemetry_logs;
extern const struct rpc_handler svc_uploads; /* UploadBulkData and StreamFileContent */
extern const struct rpc_handler svc_query_download;
extern const struct rpc_handler svc_inventory_upload;
extern const struct rpc_handler svc_query_download, svc_query_search_logs, svc_query_tail_logs;
extern const struct rpc_handler svc_health_watch;
extern const struct rpc_handler svc_reflection;
extern const struct rpc_handler svc_enrollment_renew_expired;
extern const struct rpc_handler svc_admin_backup, svc_audit_export;
front_answer_fn svc_health_check, svc_health_list;
front_answer_fn svc_admin_get_status, svc_admin_set_agent_labels, svc_admin_reload;
front_answer_fn svc_admin_create_token, svc_admin_list_tokens, svc_admin_revoke_token;
front_answer_fn svc_admin_create_bearer, svc_admin_list_bearers, svc_admin_revoke_bearer,
    svc_admin_roll_bearer;
front_answer_fn svc_admin_list_certificates, svc_admin_revoke_certificate, svc_admin_renew_own;
front_answer_fn svc_admin_list_agent_identities, svc_admin_change_agent;
front_answer_fn svc_admin_list_operators, svc_admin_change_operator;
front_answer_fn svc_admin_get_ca_status, svc_admin_rotate_ca;
front_answer_fn svc_admin_add_foreign, svc_admin_list_foreign, svc_admin_remove_foreign;
front_answer_fn svc_admin_list_limits, svc_admin_set_limit;
front_answer_fn svc_enrollment_get_trust_bundle, svc_enrollment_enroll, svc_enrollment_renew;
front_answer_fn svc_audit_query, svc_audit_verify;
front_answer_fn svc_query_list_agents, svc_query_get_agent, svc_query_list_metrics,
    svc_query_metrics, svc_query_top_metrics, svc_query_list_uploads;
front_answer_fn svc_inventory_get, svc_inventory_diff, svc_inventory_find, svc_inventory_history;

struct Sentinel__Query__V1__InventoryRevision;
/* Of a revision; NULL: no room. */
struct Sentinel__Query__V1__InventoryRevision *
svc_inventory_revision(struct unary *unary, const struct query_revision *from);
/* A time given as a Timestamp or as text; nothing: *to_us stays. */
enum front_failure front_when(struct unary *unary,
                              const char *field,
                              const struct Google__Protobuf__Timestamp *time,
                              const char *text,
                              int64_t *to_us);

struct Sentinel__Query__V1__AgentSelector;
/* NULL: every agent. Borrows from the message. */
struct query_selector front_selector(struct unary *unary,
                                     const struct Sentinel__Query__V1__AgentSelector *from);
struct Sentinel__Query__V1__TimeRange;
/* The ends that are given, each as a Timestamp or as text; the others stay. */
enum front_failure front_range(struct unary *unary,
                               const struct Sentinel__Query__V1__TimeRange *range,
                               int64_t *from_us,
                               int64_t *to_us);

/* Nothing given: the last hour; only an end: the hour before it. Then from is before to. */
enum front_failure front_range_or_hour(struct unary *unary,
                                       const struct Sentinel__Query__V1__TimeRange *range,
                                       int64_t *ret_from_us,
                                       int64_t *ret_to_us);

void svc_health_state_changed(struct front *front);
void svc_health_recheck_all(struct front *front);
/* stream.c */
void stream_recheck_all(struct front *front);
/* Until what it posted has run: streams that may not go on have ended, and nothing of them is
 * acknowledged from here on. Blocks, no longer than `patience_us` (whole seconds). Returns false
 * when that was not enough. Thread: none of the calls'. */
bool stream_wait_checked(struct front *front, int64_t patience_us);
void svc_uploads_recheck_all(struct front *front);
/* serial.c */
void serial_recheck_all(struct front *front);
/* Of uploads of inventories, with `late_only` those alone that take too long. */
void svc_inventory_recheck_all(struct front *front, bool late_only);
