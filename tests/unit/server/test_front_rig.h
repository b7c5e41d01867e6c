#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/* What the front's tests share: a whole hub without its daemon on 127.0.0.1, and peers of it on one
 * loop. */

#include <check.h>

#include "common/loop/loop.h"
#include "common/rpc/client/client.h"
#include "common/wire/wire.h"
#include "server/front/front.h"

#define HUB_MAX_MESSAGE 100000

struct hub {
    char state[64];
    bool is_insecure;
    struct store *store;
    struct audit *audit; /* NULL unless hub_options has it */
    struct quota *quota;
    struct pki *pki;
    struct ingest *ingest;
    struct query_pool *pool;
    struct query query;
    struct front *front;
    struct rpc_credentials *credentials;
    struct rpc_server *server;
    struct loop *loop;
    struct rpc_queue *queue;
    struct rpc_channel *nobody, *admin, *agent; /* by identity; in insecure mode only nobody */
};
extern struct hub hub;

/* What a test sets before hub_start(); 0: the rig's own. */
struct hub_options {
    uint64_t queue_bytes, arena_total_bytes;
    uint32_t send_queue_bytes;
    bool has_audit; /* and limits by rate */
    const struct rpc_handler *(*route)(void *front, const char *path, const void **ret_method);
};
extern struct hub_options hub_options;

void hub_start(void);
void hub_start_insecure(void);
void hub_stop(void);
/* Another agent's channel; freed with hub_close(). */
struct rpc_channel *hub_enrol(const char *name);
void hub_revoke(const char *name);
/* Nobody's channel whose calls carry a header. */
struct rpc_channel *hub_with_header(const char *key, const char *value);

#define hub_until(cond)                                                \
    do {                                                               \
        int64_t until_ = clock_mono().us + 20000000;                   \
        while (!(cond)) {                                              \
            ck_assert_msg(clock_mono().us < until_, "waited: " #cond); \
            ck_assert_int_ge(loop_run_once(hub.loop, 10), 0);          \
        }                                                              \
    } while (0)

/* ---- one call ---- */

struct reply {
    int code;
    char message[1024];
    struct wire_error error;
    struct arena arena;       /* error and answer */
    ProtobufCMessage *answer; /* of a unary call with code OK */
};
void reply_deinit(struct reply *reply);

/* A unary call; request NULL: none is sent, only the half-close. */
void ask(struct rpc_channel *channel,
         const char *path,
         const ProtobufCMessage *request,
         struct reply *ret);
/* Whatever bytes. */
void ask_bytes(struct rpc_channel *channel,
               const char *path,
               struct span request,
               struct reply *ret);
#define ck_reply(reply, code_, reason_)                                                  \
    do {                                                                                 \
        ck_assert_msg((reply)->code == (code_), "%s: %s", rpc_code_name((reply)->code),  \
                      (reply)->message);                                                 \
        ck_assert_str_eq((reply)->error.reason ? (reply)->error.reason : "", (reason_)); \
    } while (0)

/* ---- one stream ---- */

struct test_peer {
    struct rpc_client_call *call;
    const ProtobufCMessageDescriptor *response;
    ProtobufCMessage *received[64]; /* in reply.arena */
    unsigned n_received;
    bool is_holding; /* reads no more after the message at hand; peer_read() */
    bool is_closed;
    struct reply reply; /* when is_closed */
};
void peer_open(struct test_peer *peer, struct rpc_channel *channel, const char *path);
void peer_send(struct test_peer *peer, const ProtobufCMessage *message);
void peer_read(struct test_peer *peer);
void peer_half_close(struct test_peer *peer);
void peer_wait_closed(struct test_peer *peer);
void peer_deinit(struct test_peer *peer);
