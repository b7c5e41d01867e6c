#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Authority: CA keys and what they sign, in memory and in <state>/certs. Private to server/pki.
 *
 * Thread: any.
 */

#include <limits.h>
#include <stdbool.h>

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "server/pki/pki.h"
#include "server/pki/registry/registry.h"
#include "server/pki/sealed/sealed.h"

#define PKI_PATH_BYTES PATH_MAX
#define PKI_BACKDATE_US (INT64_C(5) * 60 * 1000000) /* clocks of peers may be behind */
#define PKI_DAY_US (INT64_C(24) * 60 * 60 * 1000000)

/* Writes `directory`/`name`; false when it does not fit. */
bool pki_path(char to[static PKI_PATH_BYTES], const char *directory, const char *name);

/* One CA: root or intermediate. The zero value is empty. */
struct pki_issuer {
    struct tls_cert *cert;
    struct tls_key *key;             /* NULL: the key is elsewhere */
    const struct pki_signer *signer; /* borrowed; what signs where `key` is NULL */
    wall_us not_after;
};
void pki_issuer_deinit(struct pki_issuer *issuer);
/* What signs for it, as common/tls takes it; borrows the issuer. */
struct tls_signer pki_issuer_signer(const struct pki_issuer *issuer);
/* A new key and certificate; parent NULL: a root. */
int pki_issuer_make(struct pki_issuer *ret,
                    const struct tls_request *request,
                    const struct pki_issuer *parent) MUST_USE;
/*
 * <directory>/<name>-cert.pem and -key.pem, checked; a sealed key is opened.
 *
 *   sealing   NULL: there is none.
 *   signer    not NULL: it has the key; no file is looked for.
 *
 * Outcomes: PKI_ABSENT (ret_why says what is expected where), PKI_BAD.
 */
struct pki_issuer_place {
    const char *directory, *name;
    const struct sealed_key *sealing;
    const struct pki_signer *signer;
};
int pki_issuer_load(struct pki_issuer *ret,
                    const struct pki_issuer_place *place,
                    struct tls_why *ret_why) MUST_USE;
/* Sealed where the place has a key for it. */
int pki_issuer_save(const struct pki_issuer *issuer, const struct pki_issuer_place *place) MUST_USE;

/* A file of secrets at <directory>/<name>-key.pem, opened where it is sealed. Appended; the caller
 * wipes. Outcomes: PKI_ABSENT, PKI_BAD. */
int pki_secret_load(const struct pki_issuer_place *place,
                    struct buf *ret,
                    struct tls_why *ret_why) MUST_USE;
int pki_secret_save(const struct pki_issuer_place *place, struct span secret) MUST_USE;

/* What is asked for, checked, with what goes without saying filled in. Outcomes: PKI_BAD_NAME. */
int pki_check_init(const struct pki_init *init,
                   struct pki_authority *ret,
                   struct tls_why *ret_why) MUST_USE;
/* A root and its two intermediates. */
int pki_make_hierarchy(const struct pki_authority *authority,
                       wall_us now,
                       struct pki_issuer *root,
                       struct pki_issuer *agents,
                       struct pki_issuer *hubs) MUST_USE;

/* A leaf with its key, ready to be written. The zero value is empty. */
struct pki_leaf {
    struct buf chain_pem;
    struct buf key_pem; /* wiped */
    struct pki_row row; /* kind, role and name are the caller's to fill */
};
void pki_leaf_deinit(struct pki_leaf *leaf);
/* Cuts not_after to the issuer's. */
/* Where a certificate by this intermediate says that its list is: below the hub's own page /crl
 * that of the intermediate, so that there is one for each while two authorities sign; another URL
 * as it is. NULL: none. In `to`, or the authority's. */
#define PKI_CRL_URL_BYTES (PKI_URL_BYTES + 80)
const char *pki_crl_url(const struct pki_authority *authority,
                        const struct tls_cert *issuer,
                        char to[static PKI_CRL_URL_BYTES]);
int pki_leaf_make(struct pki_leaf *ret,
                  const struct tls_request *request,
                  const struct pki_issuer *issuer) MUST_USE;

#define PKI_HUB_LIFE_US (90 * PKI_DAY_US)
/* A hub certificate for the authority's names. */
int pki_leaf_make_hub(struct pki_leaf *ret,
                      const struct pki_authority *authority,
                      const struct pki_issuer *issuer,
                      wall_us now,
                      int64_t life_us) MUST_USE;
/* An agent's or operator's. */
int pki_leaf_make_client(struct pki_leaf *ret,
                         const struct pki_authority *authority,
                         const struct pki_issuer *issuer,
                         const struct pki_issue *issue,
                         wall_us now) MUST_USE;
/* server-key.pem and server-cert.pem, in this order. */
int pki_leaf_save_hub(const struct pki_leaf *leaf, const char *directory) MUST_USE;

/* The rules for what people type; each fills ret_why with the rule and answers PKI_BAD_NAME. */
int pki_check_name(const char *name, struct tls_why *ret_why) MUST_USE;
int pki_check_host(const char *name, struct tls_why *ret_why) MUST_USE;
int pki_check_organisation(const char *text, struct tls_why *ret_why) MUST_USE;
int pki_check_trust_domain(const char *text, struct tls_why *ret_why) MUST_USE;

/* Our outcome for what common/tls says of a file; ret_why was filled by it. */
int pki_of_tls(int r) MUST_USE;
/* The directory of keys: 0700, ours or root's. Outcomes: PKI_ABSENT, PKI_BAD. */
int pki_check_directory(const char *path, struct tls_why *ret_why) MUST_USE;
