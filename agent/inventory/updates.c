/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Updates that wait on machines of dpkg and apt: what is installed beside the newest that the
 * package lists have, which apt-get update fetched. Nothing is fetched here, and apt is not asked.
 *
 * Lists have tens of megabytes: they are read line by line, and only what concerns an installed
 * package is kept. Compressed ones are opened by apt's own helper.
 *
 * Which version is the one that apt would take (apt_preferences(5), without pins): a release has
 * priority 500; 1 when it says NotAutomatic, 100 when it says ButAutomaticUpgrades too. What is
 * installed has 100 at least, and that of the releases that have it still. Of the newer versions
 * the highest priority wins, then the highest version; an update is one that does not lose against
 * what is installed.
 */

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "agent/inventory/debversion.h"
#include "agent/inventory/lines.h"
#include "agent/inventory/table.h"
#include "common/base/arena.h"
#include "common/base/map.h"

#define STATUS "var/lib/dpkg/status"
#define LISTS "var/lib/apt/lists"
#define HELPER "/usr/lib/apt/apt-helper"
#define PATH_BYTES 1024
#define FIELD_BYTES 256
#define MAX_LISTS 512
#define MAX_HEAD_LINES 64 /* of a Release file, before its hashes */
#define MAX_BYTES ((size_t) 6 << 20)

enum { PRIORITY_NEVER = 1, PRIORITY_INSTALLED = 100, PRIORITY_NORMAL = 500 };

/* A release, as its Release file describes it. */
struct archive {
    char origin[FIELD_BYTES], label[FIELD_BYTES], suite[FIELD_BYTES], codename[FIELD_BYTES];
    char site[FIELD_BYTES];
    bool is_not_automatic, has_automatic_upgrades;
    int priority;
    bool is_security;
};

struct installed {
    const char *name, *architecture, *version;
    bool is_held, has_security;
    int priority; /* of the version that is installed */
    struct {
        const char *version; /* NULL: none is newer */
        const struct archive *archive;
    } best;
};

struct updates {
    struct table *t;
    struct arena arena;
    struct map packages; /* "name:architecture" -> struct installed */
    struct installed **order;
    size_t n_packages, capacity;
    char native[32]; /* architecture, which `all` belongs to */
    const struct archive *archive;
    bool has_no_memory;
};

/* A paragraph of deb-control(5), as far as it matters here. */
struct paragraph {
    char name[FIELD_BYTES], version[FIELD_BYTES], architecture[32], status[64];
};

/* Whether the line is a field of the paragraph, which has it then. What is too long is cut. */
static void take_line(struct paragraph *paragraph, char *line)
{
    static const struct {
        const char *key;
        size_t at, bytes;
    } fields[] = {
        { "Package", offsetof(struct paragraph, name), FIELD_BYTES },
        { "Version", offsetof(struct paragraph, version), FIELD_BYTES },
        { "Architecture", offsetof(struct paragraph, architecture), 32 },
        { "Status", offsetof(struct paragraph, status), 64 },
    };

    if (*line != 'P' && *line != 'V' && *line != 'A' && *line != 'S')
        return;
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        const char *value = table_after(line, fields[i].key, ':');

        if (!value)
            continue;
        (void) snprintf((char *) paragraph + fields[i].at, fields[i].bytes, "%s", value);
        return;
    }
}

static struct span
key_of(const struct updates *updates, const struct paragraph *paragraph, char to[static 320])
{
    const bool is_all = strcmp(paragraph->architecture, "all") == 0;

    (void) snprintf(to, 320, "%s:%s", paragraph->name,
                    is_all && updates->native[0] ? updates->native : paragraph->architecture);
    return span_of_text(to);
}

/* ---- what is installed ---- */

static bool is_installed(const char *status)
{
    const char *state = strrchr(status, ' ');

    return state && strcmp(state, " config-files") != 0 && strcmp(state, " not-installed") != 0;
}

static bool append(struct updates *updates, struct installed *package)
{
    if (updates->n_packages == updates->capacity) {
        const size_t capacity = updates->capacity ? 2 * updates->capacity : 512;
        struct installed **order = reallocarray(updates->order, capacity, sizeof(*order));

        if (!order)
            return false;
        updates->order = order;
        updates->capacity = capacity;
    }
    updates->order[updates->n_packages++] = package;
    return true;
}

static void add_installed(struct updates *updates, const struct paragraph *paragraph)
{
    struct installed *package;

    if (!paragraph->name[0] || !paragraph->version[0] || !is_installed(paragraph->status))
        return;
    if (strcmp(paragraph->name, "dpkg") == 0)
        (void) snprintf(updates->native, sizeof(updates->native), "%s", paragraph->architecture);
    package = arena_alloc(&updates->arena, sizeof(*package));
    if (package) {
        package->name = arena_copy_text(&updates->arena, paragraph->name);
        package->architecture = arena_copy_text(&updates->arena, paragraph->architecture);
        package->version = arena_copy_text(&updates->arena, paragraph->version);
        package->is_held = strncmp(paragraph->status, "hold ", 5) == 0;
        package->priority = PRIORITY_INSTALLED;
    }
    if (!package || !package->name || !package->architecture || !package->version ||
        !append(updates, package))
        updates->has_no_memory = true;
}

/* Only now is it known what `all` belongs to. */
static void index_packages(struct updates *updates)
{
    for (size_t i = 0; i < updates->n_packages && !updates->has_no_memory; i++) {
        struct paragraph paragraph;
        char key[320], *own;

        (void) snprintf(paragraph.name, FIELD_BYTES, "%s", updates->order[i]->name);
        (void) snprintf(paragraph.architecture, 32, "%s", updates->order[i]->architecture);
        own = arena_copy(&updates->arena, key_of(updates, &paragraph, key));
        if (!own || map_put(&updates->packages, span_of_text(own), updates->order[i]) != 0)
            updates->has_no_memory = true;
    }
}

typedef void paragraph_fn(struct updates *updates, const struct paragraph *paragraph);

/* 0, or an errno. */
static int read_paragraphs(struct updates *updates, struct lines *lines, paragraph_fn *fn)
{
    struct paragraph paragraph = { .name = "" };

    for (char *line; !updates->has_no_memory && (line = lines_next(lines));) {
        if (*line) {
            take_line(&paragraph, line);
            continue;
        }
        fn(updates, &paragraph);
        paragraph = (struct paragraph){ .name = "" };
    }
    fn(updates, &paragraph);
    return lines_close(lines);
}

/* ---- what there is ---- */

static bool
is_better(const struct installed *package, const struct archive *archive, const char *version)
{
    int order;

    if (!package->best.version)
        return true;
    if (archive->priority != package->best.archive->priority)
        return archive->priority > package->best.archive->priority;
    order = debversion_compare(version, package->best.version);
    return order > 0 || (order == 0 && archive->is_security && !package->best.archive->is_security);
}

static void offer(struct updates *updates, const struct paragraph *paragraph)
{
    const struct archive *archive = updates->archive;
    struct installed *package;
    char key[320];
    int order;

    if (!paragraph->name[0] || !paragraph->version[0])
        return;
    package = map_get(&updates->packages, key_of(updates, paragraph, key));
    if (!package)
        return;
    order = debversion_compare(paragraph->version, package->version);
    if (order == 0 && archive->priority > package->priority)
        package->priority = archive->priority;
    if (order <= 0)
        return;
    package->has_security = package->has_security || archive->is_security;
    if (!is_better(package, archive, paragraph->version))
        return;
    package->best.version = arena_copy_text(&updates->arena, paragraph->version);
    package->best.archive = archive;
    if (!package->best.version)
        updates->has_no_memory = true;
}

static bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), m = strlen(end);

    return n >= m && strcmp(text + n - m, end) == 0;
}

static void take_release_line(struct archive *archive, char *line)
{
    const struct {
        const char *key;
        char *to;
    } fields[] = {
        { "Origin", archive->origin },
        { "Label", archive->label },
        { "Suite", archive->suite },
        { "Codename", archive->codename },
    };
    const char *value;

    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
        if ((value = table_after(line, fields[i].key, ':')) != NULL)
            (void) snprintf(fields[i].to, FIELD_BYTES, "%s", value);
    if ((value = table_after(line, "NotAutomatic", ':')) != NULL)
        archive->is_not_automatic = strcasecmp(value, "yes") == 0;
    if ((value = table_after(line, "ButAutomaticUpgrades", ':')) != NULL)
        archive->has_automatic_upgrades = strcasecmp(value, "yes") == 0;
}

/* False: there is no such file. */
static bool read_release(struct updates *updates, const char *path, struct archive *archive)
{
    struct lines lines;
    char *line;

    lines_open(&lines, updates->t, path);
    for (int n = 0; n < MAX_HEAD_LINES && (line = lines_next(&lines)); n++) {
        if (strncmp(line, "MD5Sum:", 7) == 0 || strncmp(line, "SHA", 3) == 0)
            break;
        take_release_line(archive, line);
    }
    return lines_close(&lines) == 0;
}

/*
 * The Release file of a list: where deb.debian.org_debian_dists_stable_main_binary-amd64_Packages
 * belongs to is deb.debian.org_debian_dists_stable_InRelease, the longest that begins alike.
 */
static const struct archive *archive_of(struct updates *updates, const char *list)
{
    static const char *const names[] = { "InRelease", "Release" };
    struct archive *archive = arena_alloc(&updates->arena, sizeof(*archive));
    char path[PATH_BYTES];
    bool is_found = false;

    if (!archive)
        return NULL;
    for (size_t n = strlen(list); n > 0 && !is_found; n--)
        for (size_t i = 0; i < 2 && list[n - 1] == '_' && !is_found; i++) {
            (void) snprintf(path, sizeof(path), LISTS "/%.*s%s", (int) n, list, names[i]);
            is_found = read_release(updates, path, archive);
        }
    (void) snprintf(archive->site, FIELD_BYTES, "%.*s", (int) strcspn(list, "_"), list);
    if (!archive->suite[0])
        (void) snprintf(archive->suite, FIELD_BYTES, "%s", archive->codename);
    archive->is_security = ends_with(archive->suite, "-security") ||
                           ends_with(archive->codename, "-security") ||
                           strcasestr(archive->label, "-security") != NULL;
    archive->priority = !archive->is_not_automatic        ? PRIORITY_NORMAL
                        : archive->has_automatic_upgrades ? PRIORITY_INSTALLED
                                                          : PRIORITY_NEVER;
    return archive;
}

/* ---- the lists ---- */

/* NULL: it is none. "": plain; else the end that says how it is compressed. */
static const char *compression_of(const char *name)
{
    static const char *const ends[] = { "", ".gz", ".lz4", ".xz", ".zst", ".bz2", ".lzma" };
    char whole[32];

    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        (void) snprintf(whole, sizeof(whole), "_Packages%s", ends[i]);
        if (ends_with(name, whole))
            return ends[i];
    }
    return NULL;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *) a, *(char *const *) b);
}

/* Their names, in order. */
static size_t find_lists(struct updates *updates, char *names[static MAX_LISTS])
{
    CLEANUP(closedirp) DIR *directory = table_directory(updates->t, LISTS);
    const char *entry;
    size_t n = 0;

    while (directory && n < MAX_LISTS && (entry = table_entry(directory)) != NULL) {
        if (!compression_of(entry))
            continue;
        names[n] = arena_copy_text(&updates->arena, entry);
        if (!names[n])
            updates->has_no_memory = true;
        else
            n++;
    }
    if (n > 1)
        qsort(names, n, sizeof(*names), by_name);
    return n;
}

static int read_list(struct updates *updates, const char *name)
{
    const char *root = updates->t->options->root;
    char path[PATH_BYTES];
    struct lines lines;

    updates->archive = archive_of(updates, name);
    if (!updates->archive) {
        updates->has_no_memory = true;
        return 0;
    }
    if (!*compression_of(name)) {
        (void) snprintf(path, sizeof(path), LISTS "/%s", name);
        lines_open(&lines, updates->t, path);
    } else {
        const char *const argv[] = { HELPER, "cat-file", path, NULL };

        (void) snprintf(path, sizeof(path), "%s/" LISTS "/%s", root, name);
        lines_run(&lines, updates->t, argv);
    }
    return read_paragraphs(updates, &lines, offer);
}

static bool read_lists(struct updates *updates)
{
    char **names = calloc(MAX_LISTS, sizeof(*names));
    const size_t n = names ? find_lists(updates, names) : 0;
    bool is_whole = n > 0;

    if (!names || n == MAX_LISTS)
        table_failed(updates->t, "/" LISTS ": %s",
                     names ? "more lists than are looked at"
                           : "there is no memory for their names");
    else if (n == 0)
        table_failed(updates->t, "/" LISTS ": no package lists are there; `apt-get update` "
                                 "fetches them");
    for (size_t i = 0; i < n && n < MAX_LISTS && is_whole; i++) {
        const int error = read_list(updates, names[i]);

        is_whole = error == 0;
        if (error && *compression_of(names[i]))
            table_failed(updates->t, "%.70s: %s; compressed lists are read by " HELPER, names[i],
                         strerror(error));
        else if (error)
            table_failed(updates->t, "%.70s: %s", names[i], strerror(error));
    }
    free(names);
    return is_whole && n < MAX_LISTS;
}

/* ---- what apt is told besides ---- */

static bool has_words(struct table *t, const char *path, const char *word)
{
    char *text = table_read_if(t, path);

    for (char *line; text && (line = table_line(&text));)
        if (*line != '#' && strncmp(line, "//", 2) != 0 && strstr(line, word))
            return true;
    return false;
}

/* Whether this machine has pins: they are not followed, and that is said. */
static void note_pins(struct table *t)
{
    static const struct {
        const char *file, *directory, *word;
    } places[] = {
        { "etc/apt/preferences", "etc/apt/preferences.d", "Pin-Priority" },
        { "etc/apt/apt.conf", "etc/apt/apt.conf.d", "Default-Release" },
    };
    char path[PATH_BYTES];

    for (size_t i = 0; i < 2; i++) {
        CLEANUP(closedirp) DIR *directory = table_directory(t, places[i].directory);
        bool is_there = has_words(t, places[i].file, places[i].word);
        const char *entry;

        (void) snprintf(path, sizeof(path), "%s", places[i].file);
        while (!is_there && directory && (entry = table_entry(directory)) != NULL) {
            (void) snprintf(path, sizeof(path), "%s/%.255s", places[i].directory, entry);
            is_there = has_words(t, path, places[i].word);
        }
        if (!is_there)
            continue;
        (void) snprintf(t->to->why, sizeof(t->to->why),
                        "/%.80s has %s, which is not followed: apt may choose otherwise", path,
                        places[i].word);
        return;
    }
}

/* ---- the table ---- */

static void put_update(struct table *t, const struct installed *package)
{
    const struct archive *archive = package->best.archive;

    if (!package->best.version || archive->priority < package->priority)
        return;
    table_put(t, package->name);
    table_put(t, package->architecture);
    table_put(t, package->version);
    table_put(t, package->best.version);
    table_put(t, archive->origin);
    table_put(t, archive->label);
    table_put(t, archive->suite);
    table_put(t, archive->site);
    table_put_u64(t, package->has_security);
    table_put_u64(t, package->is_held);
    table_end_row(t);
}

/* False: there is no table, and it was said why. */
static bool read_all(struct updates *updates)
{
    struct lines lines;
    int error;

    lines_open(&lines, updates->t, STATUS);
    error = read_paragraphs(updates, &lines, add_installed);
    if (error) {
        table_failed(updates->t, "/" STATUS ": %s", strerror(error));
        return false;
    }
    index_packages(updates);
    if (!updates->has_no_memory && !read_lists(updates))
        return false;
    if (updates->has_no_memory)
        table_failed(updates->t, "more packages are installed than there is memory for (%zu MiB)",
                     MAX_BYTES >> 20);
    return !updates->has_no_memory;
}

void table_apt_updates(struct table *t)
{
    CLEANUP(closedirp) DIR *lists = table_directory(t, LISTS);
    struct updates updates = { .t = t };

    if (!lists || faccessat(t->root_fd, STATUS, F_OK, 0) != 0) {
        table_absent(t);
        return;
    }
    arena_init(&updates.arena, MAX_BYTES);
    if (read_all(&updates)) {
        for (size_t i = 0; i < updates.n_packages; i++)
            put_update(t, updates.order[i]);
        if (!t->to->is_cut)
            note_pins(t);
    }
    map_deinit(&updates.packages);
    free(updates.order);
    arena_deinit(&updates.arena);
}
