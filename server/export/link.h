#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Link: the connection to the receiver, kept from request to request. Blocks, with a deadline.
 *
 * Private to server/export. Thread: the export's, but link_stop().
 */

#include <stdatomic.h>

#include "common/base/clock.h"
#include "common/base/span.h"
#include "common/http/http.h"
#include "common/tls/stream/stream.h"

enum link_outcome {
    LINK_OK = 0,
    LINK_FAILED,  /* no answer; link_answer.why */
    LINK_STOPPED, /* link_stop() */
};

struct link_answer {
    unsigned status;
    char retry_after[64]; /* "": there is none */
    char why[256];        /* the failure in words; of an answer, the begin of its body */
};

struct link;

/* `url` and what it points to are borrowed. */
int link_new(struct link **ret, const struct http_url *url) MUST_USE;
struct link *link_free(struct link *link);
DEFINE_CLEANUP(struct link *, link_free);

/* For the next connection; the one there is ends. NULL: plaintext. */
void link_set_context(struct link *link, struct tls_context *context);
/*
 * Sends a request's head and body, reads the answer. A connection that the receiver closed while it
 * was idle is made anew at once. Outcomes: enum link_outcome. Faults: no memory.
 */
int link_post(struct link *link,
              struct span head,
              struct span body,
              int64_t timeout_us,
              struct link_answer *ret) MUST_USE;

/* What is under way ends by then, and nothing begins. Again: another time. Thread: any. */
void link_stop(struct link *link, mono_us cut_at);
