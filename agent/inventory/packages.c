/* SPDX-License-Identifier: Apache-2.0 */

/* Packages: dpkg's status file, rpm's own answer, Python's metadata in the system's places. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/inventory/lines.h"
#include "agent/inventory/table.h"

#define PATH_BYTES 1024
#define VALUE_BYTES 1024       /* of a field; what is longer is cut */
#define MAX_METADATA_LINES 400 /* the head of a METADATA file; its description comes behind */

/* ---- dpkg: deb-control(5), paragraphs of "Field: value" ---- */

enum {
    DEB_PACKAGE,
    DEB_VERSION,
    DEB_SOURCE,
    DEB_SIZE,
    DEB_ARCHITECTURE,
    DEB_STATUS,
    DEB_MAINTAINER,
    DEB_SECTION,
    DEB_PRIORITY,
    N_DEB
};

static const char *const deb_fields[N_DEB] = {
    [DEB_PACKAGE] = "Package",
    [DEB_VERSION] = "Version",
    [DEB_SOURCE] = "Source",
    [DEB_SIZE] = "Installed-Size",
    [DEB_ARCHITECTURE] = "Architecture",
    [DEB_STATUS] = "Status",
    [DEB_MAINTAINER] = "Maintainer",
    [DEB_SECTION] = "Section",
    [DEB_PRIORITY] = "Priority",
};

struct deb {
    char values[N_DEB][VALUE_BYTES]; /* "": it has none */
};

static void put_deb(struct table *t, const struct deb *deb)
{
    if (!deb->values[DEB_PACKAGE][0] || !deb->values[DEB_VERSION][0])
        return;
    for (int i = 0; i < N_DEB; i++) {
        if (i == DEB_SIZE && deb->values[i][0]) /* KiB there, bytes as osquery has them */
            table_put_u64(t, strtoull(deb->values[i], NULL, 10) * 1024);
        else
            table_put(t, deb->values[i]);
    }
    table_end_row(t);
}

/* The file has some megabytes: it is not held. */
void table_deb_packages(struct table *t)
{
    struct deb deb = { { "" } };
    struct lines lines;
    int error;

    lines_open(&lines, t, "var/lib/dpkg/status");
    for (char *line; (line = lines_next(&lines));) {
        if (!*line) {
            put_deb(t, &deb);
            for (int i = 0; i < N_DEB; i++)
                deb.values[i][0] = '\0';
            continue;
        }
        for (int i = 0; i < N_DEB; i++) {
            const char *value = table_after(line, deb_fields[i], ':');

            if (!value)
                continue;
            (void) snprintf(deb.values[i], VALUE_BYTES, "%s", value);
            break;
        }
    }
    put_deb(t, &deb);
    error = lines_close(&lines);
    if (error == ENOENT || error == ENOTDIR)
        table_absent(t);
    else if (error)
        table_unreadable(t, "var/lib/dpkg/status", error);
}

/* ---- rpm ---- */

void table_rpm_packages(struct table *t)
{
    static const char format[] = "%{NAME}\\t%{VERSION}\\t%{RELEASE}\\t%{SOURCERPM}\\t%{SIZE}\\t"
                                 "%{ARCH}\\t%{EPOCH}\\t%{INSTALLTIME}\\t%{VENDOR}\\n";
    const char *const argv[] = { "/usr/bin/rpm", "--root", t->options->root, "-qa", "--queryformat",
                                 format,         NULL };
    CLEANUP(closedirp) DIR *database = table_directory(t, "var/lib/rpm");
    CLEANUP(closedirp) DIR *moved = table_directory(t, "usr/lib/sysimage/rpm");
    char *text = database || moved ? table_run(t, argv) : NULL;

    /* Machines of dpkg may have the program, and no packages of it. */
    if ((!text || !*text) && !t->is_unreadable) {
        table_absent(t);
        return;
    }
    for (char *line; text && (line = table_line(&text));) {
        for (char *field; (field = table_field(&line, '\t'));)
            table_put(t, strcmp(field, "(none)") == 0 ? "" : field);
        table_end_row(t);
    }
}

/* ---- Python: core metadata, in *.dist-info/METADATA and *.egg-info ---- */

enum { PY_NAME, PY_VERSION, PY_SUMMARY, PY_AUTHOR, PY_LICENSE, N_PY };

static void put_python(struct table *t, const char *path, const char *shown)
{
    static const char *const keys[N_PY] = {
        [PY_NAME] = "Name",     [PY_VERSION] = "Version", [PY_SUMMARY] = "Summary",
        [PY_AUTHOR] = "Author", [PY_LICENSE] = "License",
    };
    const char *values[N_PY] = { NULL };
    char *text = table_read_if(t, path);
    int n_lines = 0;

    for (char *line; text && n_lines < MAX_METADATA_LINES && (line = table_line(&text));
         n_lines++) {
        if (!*line)
            break;
        for (int i = 0; i < N_PY; i++) {
            const char *value = table_after(line, keys[i], ':');

            if (value && !values[i])
                values[i] = value;
        }
    }
    if (!values[PY_NAME] || !values[PY_VERSION])
        return;
    for (int i = 0; i < N_PY; i++)
        table_put(t, values[i]);
    table_put_format(t, "/%s", shown);
    table_end_row(t);
}

static void pythons_of_directory(struct table *t, const char *path)
{
    CLEANUP(closedirp) DIR *directory = table_directory(t, path);
    const char *entry;
    char file[PATH_BYTES];

    while (directory && (entry = table_entry(directory)) != NULL) {
        const char *dot = strrchr(entry, '.');
        int n;

        if (!dot || (strcmp(dot, ".dist-info") != 0 && strcmp(dot, ".egg-info") != 0))
            continue;
        n = snprintf(file, sizeof(file), "%s/%s/METADATA", path, entry);
        if (n >= (int) sizeof(file))
            continue;
        put_python(t, file, path);
        if (strcmp(dot, ".egg-info") != 0)
            continue;
        (void) snprintf(file, sizeof(file), "%s/%s/PKG-INFO", path, entry);
        put_python(t, file, path);
        (void) snprintf(file, sizeof(file), "%s/%s", path, entry); /* a file alone */
        put_python(t, file, path);
    }
}

/* Below lib: python3, python3.11, ... */
static void pythons_below(struct table *t, const char *path)
{
    CLEANUP(closedirp) DIR *directory = table_directory(t, path);
    const char *entry;
    char packages[PATH_BYTES];

    while (directory && (entry = table_entry(directory)) != NULL) {
        if (strncmp(entry, "python", 6) != 0)
            continue;
        (void) snprintf(packages, sizeof(packages), "%s/%.64s/dist-packages", path, entry);
        pythons_of_directory(t, packages);
        (void) snprintf(packages, sizeof(packages), "%s/%.64s/site-packages", path, entry);
        pythons_of_directory(t, packages);
    }
}

void table_python_packages(struct table *t)
{
    static const char *const places[] = { "usr/lib", "usr/lib64", "usr/local/lib",
                                          "usr/local/lib64" };

    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
        pythons_below(t, places[i]);
    if (t->to->n_rows == 0)
        table_absent(t);
}
