/* SPDX-License-Identifier: Apache-2.0 */

/* What is asked for, who may have it, and what is said to those who may not. */

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/text.h"
#include "common/json/json.h"
#include "common/log/log.h"
#include "server/web/inside.h"

/* ---- jobs ---- */

int web_job_new(struct web_job **ret, struct web *web)
{
    struct web_job *job = calloc(1, sizeof(*job));

    if (!job)
        return fault(-ENOMEM, "no memory for an answer");
    job->web = web;
    job->status = 200;
    job->max_series = web->loop.limits.max_series;
    job->content_type = "application/json";
    atomic_init(&job->is_cancelled, false);
    *ret = job;
    return 0;
}

struct web_job *web_job_free(struct web_job *job)
{
    if (!job)
        return NULL;
    ensure(!job->is_away);
    if (job->free_state)
        job->free_state(job->state);
    buf_deinit(&job->body);
    free(job);
    return NULL;
}

void web_job_fail(struct web_job *job, unsigned status, const char *reason, const char *fmt, ...)
{
    struct json_writer writer;
    char message[512];
    va_list args;

    va_start(args, fmt);
    (void) vsnprintf(message, sizeof(message), fmt, args);
    va_end(args);
    job->status = status;
    job->content_type = "application/json";
    job->is_last = true;
    buf_clear(&job->body);
    json_begin(&writer, &job->body, false);
    json_open_object(&writer);
    json_put_u64(&writer, "code", status);
    json_put_text(&writer, "reason", reason);
    json_put_text(&writer, "message", message);
    json_close_object(&writer);
    buf_append_text(&job->body, "\n");
}

/* ---- who may ---- */

/* The one table from why not to what a client sees. */
static const struct refusal {
    unsigned status;
    const char *reason, *message;
} no_certificate = { 401, "CERTIFICATE_MISSING",
                     "this needs a client certificate of a viewer, operator or admin (sentinel-hub "
                     "issue operator NAME --role viewer --out DIR), or the hub's setting "
                     "metrics.public" },
  unknown = { 401, "CERTIFICATE_UNKNOWN",
              "the registry does not know this certificate; use one that this hub issued" },
  revoked = { 401, "CERTIFICATE_REVOKED",
              "this certificate was revoked; ask an operator to readmit" },
  superseded = { 401, "CERTIFICATE_SUPERSEDED",
                 "this certificate was replaced by a newer one; use that" },
  expired = { 401, "CERTIFICATE_EXPIRED", "this certificate has expired; renew it" },
  no_token = { 401, "TOKEN_UNKNOWN",
               "there is no such bearer token; make one with: sentinelctl bearers create" },
  token_revoked = { 401, "TOKEN_REVOKED", "this bearer token was revoked; make another one" },
  token_expired = { 401, "TOKEN_EXPIRED", "this bearer token has expired; make another one" },
  not_signed = { 401, "SIGNATURE_REFUSED", "" /* pki says why */ },
  no_bearer = { 401, "TOKEN_MISSING",
                "this is for a bearer token: authorization: Bearer ID.SECRET" },
  role_missing = { 403, "ROLE_MISSING",
                   "this identity may not read metrics; use one with the role viewer, operator or "
                   "admin" };

static bool may_view(enum pki_role role)
{
    return role == PKI_ROLE_VIEWER || role == PKI_ROLE_OPERATOR || role == PKI_ROLE_ADMIN;
}

static const struct refusal *of_certificate(int r, const struct pki_identity *identity)
{
    switch ((enum pki_outcome) r) {
    case PKI_OK:
        return may_view(identity->role) ? NULL : &role_missing;
    case PKI_EXPIRED:
        return &expired;
    case PKI_NOT_ACTIVE:
        return identity->state == PKI_SUPERSEDED ? &superseded : &revoked;
    case PKI_UNKNOWN:
    case PKI_EXISTS:
    case PKI_BAD_NAME:
    case PKI_ABSENT:
    case PKI_BAD:
    case PKI_FORKED:
    case PKI_REFUSED:
    case PKI_CLONED:
    case PKI_FULL:
    default:
        return &unknown;
    }
}

static const struct refusal *of_bearer(int r, const struct pki_identity *identity)
{
    switch (r) {
    case PKI_OK:
        return may_view(identity->role) ? NULL : &role_missing;
    case PKI_EXPIRED:
        return &token_expired;
    case PKI_NOT_ACTIVE:
        return &token_revoked;
    case PKI_REFUSED:
        return &not_signed;
    default:
        return &no_token;
    }
}

/* A bearer token, where one is sent; else the certificate. NULL: he may. Faults are in ret_r. */
static const struct refusal *who(struct web *web,
                                 const struct http_head *head,
                                 struct span leaf,
                                 const char *peer,
                                 struct web_job *job,
                                 struct tls_why *ret_why,
                                 int *ret_r)
{
    const bool is_bearer = http_header_get(head, "authorization") != NULL;
    struct pki_identity identity = { 0 };
    int r;

    if (!web->options.pki || (web->loop.limits.is_public && !is_bearer))
        return NULL;
    if (is_bearer)
        r = web_identify_bearer(web, head, peer, &identity, ret_why);
    else if (leaf.len == 0)
        return &no_certificate;
    else
        r = pki_identify(web->options.pki, leaf, clock_wall(), &identity);
    if (r < 0) {
        *ret_r = r;
        return NULL;
    }
    if (r == 0 && is_bearer) {
        (void) snprintf(job->bearer, sizeof(job->bearer), "%.15s", identity.serial);
        (void) snprintf(job->actor, sizeof(job->actor), "bearer/%s", identity.name);
    }
    (void) snprintf(job->peer, sizeof(job->peer), "%s", peer);
    return is_bearer ? of_bearer(r, &identity) : of_certificate(r, &identity);
}

/* ---- what there is ---- */

static void answer_health(struct web_job *job)
{
    buf_append_text(&job->body, "{\"state\":\"ALIVE\"}\n");
    job->is_last = true;
}

static const char *state_name(enum web_state state)
{
    switch (state) {
    case WEB_SERVING:
        return "SERVING";
    case WEB_FULL:
        return "FULL";
    case WEB_DRAINING:
        return "DRAINING";
    case WEB_STARTING:
        return "STARTING";
    case WEB_FAILED:
    default:
        return "FAILED";
    }
}

static void answer_ready(struct web_job *job)
{
    const enum web_state state = (enum web_state) atomic_load(&job->web->state);

    buf_printf(&job->body, "{\"state\":\"%s\"}\n", state_name(state));
    job->status = state == WEB_SERVING ? 200 : 503;
    job->retry_after_s = state == WEB_SERVING ? 0 : 10;
    job->is_last = true;
}

static void ask_for_agents(struct web_job *job)
{
    job->make = web_make_agents;
    job->free_state = web_free_agents;
}

/* With an agent it is that agent's page. */
static void ask_for_metrics(struct web_job *job)
{
    if (job->agent[0])
        ask_for_agents(job);
    else
        job->make = web_make_metrics;
}

static void ask_for_crl(struct web_job *job)
{
    job->make = web_make_crl;
}

static void ask_to_roll(struct web_job *job)
{
    if (job->bearer[0])
        job->make = web_make_roll;
    else
        web_job_fail(job, no_bearer.status, no_bearer.reason, "%s", no_bearer.message);
}

static const struct page {
    const char *path;
    bool is_for_anyone;
    bool takes_agent;                   /* ?agent=ID */
    bool is_posted;                     /* it changes something: POST alone */
    void (*begin)(struct web_job *job); /* makes it, or sets who makes it */
} pages[] = {
    { "/healthz", true, false, false, answer_health },
    { "/readyz", true, false, false, answer_ready },
    { "/metrics", false, true, false, ask_for_metrics },
    { "/metrics/agents", false, true, false, ask_for_agents },
    { "/crl", true, false, false, ask_for_crl },
    { "/bearer/roll", false, false, true, ask_to_roll },
};

static const struct page page_of_issuer = { "/crl/SHA256.crl", true, false, false, ask_for_crl };

static bool takes_method(const struct page *page, const char *method)
{
    if (page->is_posted)
        return strcmp(method, "POST") == 0;
    return strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
}

/* "/crl/" and the SHA-256 of an intermediate's certificate in hex, then ".crl". */
static bool read_issuer(struct span path, uint8_t to[static 32])
{
    static const char begin[] = "/crl/", end[] = ".crl";
    char hex[2 * 32 + 1];

    if (path.len != sizeof(begin) - 1 + sizeof(hex) - 1 + sizeof(end) - 1 ||
        memcmp(path.data, begin, sizeof(begin) - 1) != 0 ||
        memcmp(path.data + path.len - (sizeof(end) - 1), end, sizeof(end) - 1) != 0)
        return false;
    memcpy(hex, path.data + sizeof(begin) - 1, sizeof(hex) - 1);
    hex[sizeof(hex) - 1] = '\0';
    return text_to_hex(hex, to, 32) == 0;
}

static const struct page *find_page(const char *target)
{
    const struct span path = http_path_of(target);
    uint8_t issuer[32];

    if (read_issuer(path, issuer))
        return &page_of_issuer;
    for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++) {
        if (span_equal(path, span_of_text(pages[i].path)))
            return &pages[i];
    }
    return NULL;
}

/* False: the answer is an error, and made. */
static bool read_agent(struct web_job *job, const char *target)
{
    CLEANUP(buf_deinit) struct buf value = { 0 };
    int r = http_query_get(target, "agent", &value);

    if (r == HTTP_ABSENT)
        return true;
    if (r != 0 || !pki_name_is_good(buf_text(&value)) || value.len >= sizeof(job->agent)) {
        web_job_fail(
            job, 400, "BAD_AGENT",
            "agent: an agent's id is [a-z0-9][a-z0-9.-]{0,62}; sentinelctl agents list has "
            "them");
        return false;
    }
    memcpy(job->agent, buf_text(&value), value.len + 1);
    return true;
}

static void log_refused(const char *peer, const char *reason, const char *path)
{
    log_peer(LOG_WARN, "authentication_failed", LOG_S("peer", peer), LOG_S("reason", reason),
             LOG_S("method", path));
}

int web_request(struct web *web,
                const struct http_head *head,
                struct span leaf,
                const char *peer,
                struct web_job **ret)
{
    CLEANUP(web_job_freep) struct web_job *job = NULL;
    const struct page *page = find_page(head->target);
    const struct refusal *refusal = NULL;
    struct tls_why why = { "" };
    int r = web_job_new(&job, web);

    if (r == 0 && page && !page->is_for_anyone && takes_method(page, head->method))
        refusal = who(web, head, leaf, peer, job, &why, &r);
    if (refusal == &role_missing && page->is_posted && job->bearer[0])
        refusal = NULL; /* its own key, whatever else it may do */
    if (r != 0)
        return pass(r);
    if (!page) {
        web_job_fail(job, 404, "NOT_FOUND",
                     "there is no such page; there are /metrics, /metrics/agents, /healthz, "
                     "/readyz, /crl, /crl/SHA256.crl and /bearer/roll");
    } else if (!takes_method(page, head->method)) {
        job->allow = page->is_posted ? "POST" : NULL;
        web_job_fail(job, 405, "METHOD_NOT_ALLOWED", "%s takes %s", page->path,
                     page->is_posted ? "POST" : "GET and HEAD");
    } else if (refusal) {
        log_refused(peer, refusal->reason, page->path);
        web_job_fail(job, refusal->status, refusal->reason, "%s",
                     refusal->message[0] ? refusal->message : why.text);
    } else if (!page->takes_agent || read_agent(job, head->target)) {
        job->has_issuer = read_issuer(http_path_of(head->target), job->issuer);
        page->begin(job);
    }
    *ret = take(job);
    return 0;
}
