#pragma once
/* SPDX-License-Identifier: Apache-2.0 */

/* Logs of a directory of the test's own, into a spool; what came out of it as text. */

#include <check.h>

#include "agent/logs/inside.h"

struct logs_rig {
    char root[64]; /* with a directory "log" */
    char spool_directory[80];
    struct loop *loop;
    struct spool *spool;
    struct spool_reader *reader;
    struct logs *logs;
    struct logs_settings settings; /* of the next logs_rig_open() or logs_rig_configure() */
    const char *files[8];
    struct buf bodies; /* "one|two|", of all that was read from the spool */
    struct buf sources;
    uint64_t last; /* sequence that was read */
};
/* Settings: nothing followed, no grace, redaction as it is by default. */
void logs_rig_start(struct logs_rig *rig);
void logs_rig_stop(struct logs_rig *rig);
/* Adds a pattern, below the root. */
void logs_rig_follow(struct logs_rig *rig, const char *pattern);
void logs_rig_open(struct logs_rig *rig);
void logs_rig_close(struct logs_rig *rig);

/* "app.log" of the directory; appends. */
void logs_rig_write(const struct logs_rig *rig, const char *name, const char *text);
void logs_rig_rename(const struct logs_rig *rig, const char *from, const char *to);
/* A copy with truncation. */
void logs_rig_copy(const struct logs_rig *rig, const char *from, const char *to);
void logs_rig_truncate(const struct logs_rig *rig, const char *name);
const char *logs_rig_path(const struct logs_rig *rig, const char *name);

/* Looks for files and reads them. */
void logs_rig_look(struct logs_rig *rig);
/* Takes what is in the spool; all bodies so far. `acknowledge`: it is forgotten there. */
const char *logs_rig_bodies(struct logs_rig *rig, bool acknowledge);
/* How often a text is in the bodies. */
size_t logs_rig_count(struct logs_rig *rig, const char *text);
