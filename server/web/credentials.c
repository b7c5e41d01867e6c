/* SPDX-License-Identifier: Apache-2.0 */

/* Callers with a bearer token, their signing keys, and the list of revoked certificates. */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/base/fault.h"
#include "common/base/text.h"
#include "common/crypto/crypto.h"
#include "common/json/json.h"
#include "server/web/inside.h"

int web_identify_bearer(struct web *web,
                        const struct http_head *head,
                        const char *peer,
                        struct pki_identity *ret,
                        struct tls_why *ret_why)
{
    const char *authorization = http_header_get(head, "authorization");
    const char *signature = http_header_get(head, "x-signature");
    const struct pki_bearer_call call = {
        .authorization = span_of_text(authorization ? authorization : ""),
        .signature = span_of_text(signature ? signature : ""),
        .method = head->method,
        .path = head->target,
        .has_body = true, /* no page takes one: it is the empty one that is signed */
        .peer = peer,
    };

    return pass(pki_bearer_identify(web->options.pki, &call, clock_wall(), ret, ret_why));
}

/* On a reader: it may sign, and reads the registry. */
int web_make_crl(struct web_job *job)
{
    int r;

    job->is_last = true;
    if (!job->web->options.pki) {
        web_job_fail(job, 404, "NOT_FOUND", "without TLS there are no certificates to revoke");
        return 0;
    }
    r = pki_crl(job->web->options.pki, job->has_issuer ? job->issuer : NULL, clock_wall(),
                &job->body);
    if (r == PKI_UNKNOWN) {
        web_job_fail(job, 404, "NOT_FOUND",
                     "no intermediate of this hub's authority has this certificate; /crl is the "
                     "list of that which signs now");
        return 0;
    }
    if (r == PKI_ABSENT) {
        web_job_fail(job, 503, "CA_KEY_MISSING",
                     "the key that signs the list is not there; the hub's log says where it "
                     "belongs");
        job->retry_after_s = 60;
        return 0;
    }
    job->content_type = "application/pkix-crl";
    job->cache_control = "public, max-age=60";
    return pass(r);
}

/* On a reader: another signing key for the token that calls. */
int web_make_roll(struct web_job *job)
{
    const struct pki_act act = { .by = job->actor, .source = job->peer };
    char hex[2 * 32 + 1], until[TEXT_TIME_BYTES];
    struct pki_bearer rolled = { .id = "" };
    struct json_writer writer;
    struct tls_why why = { "" };

    job->is_last = true;
    int r = pki_bearer_roll(job->web->options.pki, job->bearer, &act, &rolled, &why);
    switch (r) {
    case PKI_OK:
        break;
    case PKI_UNKNOWN:
        web_job_fail(job, 403, "NOT_SIGNING",
                     "this token's requests are not signed: it has no signing key to roll");
        return 0;
    case PKI_FULL:
        web_job_fail(job, 507, "STORE_FULL", "the hub's disk is full; the key is as it was");
        return 0;
    default:
        return r < 0 ? pass(r) : fault(-EKEYREJECTED, "a signing key cannot be made: %s", why.text);
    }
    json_begin(&writer, &job->body, false);
    json_open_object(&writer);
    json_put_text(&writer, "id", rolled.id);
    json_put_text(&writer, "hmac_key", text_of_hex(rolled.hmac_key, sizeof(rolled.hmac_key), hex));
    json_put_text(&writer, "old_counts_until",
                  text_of_time((wall_us){ clock_wall().us + PKI_BEARER_OVERLAP_US }, until));
    json_close_object(&writer);
    buf_append_text(&job->body, "\n");
    crypto_wipe(hex, sizeof(hex));
    crypto_wipe(&rolled, sizeof(rolled));
    return 0;
}
