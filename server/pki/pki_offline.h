#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Certificates without a hub: a directory with a hierarchy of its own, for people who make and hand
 * out identities by hand. A part of pki.h, which others include.
 *
 *   DIR/ca-cert.pem ca-key.pem agents-ca-* hubs-ca-*   as in <state>/certs
 *   DIR/authority               organisation, trust domain, names: for what is made later
 *   DIR/hub/                    server-cert.pem server-key.pem ca-cert.pem
 *   DIR/agents/ID/              an identity directory
 *   DIR/operators/NAME/         the same
 *   DIR/backup/2026-11-28T.../  what a rotation took the place of, with the same paths
 *
 * No registry knows these: a hub takes them by a rule for a foreign CA (agents-ca-cert.pem).
 *
 * Thread: any; one process at a time in a directory.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/clock.h"
#include "common/tls/tls.h"

/* Called for each file or identity that was made, with its path. */
typedef void pki_offline_fn(void *ctx, const char *path);

struct pki_offline {
    const char *directory;
    const char *ca_key_file; /* as in struct pki_options */
    const char *organisation, *trust_domain;
    const char *const *names;     /* of the hub; NULL at the end; NULL: no hub */
    const char *const *agents;    /* ids; NULL at the end; NULL: none */
    const char *const *operators; /* names; the same */
    int64_t agent_life_us, operator_life_us, hub_life_us; /* 0: 365 days; nobody renews these */
    pki_offline_fn *made;
    void *ctx;
};
/*
 * Makes what is not there; what is there is never overwritten. A run that was cut is run again.
 * Outcomes: PKI_BAD_NAME, PKI_ABSENT (a CA's key that was taken away), PKI_BAD.
 */
int pki_offline_generate(const struct pki_offline *wish, struct tls_why *ret_why) MUST_USE;
/*
 * Makes anew, with new keys, every certificate of hub, agents and operators that ends within the
 * grace; what was there is in the backup first.
 *
 *   ret_n   how many.
 *
 * Outcomes: PKI_ABSENT, PKI_BAD.
 */
int pki_offline_rotate(const struct pki_offline *wish,
                       int64_t grace_us,
                       uint32_t *ret_n,
                       struct tls_why *ret_why) MUST_USE;
