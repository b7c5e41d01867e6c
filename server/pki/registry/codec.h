#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Bytes of the registry's rows: little-endian numbers; a text is u16 length and bytes. Private to
 * server/pki.
 *
 * A reader takes from the front. After the first thing that is not there it is bad, and hands out
 * zeros and empty texts: who reads asks once, at the end.
 *
 * Thread: any; pure.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/span.h"

void pki_put_u8(struct buf *to, uint8_t value);
void pki_put_u32(struct buf *to, uint32_t value);
void pki_put_u64(struct buf *to, uint64_t value);
void pki_put_span(struct buf *to, struct span bytes); /* at most 65,535 */
void pki_put_text(struct buf *to, const char *text);

struct pki_reader {
    struct span rest;
    bool is_bad;
};
uint8_t pki_get_u8(struct pki_reader *reader);
uint32_t pki_get_u32(struct pki_reader *reader);
uint64_t pki_get_u64(struct pki_reader *reader);
void pki_get_bytes(struct pki_reader *reader, void *to, size_t len);
struct span pki_get_span(struct pki_reader *reader); /* borrowed */
/* Bad also when it does not fit with its NUL, or has one within. */
void pki_get_text(struct pki_reader *reader, char *to, size_t size);
