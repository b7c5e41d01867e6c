/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Who calls, and whether it may: identities, roles, quotas; what is said of it in log and audit.
 *
 * Somebody is known by the certificate of the connection, else by a bearer token in the request's
 * headers. Secrets can be guessed: an address whose guesses were wrong too often is refused before
 * its next one is looked at.
 */

#include <stdio.h>
#include <string.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/text.h"
#include "common/crypto/crypto.h"
#include "common/log/log.h"
#include "server/front/inside.h"

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

/* ---- words for log and audit ---- */

const char *front_actor(const struct front_caller *caller, char to[static FRONT_ACTOR_BYTES])
{
    const char *kind = "local";

    if (caller->kind == PKI_BEARER)
        kind = "bearer";
    else if (caller->role == PKI_ROLE_AGENT)
        kind = "agent";
    else if (caller->kind == PKI_HUB)
        kind = "hub";
    else if (caller->is_known)
        kind = "operator";
    else if (caller->role == PKI_ROLE_NONE)
        kind = "";
    (void) snprintf(to, FRONT_ACTOR_BYTES, "%s%s%s", kind, *kind ? "/" : "",
                    caller->name[0] || !*kind ? caller->name : "insecure");
    return to;
}

const char *front_source(const char *peer, char to[static FRONT_SOURCE_BYTES])
{
    const char *colon = strrchr(peer, ':');
    size_t len = colon ? (size_t) (colon - peer) : strlen(peer);

    if (len >= 2 && peer[0] == '[' && peer[len - 1] == ']') {
        peer++;
        len -= 2;
    }
    (void) snprintf(to, FRONT_SOURCE_BYTES, "%.*s", (int) (len < 63 ? len : 63), peer);
    return to;
}

void front_note(struct front *front, const struct audit_entry *entry)
{
    if (front->options.audit)
        audit_note(front->options.audit, entry);
}

static enum audit_event event_of(enum front_failure failure)
{
    switch ((int) failure) {
    case FAIL_ROLE_MISSING:
    case FAIL_ADDRESS_NOT_ALLOWED:
        return AUDIT_DENIED;
    case FAIL_RATE_LIMITED:
        return AUDIT_LIMIT_HIT;
    case FAIL_LINEAGE_FORKED:
        return AUDIT_LINEAGE_FORKED;
    case FAIL_CLONED:
        return AUDIT_CLONED;
    default:
        return AUDIT_AUTH_FAILED;
    }
}

static void note(struct rpc_call *call,
                 const struct front_caller *caller,
                 enum audit_event event,
                 const char *reason)
{
    char actor[FRONT_ACTOR_BYTES], source[FRONT_SOURCE_BYTES], sha256[65], object[80] = "";
    const struct audit_field fields[] = {
        { "method", rpc_call_path(call) },
        { "reason", reason },
    };

    if (caller->is_known)
        (void) snprintf(object, sizeof(object), "%s/%s",
                        caller->kind == PKI_BEARER ? "bearer" : "certificate",
                        text_of_hex(caller->sha256, sizeof(caller->sha256), sha256));
    front_note(rpc_call_ctx(call), &(struct audit_entry){
                                       .event = event,
                                       .actor = front_actor(caller, actor),
                                       .source = front_source(rpc_call_peer(call), source),
                                       .object = object,
                                       .fields = fields,
                                       .n_fields = reason ? 2 : 1,
                                   });
}

/* A stable shape, for fail2ban and its like. */
void front_log_refused(struct rpc_call *call,
                       const struct front_caller *caller,
                       enum front_failure failure)
{
    log_peer(LOG_WARN, "authentication_failed", LOG_S("peer", rpc_call_peer(call)),
             LOG_S("reason", front_reason(failure)), LOG_S("method", rpc_call_path(call)));
    note(call, caller, event_of(failure), front_reason(failure));
}

/* FNV-1a, 64 bits, over whom and from where. */
static uint64_t hash_of_visit(const struct front_caller *caller, const char *peer)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    for (size_t i = 0; i < sizeof(caller->sha256); i++)
        hash = (hash ^ caller->sha256[i]) * UINT64_C(0x100000001b3);
    for (; *peer; peer++)
        hash = (hash ^ (uint8_t) *peer) * UINT64_C(0x100000001b3);
    return hash | 1; /* 0 is an empty place */
}

/* The first call of a certificate or token on a connection. */
static void
note_visit(struct front *front, struct rpc_call *call, const struct front_caller *caller)
{
    uint64_t hash;

    if (!front->options.audit || !caller->is_known)
        return;
    hash = hash_of_visit(caller, rpc_call_peer(call));
    if (atomic_exchange_explicit(&front->seen[hash / 2 % FRONT_SEEN], hash, memory_order_relaxed) !=
        hash)
        note(call, caller, AUDIT_AUTH_OK, NULL);
}

/* ---- quotas ---- */

enum front_failure front_take(struct front *front,
                              enum quota_limit limit,
                              const char *who,
                              uint32_t n,
                              struct front_detail *detail)
{
    int64_t retry_us = 0;

    if (!front->options.quota ||
        quota_take(front->options.quota, limit, who, n, clock_mono(), &retry_us) != QUOTA_EXCEEDED)
        return FAIL_NOT;
    detail->quota = quota_limit_name(limit);
    detail->retry_ms = (uint64_t) (retry_us + 999) / 1000;
    front_describe(detail, NULL, "the limit %s; `sentinelctl limits list` has them",
                   quota_limit_name(limit));
    return FAIL_RATE_LIMITED;
}

void front_charge_failure(struct front *front, const char *peer)
{
    if (front->options.quota)
        quota_charge(front->options.quota, QUOTA_FAILURES, peer, clock_mono());
}

static const char *user_of(const struct front_caller *caller)
{
    return caller->name[0] ? caller->name : "insecure";
}

void front_charge_time(struct front *front,
                       const struct front_method *method,
                       const struct front_caller *caller,
                       mono_us begun)
{
    const mono_us now = clock_mono();

    if (front->options.quota && method->class == FRONT_QUERY)
        quota_charge_time(front->options.quota, user_of(caller), now.us - begun.us, now);
}

static enum front_failure admit(struct front *front,
                                struct rpc_call *call,
                                const struct front_caller *caller,
                                struct front_detail *detail)
{
    const char *user = user_of(caller);

    switch (front_call_method(call)->class) {
    case FRONT_PRIVILEGED:
        return front_take(front, QUOTA_PRIVILEGED, user, 1, detail);
    case FRONT_UPLOAD:
        return front_take(front, QUOTA_UPLOADS, user, 1, detail);
    case FRONT_RENEWAL:
        return front_take(front, QUOTA_RENEWALS, user, 1, detail);
    case FRONT_ENROLMENT:
        return front_take(front, QUOTA_ENROLMENTS, rpc_call_peer(call), 1, detail);
    case FRONT_QUERY:
        return front_take(front, QUOTA_QUERY_COST, user, 0, detail);
    case FRONT_ORDINARY:
    default:
        return FAIL_NOT;
    }
}

/* ---- who ---- */

static enum front_failure failure_of_pki(int r, const struct pki_identity *identity)
{
    if (r < 0)
        return FAIL_FAULT;
    switch (r) {
    case PKI_OK:
        return FAIL_NOT;
    case PKI_EXPIRED:
        return FAIL_CERTIFICATE_EXPIRED;
    case PKI_NOT_ACTIVE:
        return identity->state == PKI_SUPERSEDED ? FAIL_CERTIFICATE_SUPERSEDED
                                                 : FAIL_CERTIFICATE_REVOKED;
    case PKI_UNKNOWN:
        return FAIL_CERTIFICATE_UNKNOWN;
    case PKI_FORKED:
        return FAIL_LINEAGE_FORKED;
    default:
        return FAIL_FAULT;
    }
}

static enum front_failure failure_of_bearer(int r)
{
    if (r < 0)
        return FAIL_FAULT;
    switch (r) {
    case PKI_OK:
        return FAIL_NOT;
    case PKI_EXPIRED:
        return FAIL_BEARER_EXPIRED;
    case PKI_NOT_ACTIVE:
        return FAIL_BEARER_REVOKED;
    case PKI_UNKNOWN:
        return FAIL_BEARER_UNKNOWN;
    case PKI_REFUSED:
        return FAIL_SIGNATURE_INVALID;
    default:
        return FAIL_FAULT;
    }
}

static void caller_of_identity(struct front_caller *caller, const struct pki_identity *identity)
{
    if (strcmp(caller->name, identity->name) != 0) /* a reader may be looking at it */
        memcpy(caller->name, identity->name, sizeof(caller->name));
    caller->kind = identity->kind;
    caller->role = identity->role;
    memcpy(caller->sha256, identity->sha256, sizeof(caller->sha256));
    caller->is_known = true;
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

/* What a call of who() found out. */
struct finding {
    struct front_caller caller;
    struct front_detail detail;
    int r;
};

static enum front_failure
who_by_bearer(struct front *front, struct rpc_call *call, struct finding *ret)
{
    struct pki_bearer_call asked = {
        .authorization = rpc_call_header(call, "authorization"),
        .signature = rpc_call_header(call, "x-signature"),
        .method = "POST",
        .path = rpc_call_path(call),
        .peer = rpc_call_peer(call),
    };
    uint8_t empty[CRYPTO_SHA256_BYTES];
    struct pki_identity identity = { 0 };
    struct tls_why why = { "" };
    enum front_failure failure =
        front_take(front, QUOTA_FAILURES, rpc_call_peer(call), 0, &ret->detail);

    if (failure != FAIL_NOT)
        return failure;
    crypto_sha256(span_of("", 0), empty);
    asked.body_sha256 = span_of(empty, sizeof(empty));
    ret->r = pki_bearer_identify(front->options.pki, &asked, clock_wall(), &identity, &why);
    failure = failure_of_bearer(ret->r);
    if (failure == FAIL_NOT)
        caller_of_identity(&ret->caller, &identity);
    else if (failure != FAIL_FAULT && why.text[0])
        front_describe(&ret->detail, NULL, "%s", why.text);
    if (failure == FAIL_BEARER_UNKNOWN || failure == FAIL_SIGNATURE_INVALID)
        front_charge_failure(front, rpc_call_peer(call));
    return failure;
}

static enum front_failure
who_by_certificate(struct front *front, struct span leaf, struct finding *ret)
{
    struct pki_identity identity = { 0 };
    enum front_failure failure;

    ret->r = pki_identify(front->options.pki, leaf, clock_wall(), &identity);
    failure = failure_of_pki(ret->r, &identity);
    if (failure == FAIL_NOT || failure == FAIL_CERTIFICATE_EXPIRED)
        caller_of_identity(&ret->caller, &identity);
    if (failure == FAIL_NOT && identity.state == PKI_UNCONFIRMED)
        pki_presented(front->options.pki, &identity);
    return failure;
}

static enum front_failure
who(struct front *front, struct rpc_call *call, enum wire_role need, struct finding *ret)
{
    const struct span leaf = rpc_call_peer_certificate(call);
    enum front_failure failure;

    if (front->options.is_insecure)
        return who_insecure(call, need, &ret->caller);
    if (leaf.len > 0)
        failure = who_by_certificate(front, leaf, ret);
    else if (need != WIRE_ROLE_ANYONE && rpc_call_header(call, "authorization").len > 0)
        failure = who_by_bearer(front, call, ret);
    else
        return need == WIRE_ROLE_ANYONE ? FAIL_NOT : FAIL_NO_CERTIFICATE;
    if (need == WIRE_ROLE_ANYONE && failure != FAIL_FAULT) {
        /* Nobody in particular, then: an expired certificate may ask for a new one. */
        if (failure != FAIL_NOT)
            ret->caller = (struct front_caller){ .role = PKI_ROLE_NONE };
        return FAIL_NOT;
    }
    if (failure != FAIL_NOT)
        return failure;
    return has_role(ret->caller.role, need) ? FAIL_NOT : FAIL_ROLE_MISSING;
}

bool front_authorise(struct rpc_call *call, struct front_caller *ret)
{
    struct front *front = rpc_call_ctx(call);
    struct finding found = { .caller = { .role = PKI_ROLE_NONE } };
    enum front_failure failure;

    failure = who(front, call, front_call_method(call)->role, &found);
    if (failure == FAIL_NOT)
        failure = admit(front, call, &found.caller, &found.detail);
    if (failure == FAIL_NOT) {
        note_visit(front, call, &found.caller);
        *ret = found.caller;
        return true;
    }
    if (failure != FAIL_FAULT)
        front_log_refused(call, &found.caller, failure);
    front_fail(call, failure, &found.detail, found.r);
    return false;
}

enum front_failure
front_recheck(struct front *front, const struct front_method *method, struct front_caller *caller)
{
    struct pki_identity identity = { 0 };
    enum front_failure failure;
    int r;

    if (!caller->is_known)
        return FAIL_NOT;
    if (clock_wall().us >= caller->expires.us)
        return caller->kind == PKI_BEARER ? FAIL_BEARER_EXPIRED : FAIL_CERTIFICATE_EXPIRED;
    if (pki_generation(front->options.pki) == caller->generation)
        return FAIL_NOT;
    r = pki_recheck(front->options.pki, caller->sha256, clock_wall(), &identity);
    failure = caller->kind == PKI_BEARER ? failure_of_bearer(r) : failure_of_pki(r, &identity);
    if (failure != FAIL_NOT)
        return failure;
    caller_of_identity(caller, &identity);
    return has_role(caller->role, method->role) ? FAIL_NOT : FAIL_ROLE_MISSING;
}

/* ---- long calls without a list of their own ---- */

static void on_check(struct rpc_post *post)
{
    struct front_watched *watched = container_of(post, struct front_watched, post);
    struct rpc_call *call = watched->call;
    struct front *front = rpc_call_ctx(call);
    enum front_failure failure;

    pthread_mutex_lock(&front->watched.lock);
    ensure(watched->is_posted);
    watched->is_posted = false;
    pthread_mutex_unlock(&front->watched.lock);
    if (watched->is_closed) {
        watched->ended(watched);
    } else if (rpc_call_is_open(call)) {
        failure = front_recheck(front, front_call_method(call), &watched->caller);
        if (failure != FAIL_NOT && failure != FAIL_FAULT)
            front_log_refused(call, &watched->caller, failure);
        else if (failure == FAIL_NOT && clock_mono().us >= watched->due.us)
            failure = FAIL_REQUEST_LATE;
        if (failure != FAIL_NOT)
            front_fail(call, failure, NULL, 0);
    }
    (void) rpc_call_unref(call);
}

void front_watch_begin(struct front *front, struct front_watched *watched)
{
    watched->post.fn = on_check;
    pthread_mutex_lock(&front->watched.lock);
    list_append(&front->watched.calls, &watched->in_calls);
    pthread_mutex_unlock(&front->watched.lock);
}

void front_watch_end(struct front_watched *watched)
{
    struct front *front = rpc_call_ctx(watched->call);
    bool is_posted;

    pthread_mutex_lock(&front->watched.lock);
    list_remove(&watched->in_calls);
    is_posted = watched->is_posted;
    pthread_mutex_unlock(&front->watched.lock);
    watched->is_closed = true;
    if (!is_posted)
        watched->ended(watched);
}

void front_watched_recheck_all(struct front *front, bool late_only)
{
    const mono_us now = clock_mono();

    pthread_mutex_lock(&front->watched.lock);
    list_each(pos, &front->watched.calls)
    {
        struct front_watched *watched = container_of(pos, struct front_watched, in_calls);

        if (watched->is_posted || (late_only && now.us < watched->due.us) ||
            (!late_only && !watched->caller.is_known))
            continue;
        watched->is_posted = true;
        (void) rpc_call_ref(watched->call);
        rpc_call_post(watched->call, &watched->post);
    }
    pthread_mutex_unlock(&front->watched.lock);
}
