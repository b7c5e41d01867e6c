/* Targets: pki_row_decode, pki_agent_row_decode, pki_token_row_decode, pki_revoked_parse.
 * SPDX-License-Identifier: Apache-2.0 */

/*
 * The first byte says what the rest is. What is read is written again, and then reads the same once
 * more; bytes behind what is known are not kept.
 */

#include <stdlib.h>
#include <string.h>

#include "common/base/ensure.h"
#include "server/pki/agents/revoked.h"
#include "server/pki/enrol/tokens.h"
#include "server/pki/registry/registry.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static const uint8_t digest[32] = { 1, 2, 3 };

static void read_certificate(struct span value)
{
    struct buf first = { 0 }, second = { 0 };
    struct pki_row row, again;

    if (pki_row_decode(span_of(digest, 32), value, &row) != 0)
        return;
    pki_row_encode(&row, &first);
    ensure(pki_row_decode(span_of(digest, 32), buf_span(&first), &again) == 0);
    ensure(strcmp(row.identity.name, again.identity.name) == 0);
    ensure(span_equal(row.chain, again.chain));
    pki_row_encode(&again, &second);
    ensure(span_equal(buf_span(&first), buf_span(&second)));
    buf_deinit(&first);
    buf_deinit(&second);
}

static void read_agent(struct span value)
{
    const struct span name = span_of_text("web-1");
    struct buf first = { 0 }, second = { 0 };
    struct pki_agent_row row, again;

    if (pki_agent_row_decode(name, value, &row) != 0)
        return;
    ensure(row.agent.n_addresses <= PKI_MAX_ADDRESSES);
    pki_agent_row_encode(&row, &first);
    ensure(pki_agent_row_decode(name, buf_span(&first), &again) == 0);
    pki_agent_row_encode(&again, &second);
    ensure(span_equal(buf_span(&first), buf_span(&second)));
    buf_deinit(&first);
    buf_deinit(&second);
}

static void read_token(struct span value)
{
    const struct span id = span_of_text("abcdefgh");
    struct pki_token_row *rows = calloc(2, sizeof(*rows)); /* large for a stack */
    struct buf first = { 0 }, second = { 0 };

    ensure(rows);
    if (pki_token_row_decode(id, value, &rows[0]) == 0) {
        ensure(rows[0].n_labels <= PKI_MAX_LABELS);
        pki_token_row_encode(&rows[0], &first);
        ensure(pki_token_row_decode(id, buf_span(&first), &rows[1]) == 0);
        pki_token_row_encode(&rows[1], &second);
        ensure(span_equal(buf_span(&first), buf_span(&second)));
    }
    buf_deinit(&first);
    buf_deinit(&second);
    free(rows);
}

static void read_line(struct span text)
{
    struct pki_revoked_line line, again;
    struct buf first = { 0 };

    if (!pki_revoked_parse(text, &line))
        return;
    pki_revoked_print(&line, &first);
    ensure(first.len > 0 && first.len <= PKI_REVOKED_LINE_BYTES);
    ensure(first.data[first.len - 1] == '\n');
    ensure(pki_revoked_parse(span_of(first.data, first.len - 1), &again));
    ensure(again.kind == line.kind && again.at.us == line.at.us);
    buf_deinit(&first);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static void (*const readers[])(struct span) = { read_certificate, read_agent, read_token,
                                                    read_line };
    uint8_t *copy;

    if (len < 1)
        return 0;
    copy = malloc(len); /* exactly: a byte too far is seen */
    ensure(copy);
    memcpy(copy, data + 1, len - 1);
    readers[data[0] % 4](span_of(copy, len - 1));
    free(copy);
    return 0;
}
