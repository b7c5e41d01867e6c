#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the parts of pki.h share: kinds, roles, states, outcomes, an identity. A part of pki.h,
 * which others include.
 */

#include <stdbool.h>
#include <stdint.h>

#include "common/base/arena.h"
#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/span.h"
#include "common/identity/identity.h"
#include "common/tls/tls.h"

struct pki;

/* Numbers are stored: never renumber. PKI_BEARER has no certificate and no row. */
enum pki_kind { PKI_AGENT = 1, PKI_OPERATOR = 2, PKI_HUB = 3, PKI_BEARER = 4 };

/* Numbers are stored: never renumber. */
enum pki_role {
    PKI_ROLE_NONE = 0,
    PKI_ROLE_AGENT = 1,
    PKI_ROLE_VIEWER = 2,
    PKI_ROLE_OPERATOR = 3,
    PKI_ROLE_ADMIN = 4,
    PKI_ROLE_EXPORTER = 5
};

enum pki_state { PKI_ACTIVE = 1, PKI_UNCONFIRMED = 2, PKI_SUPERSEDED = 3, PKI_REVOKED = 4 };

enum pki_outcome {
    PKI_OK = 0,
    PKI_EXISTS,     /* init: there is a CA already; issue: the output directory holds an identity */
    PKI_BAD_NAME,   /* ret_why has the rule */
    PKI_ABSENT,     /* a file that is needed is not there; ret_why names it */
    PKI_BAD,        /* a file is unfit (permissions, form); ret_why has the remedy */
    PKI_UNKNOWN,    /* no such certificate in the registry */
    PKI_NOT_ACTIVE, /* known, but superseded or revoked: see the identity */
    PKI_EXPIRED,    /* known and active, but past its end */
    PKI_FORKED,     /* known, but its lineage is used by two machines: stopped until readmitted */
    PKI_REFUSED,    /* a rule; a pki_refusal or ret_why says which */
    PKI_CLONED,     /* another machine with the same identity */
    PKI_FULL,       /* the database has no room: nothing was done */
};

struct pki_identity {
    enum pki_kind kind;
    enum pki_role role;
    enum pki_state state;
    char name[64]; /* agent id or operator name */
    char serial[65];
    uint8_t sha256[32];
    wall_us not_before, not_after;
    uint64_t generation; /* of the registry when this was read */
};
