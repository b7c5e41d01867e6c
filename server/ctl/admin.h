#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the commands about identities share: questions before something is destroyed, names of
 * enums, keys and certificates.
 */

#include "sentinel/admin/v1/admin.pb-c.h"
#include "server/ctl/convert.h"
#include "server/ctl/listing.h"

#define ADMIN_PATH(rpc) "/sentinel.admin.v1.AdminService/" rpc

/* A JSON object on stdout, opened for its members. */
struct object {
    struct json_writer json;
    struct buf out;
};
void object_begin(struct object *object);
void object_end(struct object *object);

/*
 * Before something is destroyed: asks on a terminal, unless --yes was given; elsewhere it goes on,
 * or (`needs_word`) wants --yes. Returns CTL_OK to go on.
 */
int admin_confirm(struct ctl *ctl, bool needs_word, const char *fmt, ...)
    PRINTF_LIKE(3, 4) MUST_USE;

/* A word in the arena. */
char *admin_copy(struct ctl *ctl, const char *text);
/* --ttl and the like; NULL stays NULL. Returns an exit code. */
int admin_duration(struct ctl *ctl,
                   const char *flag,
                   const char *text,
                   Google__Protobuf__Duration **ret) MUST_USE;
int admin_number(const char *flag, const char *text, uint64_t max, uint64_t *ret) MUST_USE;

/* The lower-case word of an enum's value ("IDENTITY_ROLE_ADMIN" is admin), and back. */
const char *admin_word(struct ctl *ctl, const ProtobufCEnumDescriptor *type, int value);
int admin_value(struct ctl *ctl,
                const char *flag,
                const ProtobufCEnumDescriptor *type,
                const char *word,
                int *ret) MUST_USE;

/* ---- a key and what a certificate is asked for with ---- */

struct tls_key;
/* *ret_csr lies in the arena. */
int admin_make_key(struct ctl *ctl,
                   const char *name,
                   struct tls_key **ret_key,
                   ProtobufCBinaryData *ret_csr) MUST_USE;
struct admin_granted {
    const ProtobufCBinaryData *chain, *roots; /* DER */
    size_t n_chain, n_roots;
};
/* Checks that they belong together, then writes an identity directory. */
int admin_save_identity(const char *directory,
                        const struct tls_key *key,
                        const struct admin_granted *granted) MUST_USE;
