#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The parts of the fleet: fleet.c has the threads, agent.c one agent's stream. Private to bench.
 *
 * An agent keeps no batch: each is made again from its sequence when it has to be sent again.
 */

#include <pthread.h>

#include "bench/bench.h"
#include "bench/lines_block.h"
#include "common/loop/loop.h"
#include "common/rpc/client/client.h"

struct part;

enum agent_state {
    AGENT_IDLE,    /* wants to connect */
    AGENT_OPENING, /* hello is on its way */
    AGENT_STREAMING,
    AGENT_WAITING, /* for the next attempt */
    AGENT_DONE,
};

struct bench_agent {
    struct part *part;
    uint32_t index;
    enum agent_state state;
    struct rpc_channel *channel;
    struct rpc_client_call *call;
    struct load_message message;
    uint8_t spool[16];
    uint64_t acknowledged, sent; /* sequences, over all streams */
    uint64_t cursor;             /* sent last in this stream */
    uint64_t n_streams;
    int64_t *sent_us;        /* ring by sequence: when it was sent first */
    uint32_t *body_bytes;    /* ring too: of the logs in it */
    uint32_t window;         /* ours and the hub's */
    unsigned n_failed;       /* attempts since the last welcome */
    struct loop_timer timer; /* ends a wait or a throttle */
    bool has_declared;       /* in this stream */
    bool sends_blocks;       /* in this stream: of lines */
    bool is_full;            /* the call's queue: on_writable comes */
    bool is_throttled;
    bool is_half_closed;
    bool is_used_up;                  /* no synthetic time is left */
    struct {                          /* any thread; see struct fleet_end */
        _Atomic(int64_t) expected_us; /* 0: not */
        _Atomic(int64_t) at_us, last_ack_us;
        _Atomic(uint64_t) n_late_acks, late_batches, forbidden_batches;
    } end;
};

/* One thread. */
struct part {
    struct fleet *fleet;
    pthread_t thread;
    bool is_running;
    uint32_t n_agents;
    struct bench_agent *agents;
    struct loop *loop;
    struct rpc_queue *queue;
    struct loop_timer tick;
    struct arena arena;       /* of the message at hand */
    struct buf out;           /* a hello, or a batch with declarations */
    struct lines_block block; /* the batch of lines at hand */
    struct rand *rand;
    uint32_t n_opening;
    uint32_t next;         /* whose turn it is to send, when paced */
    int64_t paced_from_us; /* 0: not yet */
    uint64_t n_paced;      /* batches since then */
    struct fleet_counters counters;
};

struct fleet {
    struct fleet_options options;
    const struct load *load;
    uint32_t n_parts;
    struct part *parts;
    struct {
        _Atomic(int) stage;
        atomic_bool is_measuring;
        pthread_mutex_t lock;
        int exit_code;     /* by lock */
        char failure[512]; /* by lock */
    } shared;
};

void fleet_fail(struct fleet *fleet, int exit_code, const char *fmt, ...) PRINTF_LIKE(3, 4);
enum fleet_stage fleet_stage(const struct fleet *fleet);

static inline void count(_Atomic(uint64_t) *to, uint64_t n)
{
    atomic_store_explicit(to, atomic_load_explicit(to, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

/* ---- agent.c ---- */
enum agent_outcome {
    AGENT_OK = 0,
    AGENT_NO_IDENTITY, /* fleet_fail() was told why */
};
/* Outcomes: AGENT_NO_IDENTITY. */
int agent_init(struct bench_agent *agent, struct part *part, uint32_t index) MUST_USE;
void agent_deinit(struct bench_agent *agent);
void agent_connect(struct bench_agent *agent);
/* Sends what it may: again what is unacknowledged, new batches when the load is not paced, the end
 * when it is time. */
void agent_advance(struct bench_agent *agent);
/* One new batch, when there is room. */
bool agent_send_new(struct bench_agent *agent);
/* Nothing more comes from it. */
void agent_finish(struct bench_agent *agent);
