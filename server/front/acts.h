#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Private to server/front: what is the same of all acts about identities: who does it, what came of
 * it, pages, ids as text.
 */

#include "server/front/inside.h"

struct front_act {
    struct pki_act act; /* points to the rest */
    char by[FRONT_ACTOR_BYTES], source[FRONT_SOURCE_BYTES], correlation[17];
};
/* Who does it, for the audit; a failure of the call tells the correlation too. Returns &to->act. */
const struct pki_act *front_act_of(struct unary *unary, const char *reason, struct front_act *to);
/* On record before it is done, durably: no entry, no act. For acts that are no transaction of the
 * database. Blocks. */
enum front_failure front_act_note(struct unary *unary, enum audit_event event, const char *object);
/* The act took somebody's right away: his streams end before the act is answered, so that no ack
 * follows the answer. Blocks, for a second at most. */
void front_act_cuts(struct unary *unary);
/* FAIL_NO_IDENTITIES in insecure mode. */
enum front_failure front_needs_pki(struct unary *unary);
/* The same, and FAIL_TOO_MUCH where there was no room for the answer (NULL). */
enum front_failure front_needs_pki_and(struct unary *unary, const void *answer);
/* A repeated field: `fill` makes a message of `message_size` bytes from a row of `row_size`. */
struct front_list {
    size_t row_size, message_size;
    void (*fill)(struct unary *unary, const void *row, void *message);
};
/* The messages of n rows, and *ret_n how many; NULL and 0 where there is no room. */
void *front_list_of(struct unary *unary,
                    const struct front_list *list,
                    const void *rows,
                    size_t n,
                    size_t *ret_n);
/* Of pki's outcomes for acts: `field` is what is wrong with PKI_BAD_NAME and the like. */
enum front_failure front_failure_of_act(int r,
                                        const char *field,
                                        const struct tls_why *why,
                                        struct front_detail *ret_detail);
enum front_failure front_failure_of_refusal(enum pki_refusal refusal);
/* A time or id into the answer's arena; "" where there is none. */
char *front_hex(struct unary *unary, const uint8_t *bytes, size_t len);
char *front_copy(struct unary *unary, const char *text);
/* DER into a repeated bytes field. */
void *front_ders(struct unary *unary, const struct span *ders, size_t n);
/* The enrolment string of a token, and the hub's address in it. */
enum front_failure front_enrolment_string(struct unary *unary,
                                          const struct pki_token *token,
                                          char **ret_text,
                                          char **ret_hub,
                                          char **ret_pin);
#define FRONT_PAGE 100
#define FRONT_MAX_PAGE 1000
/* How many; FAIL_BAD_QUESTION beyond FRONT_MAX_PAGE. */
enum front_failure front_page_size(struct unary *unary, uint32_t asked, uint32_t *ret);
/*
 * Page tokens: hex of (8 bytes of an HMAC over method, question and key, then the key), with the
 * key of this process. `question` is whatever the pages must have in common.
 */
char *front_token_make(struct unary *unary, struct span question, struct span behind);
/* Empty: *ret_behind is empty. */
enum front_failure front_token_read(struct unary *unary,
                                    const char *token,
                                    struct span question,
                                    struct span *ret_behind);

struct Sentinel__Query__V1__AgentIdentity;
struct Sentinel__Query__V1__AgentIdentity *svc_admin_identity(struct unary *unary,
                                                              const struct pki_agent *agent);
