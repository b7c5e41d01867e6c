#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * <state>/revoked: who was thrown out, beside the database, so that a restored backup does not
 * bring them back. Private to server/pki.
 *
 * Lines of text, appended and synced after the transaction of the act:
 *
 *   c SHA256 NOT_AFTER TIME NAME   a certificate was revoked
 *   u SHA256 TIME                  and counts again (readmitted)
 *   a NAME TIME                    an agent was revoked
 *   r NAME TIME                    and is allowed again
 *
 * Times are seconds since 1970. The last word on a certificate or a name counts, if it is younger
 * than what the database says. A line that is none (the power was cut while it was written: its act
 * was not acknowledged, or is in the database) is passed over. At an open what the database knows
 * and the file does not is added, and lines of certificates that ended long ago go when the file is
 * large.
 *
 * Thread: any.
 */

#include "server/pki/inside.h"

enum pki_revoked_kind {
    PKI_LINE_CERTIFICATE = 'c',
    PKI_LINE_COUNTS_AGAIN = 'u',
    PKI_LINE_AGENT = 'a',
    PKI_LINE_ALLOWED = 'r',
};
struct pki_revoked_line {
    enum pki_revoked_kind kind;
    uint8_t sha256[32];
    wall_us not_after, at; /* whole seconds */
    char name[64];
};
#define PKI_REVOKED_LINE_BYTES 192
/* Without the newline. false: no such line. */
bool pki_revoked_parse(struct span line, struct pki_revoked_line *ret);
/* With it. */
void pki_revoked_print(const struct pki_revoked_line *line, struct buf *to);

/* Reads the file and merges both ways. Outcomes: PKI_BAD (too large, or not ours to read; ret_why).
 */
int pki_revoked_open(struct pki *pki,
                     const char *state_directory,
                     struct tls_why *ret_why) MUST_USE;
void pki_revoked_close(struct pki *pki);

bool pki_revoked_has(struct pki_revoked *revoked, const uint8_t sha256[32]);
/* Durable when it returns. The act is in the database already: a file that cannot be written is
 * logged, and made good at the next open. */
void pki_revoked_add(struct pki *pki, const struct pki_revoked_line *lines, size_t n);
/* The same for an agent that was let in again just now. */
void pki_revoked_allow(struct pki *pki, const char *name);
