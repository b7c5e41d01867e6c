/* SPDX-License-Identifier: Apache-2.0 */

/*
 * sentinelctl uploads get: into FILE.ID.part first, which a later run goes on with (the id is never
 * given to another upload), and to its place when its SHA-256 is the hub's.
 *
 * The name of an upload is an agent's word: it becomes the name of a file only where it is plain.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/progress.h"
#include "common/base/text.h"
#include "common/crypto/crypto.h"
#include "server/ctl/convert.h"

#define DOWNLOAD "/sentinel.query.v1.QueryService/DownloadUpload"
#define READ_BYTES 65536
#define NAME_BYTES 200

struct get {
    struct ctl *ctl;
    const char *id;
    const char *file; /* NULL: stdout */
    const char *part;
    int fd;
    uint64_t n_bytes, resumed_at, size;
    struct crypto_hash *hash;
    char sha256[2 * CRYPTO_SHA256_BYTES + 1]; /* the hub's word */
    bool is_known;
    struct progress progress;
};

static void get_deinit(struct get *get)
{
    if (get->file)
        fd_closep(&get->fd);
    get->hash = crypto_hash_free(get->hash);
}

/* ---- where it goes ---- */

static bool is_plain(const char *name)
{
    const size_t len = strlen(name);

    return len > 0 && len <= NAME_BYTES && name[0] != '.' && name[0] != '-' &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+=@,-") ==
               len;
}

static int choose_file(struct get *get, const Sentinel__Query__V1__Upload *upload)
{
    const char *slash = strrchr(upload->name, '/');
    const char *name = slash ? slash + 1 : upload->name;
    struct stat st;

    if (get->ctl->out && strcmp(get->ctl->out, "-") == 0)
        return CTL_OK;
    get->file = get->ctl->out ? get->ctl->out : is_plain(name) ? name : get->id;
    get->file = arena_copy_text(&get->ctl->arena, get->file);
    get->fd = -1;
    if (!get->file)
        return ctl_say(CTL_FAILED, "out of memory");
    if (!get->ctl->is_forced && lstat(get->file, &st) == 0)
        return ctl_say(CTL_FAILED,
                       "%s is there already: --force writes over it, --out FILE names "
                       "another",
                       get->file);
    get->part = arena_printf(&get->ctl->arena, "%s.%s.part", get->file, get->id);
    return get->part ? CTL_OK : ctl_say(CTL_FAILED, "out of memory");
}

/* What an earlier run has brought, into the hash too. */
static int open_part(struct get *get)
{
    uint8_t block[READ_BYTES];
    ssize_t n;

    get->fd = open(get->part, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (get->fd < 0)
        return ctl_say(CTL_FAILED, "%s: %s", get->part, strerror(errno));
    while ((n = read(get->fd, block, sizeof(block))) > 0) {
        crypto_hash_update(get->hash, span_of(block, (size_t) n));
        get->n_bytes += (uint64_t) n;
    }
    if (n < 0)
        return ctl_say(CTL_FAILED, "%s: %s", get->part, strerror(errno));
    get->resumed_at = get->n_bytes;
    return CTL_OK;
}

/* ---- bytes ---- */

static int write_all(struct get *get, struct span data)
{
    for (size_t done = 0; done < data.len;) {
        ssize_t n = write(get->fd, data.data + done, data.len - done);

        if (n < 0 && errno != EINTR)
            return ctl_say(CTL_FAILED, "%s: %s", get->part ? get->part : "stdout", strerror(errno));
        done += n > 0 ? (size_t) n : 0;
    }
    crypto_hash_update(get->hash, data);
    get->n_bytes += data.len;
    progress_show(&get->progress, get->n_bytes, get->size);
    return CTL_OK;
}

static int on_message(void *ctx, const ProtobufCMessage *message)
{
    const Sentinel__Query__V1__DownloadUploadResponse *response = (const void *) message;
    struct get *get = ctx;

    if (response->upload) {
        get->size = response->upload->size_bytes;
        snprintf(get->sha256, sizeof(get->sha256), "%s", response->upload->sha256);
    }
    if (response->offset != get->n_bytes)
        return ctl_say(CTL_FAILED, "the hub sent another part than was asked for");
    return write_all(get, span_of(response->data.data, response->data.len));
}

/* The first byte alone, which says what it is. */
static int on_probe(void *ctx, const ProtobufCMessage *message)
{
    const Sentinel__Query__V1__DownloadUploadResponse *response = (const void *) message;
    struct get *get = ctx;

    if (get->is_known || !response->upload)
        return CTL_OK;
    get->is_known = true;
    get->size = response->upload->size_bytes;
    return choose_file(get, response->upload);
}

static int ask(struct get *get, uint64_t offset, uint64_t length, ctl_message_fn *fn)
{
    Sentinel__Query__V1__DownloadUploadRequest request =
        SENTINEL__QUERY__V1__DOWNLOAD_UPLOAD_REQUEST__INIT;

    request.object_id = arena_copy_text(&get->ctl->arena, get->id);
    request.offset = offset;
    request.length = length;
    if (!request.object_id)
        return ctl_say(CTL_FAILED, "out of memory");
    return ctl_stream(get->ctl, DOWNLOAD, &request.base, fn, get);
}

/* ---- the end ---- */

static int check_digest(struct get *get)
{
    uint8_t digest[CRYPTO_SHA256_BYTES];
    char ours[2 * CRYPTO_SHA256_BYTES + 1];

    crypto_hash_finish(get->hash, digest);
    if (strcmp(text_of_hex(digest, sizeof(digest), ours), get->sha256) == 0)
        return CTL_OK;
    if (get->part)
        (void) unlink(get->part);
    return ctl_say(CTL_FAILED, "%s has SHA-256 %s, but what came has %s%s", get->id, get->sha256,
                   ours, get->resumed_at ? ", with what an earlier run left: get it again" : "");
}

/* Nobody's file is written over, also not one that came meanwhile. */
static bool move(const struct get *get)
{
    if (get->ctl->is_forced)
        return rename(get->part, get->file) == 0;
    if (renameat2(AT_FDCWD, get->part, AT_FDCWD, get->file, RENAME_NOREPLACE) == 0)
        return true;
    /* A file system that cannot: the look before must do. */
    return errno == EINVAL && rename(get->part, get->file) == 0;
}

static int put_in_place(struct get *get)
{
    if (fsync(get->fd) < 0)
        return ctl_say(CTL_FAILED, "%s: %s", get->part, strerror(errno));
    if (!move(get))
        return ctl_say(CTL_FAILED, "cannot put %s in its place: %s", get->file, strerror(errno));
    return CTL_OK;
}

static void say_got(const struct get *get)
{
    CLEANUP(buf_deinit) struct buf out = { 0 };
    char size[TEXT_SIZE_BYTES], at[TEXT_SIZE_BYTES];
    struct json_writer json;

    if (!get->file)
        return;
    if (!get->ctl->is_json) {
        printf("%s  %s  %s  %s", get->id, get->sha256, text_of_size(get->size, size),
               format_printable(get->ctl, get->file));
        if (get->resumed_at)
            printf("  (went on at %s)", text_of_size(get->resumed_at, at));
        printf("\n");
        return;
    }
    json_begin(&json, &out, false);
    json_open_object(&json);
    json_put_text(&json, "object_id", get->id);
    json_put_text(&json, "file", get->file);
    json_put_text(&json, "sha256", get->sha256);
    json_put_u64(&json, "bytes", get->size);
    json_put_u64(&json, "resumed_at", get->resumed_at);
    json_close_object(&json);
    printf("%s\n", buf_text(&out));
}

static int download(struct get *get)
{
    int r = get->part ? open_part(get) : CTL_OK;

    if (r)
        return r;
    if (get->n_bytes > get->size)
        return ctl_say(CTL_FAILED, "%s is longer than %s: remove it", get->part, get->id);
    progress_begin(&get->progress, "downloading");
    r = ask(get, get->n_bytes, 0, on_message);
    progress_end(&get->progress);
    if (r == CTL_UNAVAILABLE && get->part)
        (void) ctl_say(0, "%llu of %llu bytes are in %s: run this again to go on",
                       (unsigned long long) get->n_bytes, (unsigned long long) get->size,
                       get->part);
    if (!r)
        r = check_digest(get);
    if (!r && get->file)
        r = put_in_place(get);
    return r;
}

static int get_one(struct ctl *ctl, const char *id)
{
    CLEANUP(get_deinit)
    struct get get = { .ctl = ctl, .id = id, .fd = STDOUT_FILENO, .hash = crypto_hash_new() };
    int r = ask(&get, 0, 1, on_probe);

    if (!r && !get.is_known)
        r = ctl_say(CTL_FAILED, "the hub did not say what %s is", id);
    if (!r)
        r = download(&get);
    if (!r)
        say_got(&get);
    return r;
}

int cmd_uploads_get(struct ctl *ctl)
{
    int code = CTL_OK;

    if (ctl->out && ctl->n_words > 1)
        return ctl_say(CTL_USAGE, "--out is for one upload");
    for (size_t i = 0; i < ctl->n_words; i++) {
        int r;

        if (strchr(ctl->words[i], '/'))
            return ctl_say(CTL_USAGE,
                           "`%s` is no upload's id (sentinelctl uploads list names "
                           "them)",
                           ctl->words[i]);
        r = get_one(ctl, ctl->words[i]);
        code = code ? code : r;
    }
    return code;
}
