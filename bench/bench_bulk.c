/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The command `bulk`. Round after round: what the disk itself takes when it is written as the hub
 * must write, 1 MiB at a time into a new file with fdatasync() after each 16 MiB and at the end;
 * and then the same number of bytes, as uploads of some agents at once, from the first header to
 * the last result: sent over mutual TLS, hashed at both ends, acknowledged when they are on that
 * disk. Both by turns, as disks drift; what is reported are medians.
 */

#include "sentinel/telemetry/v1/telemetry.pb-c.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/metrics.h"
#include "bench/print.h"
#include "common/base/fault.h"
#include "common/base/file.h"
#include "common/base/rand.h"
#include "common/base/text.h"
#include "common/crypto/crypto.h"
#include "common/loop/loop.h"
#include "common/rpc/client/client.h"
#include "common/tls/tls.h"
#include "common/wire/wire.h"

#define PATH "/sentinel.telemetry.v1.TelemetryService/UploadBulkData"
#define CHUNK_BYTES ((size_t) 1 << 18)
#define SYNC_BYTES (16u << 20)
#define WINDOW_BYTES (16u << 20)
#define QUEUED_BYTES (4u << 20)
#define WINDOW_CHUNKS (WINDOW_BYTES / CHUNK_BYTES + 1)
#define MAX_UPLOADS 256u
#define MAX_ROUNDS 25u

typedef Sentinel__Telemetry__V1__UploadBulkDataRequest request_message;

struct bulk;

struct bulk_upload {
    struct bulk *owner;
    uint32_t number;
    struct rpc_channel *channel;
    struct rpc_client_call *call;
    struct crypto_hash *hash;
    uint64_t next, acked;
    int64_t sent_us[WINDOW_CHUNKS]; /* of chunk n at n modulo */
    bool has_resume, has_end, is_over;
};

struct bulk {
    const char *uploads_text, *size_text, *rounds_text, *state_dir;
    bool is_json, is_insecure, wants_help;
    uint64_t n_uploads, n_bytes, n_rounds;
    struct bench_hub hub;
    struct loop *loop;
    struct rpc_queue *queue;
    struct rpc_credentials *credentials[MAX_UPLOADS];
    struct bulk_upload uploads[MAX_UPLOADS];
    uint8_t *chunk; /* random, but for its first bytes: no two are the same */
    uint64_t n_stamps;
    int exit_code;
    struct histogram ack_us;
    double disk_mb[MAX_ROUNDS], bulk_mb[MAX_ROUNDS], ratio[MAX_ROUNDS];
    double hub_cpu_s, own_cpu_s, n_mb;
};

static double mb_per_s(uint64_t n_bytes, int64_t us)
{
    return (double) n_bytes / 1e6 / ((double) us / 1e6);
}

/* ---- the disk alone ---- */

static int write_chunk(int fd, const uint8_t *data)
{
    for (size_t done = 0; done < CHUNK_BYTES;) {
        ssize_t n = write(fd, data + done, CHUNK_BYTES - done);

        if (n < 0 && errno != EINTR)
            return bench_say(BENCH_FAILED, "cannot write: %s", strerror(errno));
        done += n > 0 ? (size_t) n : 0;
    }
    return BENCH_OK;
}

static void stamp(struct bulk *bulk)
{
    bulk->n_stamps++;
    memcpy(bulk->chunk, &bulk->n_stamps, sizeof(bulk->n_stamps));
}

static int measure_disk(struct bulk *bulk, double *ret_mb)
{
    CLEANUP(fd_closep) int fd = -1;
    char path[600];
    uint64_t done = 0;
    int64_t from_us;
    int exit_code = BENCH_OK;

    snprintf(path, sizeof(path), "%s/disk-alone", bulk->hub.home);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return bench_say(BENCH_FAILED, "cannot make %s: %s", path, strerror(errno));
    from_us = clock_mono().us;
    while (done < bulk->n_bytes && exit_code == BENCH_OK) {
        stamp(bulk);
        exit_code = write_chunk(fd, bulk->chunk);
        done += CHUNK_BYTES;
        if (exit_code == BENCH_OK && (done % SYNC_BYTES == 0 || done == bulk->n_bytes) &&
            fdatasync(fd) < 0)
            exit_code = bench_say(BENCH_FAILED, "cannot sync: %s", strerror(errno));
    }
    *ret_mb = mb_per_s(done, clock_mono().us - from_us);
    (void) unlink(path);
    return exit_code;
}

/* ---- one upload ---- */

static void fail(struct bulk_upload *upload, const char *what)
{
    if (upload->owner->exit_code == BENCH_OK)
        upload->owner->exit_code = bench_say(BENCH_FAILED, "an upload failed: %s", what);
    upload->is_over = true;
}

static int send_message(struct bulk_upload *upload, const request_message *request)
{
    struct buf packed = { 0 };
    int r = wire_pack(&request->base, &packed);

    if (r == 0)
        r = rpc_client_call_send(upload->call, buf_span(&packed));
    buf_deinit(&packed);
    return r;
}

static uint64_t bytes_of_one(const struct bulk *bulk)
{
    return bulk->n_bytes / bulk->n_uploads;
}

static int send_header(struct bulk_upload *upload)
{
    request_message request = SENTINEL__TELEMETRY__V1__UPLOAD_BULK_DATA_REQUEST__INIT;
    Sentinel__Telemetry__V1__UploadHeader header = SENTINEL__TELEMETRY__V1__UPLOAD_HEADER__INIT;
    uint8_t id[16];
    char name[] = "bulk";

    crypto_random(id, sizeof(id));
    header.upload_id = (ProtobufCBinaryData){ sizeof(id), id };
    header.name = name;
    header.size_bytes = bytes_of_one(upload->owner);
    request.message_case = SENTINEL__TELEMETRY__V1__UPLOAD_BULK_DATA_REQUEST__MESSAGE_HEADER;
    request.header = &header;
    return send_message(upload, &request);
}

static int send_chunk(struct bulk_upload *upload)
{
    request_message request = SENTINEL__TELEMETRY__V1__UPLOAD_BULK_DATA_REQUEST__INIT;
    Sentinel__Telemetry__V1__Chunk chunk = SENTINEL__TELEMETRY__V1__CHUNK__INIT;
    int r;

    stamp(upload->owner);
    chunk.offset = upload->next;
    chunk.data = (ProtobufCBinaryData){ CHUNK_BYTES, upload->owner->chunk };
    request.message_case = SENTINEL__TELEMETRY__V1__UPLOAD_BULK_DATA_REQUEST__MESSAGE_CHUNK;
    request.chunk = &chunk;
    r = send_message(upload, &request);
    if (r == 0) {
        crypto_hash_update(upload->hash, span_of(upload->owner->chunk, CHUNK_BYTES));
        upload->sent_us[upload->next / CHUNK_BYTES % WINDOW_CHUNKS] = clock_mono().us;
        upload->next += CHUNK_BYTES;
    }
    return r;
}

static int send_end(struct bulk_upload *upload)
{
    request_message request = SENTINEL__TELEMETRY__V1__UPLOAD_BULK_DATA_REQUEST__INIT;
    Sentinel__Telemetry__V1__FileEnd end = SENTINEL__TELEMETRY__V1__FILE_END__INIT;
    uint8_t digest[CRYPTO_SHA256_BYTES];
    int r;

    crypto_hash_finish(upload->hash, digest);
    end.size_bytes = upload->next;
    end.sha256 = (ProtobufCBinaryData){ sizeof(digest), digest };
    request.message_case = SENTINEL__TELEMETRY__V1__UPLOAD_BULK_DATA_REQUEST__MESSAGE_END;
    request.end = &end;
    r = send_message(upload, &request);
    upload->has_end = r == 0;
    if (r == 0)
        rpc_client_call_half_close(upload->call);
    return r;
}

static void pump(struct bulk_upload *upload)
{
    int r = 0;

    while (r == 0 && upload->has_resume && !upload->has_end && !upload->is_over &&
           upload->next - upload->acked < WINDOW_BYTES &&
           rpc_client_call_queued(upload->call) < QUEUED_BYTES) {
        if (upload->next < bytes_of_one(upload->owner))
            r = send_chunk(upload);
        else if (upload->acked == upload->next) /* the hash begins anew with it: send it once */
            r = send_end(upload);
        else
            break;
    }
    if (r < 0)
        fail(upload, "no memory");
}

static void on_ack(struct bulk_upload *upload, uint64_t offset)
{
    const int64_t now_us = clock_mono().us;

    for (; upload->acked + CHUNK_BYTES <= offset; upload->acked += CHUNK_BYTES)
        histogram_add(&upload->owner->ack_us,
                      now_us - upload->sent_us[upload->acked / CHUNK_BYTES % WINDOW_CHUNKS], 1);
}

static void on_message(struct rpc_client_call *call, struct span message)
{
    struct bulk_upload *upload = rpc_client_call_ctx(call);
    const Sentinel__Telemetry__V1__UploadBulkDataResponse *response;
    ProtobufCMessage *unpacked = NULL;
    struct arena arena;

    arena_init(&arena, wire_arena_limit(message.len));
    if (wire_unpack(&sentinel__telemetry__v1__upload_bulk_data_response__descriptor, message,
                    &arena, &unpacked, NULL) == WIRE_OK) {
        response = (const void *) unpacked;
        if (response->message_case ==
            SENTINEL__TELEMETRY__V1__UPLOAD_BULK_DATA_RESPONSE__MESSAGE_RESUME)
            upload->has_resume = true;
        else if (response->message_case ==
                 SENTINEL__TELEMETRY__V1__UPLOAD_BULK_DATA_RESPONSE__MESSAGE_ACK)
            on_ack(upload, response->ack->offset);
    }
    arena_deinit(&arena);
    rpc_client_call_read(call);
    pump(upload);
}

static void on_writable(struct rpc_client_call *call)
{
    pump(rpc_client_call_ctx(call));
}

static void on_closed(struct rpc_client_call *call, const struct rpc_status *status)
{
    struct bulk_upload *upload = rpc_client_call_ctx(call);

    if (status->code != RPC_OK)
        fail(upload, status->message);
    upload->is_over = true;
}

static const struct rpc_client_handler handler = {
    .on_message = on_message,
    .on_writable = on_writable,
    .on_closed = on_closed,
};

static int upload_begin(struct bulk_upload *upload)
{
    int r = rpc_client_call_new(
        &upload->call, upload->channel,
        &(struct rpc_client_call_options){
            .path = PATH, .wait_for_ready = true, .handler = &handler, .ctx = upload });

    if (r == 0)
        r = send_header(upload);
    if (r)
        return fold(r);
    upload->hash = crypto_hash_new();
    upload->next = upload->acked = 0;
    upload->has_resume = upload->has_end = upload->is_over = false;
    rpc_client_call_read(upload->call);
    return 0;
}

static void upload_end(struct bulk_upload *upload)
{
    upload->call = rpc_client_call_unref(upload->call);
    upload->hash = crypto_hash_free(upload->hash);
}

/* ---- rounds ---- */

static bool are_over(const struct bulk *bulk)
{
    for (uint64_t i = 0; i < bulk->n_uploads; i++)
        if (!bulk->uploads[i].is_over)
            return false;
    return true;
}

static int measure_bulk(struct bulk *bulk, double *ret_mb)
{
    const int64_t from_us = clock_mono().us, hub_us = stats_cpu_us(bulk->hub.pid),
                  own_us = stats_cpu_us(getpid());
    int r = 0;

    for (uint64_t i = 0; i < bulk->n_uploads && r == 0; i++)
        r = upload_begin(&bulk->uploads[i]);
    while (r == 0 && bulk->exit_code == BENCH_OK && !are_over(bulk)) {
        r = loop_run_once(bulk->loop, 100);
        if (bench_is_interrupted())
            bulk->exit_code = bench_say(BENCH_FAILED, "interrupted");
    }
    *ret_mb = mb_per_s(bulk->n_bytes, clock_mono().us - from_us);
    bulk->hub_cpu_s += (double) (stats_cpu_us(bulk->hub.pid) - hub_us) / 1e6;
    bulk->own_cpu_s += (double) (stats_cpu_us(getpid()) - own_us) / 1e6;
    bulk->n_mb += (double) bulk->n_bytes / 1e6;
    for (uint64_t i = 0; i < bulk->n_uploads; i++)
        upload_end(&bulk->uploads[i]);
    return r < 0 ? BENCH_FAILED : bulk->exit_code;
}

static int run_rounds(struct bulk *bulk)
{
    int exit_code = BENCH_OK;

    for (uint64_t i = 0; i < bulk->n_rounds && exit_code == BENCH_OK; i++) {
        exit_code = measure_disk(bulk, &bulk->disk_mb[i]);
        if (exit_code == BENCH_OK)
            exit_code = measure_bulk(bulk, &bulk->bulk_mb[i]);
        bulk->ratio[i] = bulk->bulk_mb[i] / bulk->disk_mb[i];
        if (exit_code == BENCH_OK && !bulk->is_json)
            printf("round %" PRIu64 ": disk %.0f MB/s, uploads %.0f MB/s\n", i + 1,
                   bulk->disk_mb[i], bulk->bulk_mb[i]);
    }
    return exit_code;
}

/* ---- start and end ---- */

static int load_credentials(struct bulk *bulk, uint32_t number)
{
    CLEANUP(tls_identity_deinit) struct tls_identity identity = { 0 };
    struct tls_why why = { "" };
    char directory[700];
    int r;

    snprintf(directory, sizeof(directory), "%s/bench-%u", bulk->hub.identities, number);
    r = tls_identity_load(directory, &identity, &why);
    if (r == 0)
        r = rpc_credentials_new(
            &bulk->credentials[number],
            &(struct rpc_credentials_options){ .roots_pem = buf_span(&identity.roots_pem),
                                               .chain_pem = buf_span(&identity.chain_pem),
                                               .key_pem = buf_span(&identity.key_pem) });
    if (r > 0)
        return bench_say(BENCH_FAILED, "no usable identity in %s: %s", directory, why.text);
    return r < 0 ? BENCH_FAILED : BENCH_OK;
}

/* In plaintext an agent names itself. */
static int connect_upload(struct bulk *bulk, uint32_t number)
{
    char name[32];
    const struct rpc_metadata metadata = { "sentinel-agent", name };
    struct bulk_upload *upload = &bulk->uploads[number];

    snprintf(name, sizeof(name), "bench-%u", number);
    upload->owner = bulk;
    upload->number = number;
    return fold(rpc_channel_new(&upload->channel, bulk->queue,
                                &(struct rpc_channel_options){
                                    .target = bulk->hub.address,
                                    .credentials = bulk->credentials[number],
                                    .send_queue_bytes = 2 * QUEUED_BYTES,
                                    .metadata = &metadata,
                                    .n_metadata = bulk->is_insecure ? 1 : 0,
                                }));
}

static void fill_chunk(struct bulk *bulk)
{
    struct rand rand;

    rand_init(&rand, 1);
    for (size_t at = 0; at < CHUNK_BYTES; at += sizeof(uint64_t)) {
        const uint64_t bits = rand_u64(&rand);

        memcpy(bulk->chunk + at, &bits, sizeof(bits));
    }
}

static int run(struct bulk *bulk)
{
    int exit_code = BENCH_OK;

    bulk->chunk = malloc(CHUNK_BYTES);
    if (!bulk->chunk || loop_new(&bulk->loop) < 0 || rpc_queue_new(&bulk->queue, bulk->loop) < 0)
        return BENCH_FAILED;
    fill_chunk(bulk);
    for (uint32_t i = 0; i < bulk->n_uploads && exit_code == BENCH_OK; i++) {
        if (!bulk->is_insecure)
            exit_code = load_credentials(bulk, i);
        if (exit_code == BENCH_OK && connect_upload(bulk, i) < 0)
            exit_code = BENCH_FAILED;
    }
    return exit_code == BENCH_OK ? run_rounds(bulk) : exit_code;
}

static void finish(struct bulk *bulk)
{
    for (uint32_t i = 0; i < bulk->n_uploads; i++) {
        bulk->uploads[i].channel = rpc_channel_free(bulk->uploads[i].channel);
        bulk->credentials[i] = rpc_credentials_free(bulk->credentials[i]);
    }
    bulk->queue = rpc_queue_free(bulk->queue);
    bulk->loop = loop_free(bulk->loop);
    free(bulk->chunk);
}

/* ---- report ---- */

static void report(struct bulk *bulk)
{
    const double bulk_mb = stats_median(bulk->bulk_mb, bulk->n_rounds),
                 disk_mb = stats_median(bulk->disk_mb, bulk->n_rounds),
                 ratio = stats_median(bulk->ratio, bulk->n_rounds);
    CLEANUP(buf_deinit) struct buf text = { 0 };
    struct json_writer json;

    if (!bulk->is_json) {
        printf("\n%" PRIu64 " uploads at once, %.0f MB a round, %" PRIu64
               " rounds, %s; medians\n\n",
               bulk->n_uploads, (double) bulk->n_bytes / 1e6, bulk->n_rounds,
               bulk->is_insecure ? "plaintext" : "mutual TLS");
        print_line("uploads", bulk_mb, 0, "MB/s");
        print_line("the disk alone, synced each 16 MiB", disk_mb, 0, "MB/s");
        print_line("share of the disk", ratio * 100, 0, "%");
        print_line("hub CPU", bulk->hub_cpu_s / bulk->n_mb * 1e3, 2, "s/GB");
        print_line("this program's CPU", bulk->own_cpu_s / bulk->n_mb * 1e3, 2, "s/GB");
        print_line("chunk to ack p50", (double) histogram_quantile(&bulk->ack_us, 0.50) / 1e3, 1,
                   "ms");
        print_line("chunk to ack p99", (double) histogram_quantile(&bulk->ack_us, 0.99) / 1e3, 1,
                   "ms");
        return;
    }
    json_begin(&json, &text, true);
    json_open_object(&json);
    json_put_bool(&json, "tls", !bulk->is_insecure);
    json_put_u64(&json, "uploads", bulk->n_uploads);
    json_put_u64(&json, "bytes", bulk->n_bytes);
    json_put_u64(&json, "rounds", bulk->n_rounds);
    print_json_number(&json, "bulk_mb_per_second", bulk_mb, 10);
    print_json_number(&json, "disk_mb_per_second", disk_mb, 10);
    print_json_number(&json, "bulk_disk_ratio", ratio, 1000);
    print_json_number(&json, "hub_cpu_s_per_gb", bulk->hub_cpu_s / bulk->n_mb * 1e3, 1000);
    print_json_number(&json, "bench_cpu_s_per_gb", bulk->own_cpu_s / bulk->n_mb * 1e3, 1000);
    json_put_u64(&json, "ack_p50_us", histogram_quantile(&bulk->ack_us, 0.50));
    json_put_u64(&json, "ack_p99_us", histogram_quantile(&bulk->ack_us, 0.99));
    json_put_u64(&json, "ack_max_us", histogram_max(&bulk->ack_us));
    json_close_object(&json);
    printf("%s\n", buf_text(&text));
}

/* ---- the command line ---- */

static struct bulk given = { .n_uploads = 4, .n_bytes = UINT64_C(1) << 30, .n_rounds = 5 };

static const struct conf_option rows[] = {
    { .flag = "--uploads",
      .metavar = "N",
      .value = &given.uploads_text,
      .help = "at once, each of an agent of its own; 4" },
    { .flag = "--size",
      .metavar = "SIZE",
      .value = &given.size_text,
      .help = "of all uploads of a round together; 1GiB" },
    { .flag = "--rounds", .metavar = "N", .value = &given.rounds_text, .help = "5" },
    { .flag = "--insecure", .is_set = &given.is_insecure, .help = "plaintext" },
    OPTIONS_OF_ALL(given),
    { .flag = NULL },
};

static int read_size(struct bulk *bulk)
{
    const uint64_t step = bulk->n_uploads * CHUNK_BYTES;

    if (bulk->size_text && text_to_size(bulk->size_text, &bulk->n_bytes))
        return bench_say(BENCH_USAGE, "--size: `%s` is not a size such as 1GiB", bulk->size_text);
    bulk->n_bytes -= bulk->n_bytes % step;
    if (bulk->n_bytes == 0)
        return bench_say(BENCH_USAGE, "--size: at least 1 MiB for each upload");
    return BENCH_OK;
}

/* Returns -1 to go on, else an exit code. */
static int parse(int argc, char **argv)
{
    int exit_code = options_read_flags(argc, argv, rows, &given.wants_help,
                                       "Uploads, beside what the disk takes.\n\nExample:\n"
                                       "  sentinel-bench bulk --uploads 4 --size 1GiB\n");

    if (exit_code >= 0)
        return exit_code;
    exit_code =
        options_read_count("--uploads", given.uploads_text, 1, MAX_UPLOADS, &given.n_uploads);
    if (exit_code == BENCH_OK)
        exit_code =
            options_read_count("--rounds", given.rounds_text, 1, MAX_ROUNDS, &given.n_rounds);
    if (exit_code == BENCH_OK)
        exit_code = read_size(&given);
    return exit_code == BENCH_OK ? -1 : exit_code;
}

int cmd_bulk(int argc, char **argv)
{
    struct bulk *bulk = &given;
    bool has_rpc = false;
    int exit_code = parse(argc, argv);

    if (exit_code >= 0)
        return exit_code;
    exit_code = hub_start(&bulk->hub,
                          &(struct bench_hub_options){ .parent_directory = bulk->state_dir,
                                                       .n_identities = (uint32_t) bulk->n_uploads,
                                                       .is_insecure = bulk->is_insecure });
    if (exit_code == BENCH_OK) {
        has_rpc = rpc_init() == 0;
        exit_code = has_rpc ? run(bulk) : BENCH_FAILED;
    }
    if (exit_code == BENCH_OK)
        report(bulk);
    finish(bulk);
    if (has_rpc)
        rpc_deinit();
    hub_stop(&bulk->hub);
    return fflush(stdout) ? BENCH_FAILED : exit_code;
}
