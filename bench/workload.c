/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Work such as servers have, in bursts of random length: computing and short-lived processes, files
 * that are written, synced and read, datagrams on loopback, memory that grows and is given back.
 * Each kind is a process that ends with us.
 */

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench/process.h"
#include "bench/record.h"
#include "common/base/rand.h"

#define PIECE_BYTES 65536u
#define MAX_FILE_PIECES 64u
#define MEMORY_CHUNKS 32u
#define MAX_CHUNK_BYTES (8u << 20)

enum work { WORK_CPU, WORK_DISK, WORK_NETWORK, WORK_MEMORY, N_WORKS };

struct worker {
    struct rand rand;
    const char *directory;
    uint32_t number;
};

static void pause_ms(struct worker *worker, uint64_t min_ms, uint64_t max_ms)
{
    const uint64_t ms = min_ms + rand_below(&worker->rand, max_ms - min_ms + 1);

    nanosleep(&(struct timespec){ .tv_sec = (time_t) (ms / 1000),
                                  .tv_nsec = (long) (ms % 1000) * 1000000 },
              NULL);
}

/* ---- one round of each kind ---- */

static void compute(struct worker *worker)
{
    const int64_t until_us = clock_mono().us + (int64_t) (5000 + rand_below(&worker->rand, 300000));
    volatile uint64_t sum = 0;
    int status;

    while (clock_mono().us < until_us)
        for (uint32_t i = 0; i < 10000; i++)
            sum += rand_u64(&worker->rand);
    if (rand_below(&worker->rand, 4) == 0) {
        pid_t pid = fork();

        if (pid == 0)
            _exit(0);
        while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
            continue;
    }
    pause_ms(worker, 5, 250);
}

static void use_disk(struct worker *worker)
{
    static uint8_t piece[PIECE_BYTES];
    const uint64_t n_pieces = 1 + rand_below(&worker->rand, MAX_FILE_PIECES);
    char path[700];
    int fd;

    snprintf(path, sizeof(path), "%s/file-%u-%u", worker->directory, worker->number,
             (unsigned) rand_below(&worker->rand, 16));
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd >= 0) {
        ssize_t n = 1;

        for (uint64_t i = 0; i < n_pieces && n > 0; i++) {
            memset(piece, (int) rand_below(&worker->rand, 256), sizeof(piece));
            n = write(fd, piece, sizeof(piece));
        }
        (void) fsync(fd);
        (void) posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        (void) lseek(fd, 0, SEEK_SET);
        while (rand_below(&worker->rand, 64) != 0 && read(fd, piece, sizeof(piece)) > 0)
            continue;
        close(fd);
        if (rand_below(&worker->rand, 3) == 0)
            (void) unlink(path);
    }
    pause_ms(worker, 10, 300);
}

/* A datagram to ourselves. */
static void use_network(struct worker *worker)
{
    static uint8_t datagram[1400];
    struct sockaddr_in address = { .sin_family = AF_INET };
    socklen_t len = sizeof(address);
    const uint64_t n = 1 + rand_below(&worker->rand, 400);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd >= 0 && bind(fd, (const void *) &address, sizeof(address)) == 0 &&
        getsockname(fd, (void *) &address, &len) == 0) {
        for (uint64_t i = 0; i < n; i++) {
            size_t size = 64 + (size_t) rand_below(&worker->rand, sizeof(datagram) - 64);

            if (sendto(fd, datagram, size, 0, (const void *) &address, len) > 0)
                (void) recv(fd, datagram, sizeof(datagram), MSG_DONTWAIT);
        }
    }
    if (fd >= 0)
        close(fd);
    pause_ms(worker, 5, 200);
}

static void use_memory(struct worker *worker)
{
    static struct {
        void *at;
        size_t bytes;
    } chunks[MEMORY_CHUNKS];
    const size_t slot = (size_t) rand_below(&worker->rand, MEMORY_CHUNKS);

    if (chunks[slot].at) {
        /* It grows for most of the time. */
        if (rand_below(&worker->rand, 3) == 0) {
            munmap(chunks[slot].at, chunks[slot].bytes);
            chunks[slot].at = NULL;
        }
    } else {
        chunks[slot].bytes =
            4096 * (1 + (size_t) rand_below(&worker->rand, MAX_CHUNK_BYTES / 4096));
        chunks[slot].at = mmap(NULL, chunks[slot].bytes, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (chunks[slot].at == MAP_FAILED)
            chunks[slot].at = NULL;
        else
            memset(chunks[slot].at, 1, chunks[slot].bytes);
    }
    pause_ms(worker, 20, 400);
}

static void (*const rounds[N_WORKS])(struct worker *worker) = {
    [WORK_CPU] = compute,
    [WORK_DISK] = use_disk,
    [WORK_NETWORK] = use_network,
    [WORK_MEMORY] = use_memory,
};

/* ---- phases ---- */

static const struct {
    enum work works[WORKLOAD_MAX];
    uint32_t n_works;
} plans[REPLAY_N_PHASES] = {
    [REPLAY_IDLE] = { .n_works = 0 },
    [REPLAY_BUSY] = { { WORK_CPU, WORK_CPU, WORK_MEMORY }, 3 },
    [REPLAY_IO] = { { WORK_DISK, WORK_DISK, WORK_NETWORK }, 3 },
    [REPLAY_MIXED] = { { WORK_CPU, WORK_DISK, WORK_NETWORK, WORK_MEMORY }, 4 },
};

/* Does not return. */
static void work_for_ever(enum work work, uint32_t number, const char *directory, pid_t parent)
{
    struct worker worker = { .directory = directory, .number = number };
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    rand_init_from_system(&worker.rand);
    while (getppid() == parent)
        rounds[work](&worker);
    _exit(0);
}

int workload_start(struct workload *workload, enum replay_phase phase, const char *directory)
{
    const pid_t parent = getpid();

    workload->n_pids = 0;
    for (uint32_t i = 0; i < plans[phase].n_works; i++) {
        pid_t pid = fork();

        if (pid == 0)
            work_for_ever(plans[phase].works[i], i, directory, parent);
        if (pid < 0)
            return bench_say(BENCH_FAILED, "cannot start a process: %s", strerror(errno));
        workload->pids[workload->n_pids++] = pid;
    }
    return BENCH_OK;
}

void workload_stop(struct workload *workload)
{
    while (workload->n_pids > 0)
        process_kill(workload->pids[--workload->n_pids]);
}
