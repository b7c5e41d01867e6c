#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Lines: log lines as programs write them, from a seed. What repeats in them repeats as it does in
 * life: a few paths, users and messages make most lines, numbers and ids never come again.
 */

#include <stddef.h>
#include <stdint.h>

#include "common/base/rand.h"

enum lines_style {
    LINES_NGINX,   /* access log, combined, with times and request ids */
    LINES_SSHD,    /* as journald and syslog have it */
    LINES_JAVA,    /* with stack traces of many lines in one record */
    LINES_JSON,    /* one object a line, with trace ids */
    LINES_CLUSTER, /* klog: controllers, pods, volumes */
    LINES_STYLES,
};

#define LINES_MAX 8192 /* bytes of one */

struct lines {
    enum lines_style style;
    struct rand rand;
    int64_t time_us;
    uint64_t number; /* of lines so far */
};

struct lines_line {
    char text[LINES_MAX];
    size_t len;
    int64_t time_us;
    uint32_t severity; /* OpenTelemetry's */
};

void lines_init(struct lines *lines, enum lines_style style, uint64_t seed, int64_t start_us);
void lines_next(struct lines *lines, struct lines_line *ret);
const char *lines_style_name(enum lines_style style);
