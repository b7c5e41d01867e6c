#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Programs that we start. They end with us, whatever becomes of us.
 *
 * Thread: main.
 */

#include <stddef.h>
#include <sys/types.h>

#include "common/base/cleanup.h"

#define PROCESS_LOG_BYTES (64u << 20)

struct process_program {
    const char *name;     /* "sentinel-hub" */
    const char *room;     /* where it lies in the build tree, from this program's directory */
    const char *variable; /* of the environment, which beats the rest */
};

/* The variable, else beside this program in the build tree or its directory, else on PATH. Returns
 * an exit code. */
int process_find(const struct process_program *program, char *to, size_t size);

/* Output of both kinds is appended to the file. -1: it could not be started, which was said. */
pid_t process_spawn(const char *const argv[], const char *output_path);
/* Until it ends. Returns an exit code; what it printed is shown when it failed. */
int process_wait(pid_t pid, const char *const argv[], const char *output_path);
/* Both. */
int process_run(const char *const argv[], const char *output_path);
/* SIGTERM, patience, SIGKILL. */
void process_stop(pid_t pid, const char *name);
/* SIGKILL at once. */
void process_kill(pid_t pid);

void process_print_tail(const char *path);
/* 5 ms, between two looks at something. */
void process_nap(void);
