#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The C++ side of rpc, as C sees it: core's log has no C interface.
 *
 * Private to common/rpc.
 */

#ifdef __cplusplus
extern "C" {
#endif

/* The severities of absl's log. */
enum rpc_shim_severity { RPC_SHIM_INFO, RPC_SHIM_WARNING, RPC_SHIM_ERROR, RPC_SHIM_FATAL };

typedef void
rpc_shim_log_fn(enum rpc_shim_severity severity, const char *file, int line, const char *text);

/* Hands each line of core's log to `fn`, from any thread, and keeps it off stderr. Again after the
 * first: only sets `fn`. */
void rpc_shim_catch_log(rpc_shim_log_fn *fn);

/*
 * Before core is initialised: completions of a callback queue run where they happen instead of
 * taking a detour over a thread pool, which costs three quarters of a client's throughput.
 */
void rpc_shim_tune(void);

#ifdef __cplusplus
}
#endif
