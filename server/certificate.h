#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Certificate: what the hub's listeners show, from the files to gRPC and to the web: loaded at
 * start, replaced at a reload, renewed in time. A part of the daemon (hub.c), by itself so that it
 * can be tested with a clock of the test's own.
 *
 * Thread: one, the loop's.
 */

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/rpc/rpc.h"
#include "common/tls/stream/stream.h"
#include "common/tls/tls.h"
#include "server/pki/pki.h"
#include "server/settings.h"

/*
 * Clients are checked against the roots of the authority and of every imported one
 * (pki_client_roots()); tls.client_ca takes the place of the first. A certificate of the operator's
 * (tls.certificate) that agents of the registry would refuse is refused, unless
 * tls.agents_trust_certificate says that they trust its CA otherwise.
 */

/* The zero value, with the borrowed fields filled, is ready for certificate_start(). */
struct certificate {
    const char *state; /* borrowed: the state directory */
    struct pki *pki;   /* borrowed */
    struct rpc_credentials *credentials;
    struct tls_context *context; /* the same for the web; another one after each replacement */
    wall_us begin, end;          /* of what is shown */
    bool is_behind;              /* the files are newer than what is shown: a load of them failed */
    mono_us warned;              /* us 0: never */
    mono_us tried;               /* the last renewal that failed; us 0: none */
};

/*
 * Renews what is nearly over, loads, and makes the credentials. A renewal that fails is only
 * logged: what is there may be good for weeks. Outcomes: PKI_ABSENT, PKI_BAD; ret_why has the
 * remedy.
 */
int certificate_start(struct certificate *certificate,
                      const struct settings *settings,
                      struct tls_why *ret_why) MUST_USE;

/* Shows what is in the files now. On anything but 0 what was shown stays. Outcomes: PKI_ABSENT,
 * PKI_BAD. */
int certificate_replace(struct certificate *certificate,
                        const struct settings *settings,
                        struct tls_why *ret_why) MUST_USE;

/*
 * Once a minute: renews in time, shows what was renewed, warns once an hour of an end that is near.
 * After a renewal that failed (a full disk) the next try is an hour later, as each may leave a row
 * in the registry. True: something else is shown now.
 */
bool certificate_look_after(struct certificate *certificate,
                            const struct settings *settings,
                            wall_us now,
                            mono_us mono);

/* What is trusted or signs has changed: the next look renews what is due and loads all again. */
void certificate_follow(struct certificate *certificate);

void certificate_deinit(struct certificate *certificate);
