/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/bench.h"
#include "common/base/file.h"

/* Buckets below 128 are a value each; from there on 64 for each power of two. */
#define LINEAR 128u
#define PER_POWER 64u
#define POWER_BITS 6

static uint32_t bucket_of(uint64_t us)
{
    int power;
    uint32_t bucket;

    if (us < LINEAR)
        return (uint32_t) us;
    power = 63 - __builtin_clzll(us) - POWER_BITS; /* from 1 on */
    bucket = (uint32_t) (us >> power) + (uint32_t) power * PER_POWER;
    return bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1;
}

/* The largest value that is in it. */
static uint64_t bucket_last(uint32_t bucket)
{
    uint32_t power;

    if (bucket < LINEAR)
        return bucket;
    power = bucket / PER_POWER - 1;
    return ((uint64_t) (bucket - power * PER_POWER + 1) << power) - 1;
}

static void add_relaxed(_Atomic(uint64_t) *to, uint64_t n)
{
    atomic_store_explicit(to, atomic_load_explicit(to, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

void histogram_add(struct histogram *histogram, int64_t us, uint64_t n)
{
    const uint64_t value = us > 0 ? (uint64_t) us : 0;

    add_relaxed(&histogram->counts[bucket_of(value)], n);
    if (value > atomic_load_explicit(&histogram->max_us, memory_order_relaxed))
        atomic_store_explicit(&histogram->max_us, value, memory_order_relaxed);
}

void histogram_merge(struct histogram *to, const struct histogram *from)
{
    uint64_t max = histogram_max(from);

    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        add_relaxed(&to->counts[i], atomic_load_explicit(&from->counts[i], memory_order_relaxed));
    if (max > histogram_max(to))
        atomic_store_explicit(&to->max_us, max, memory_order_relaxed);
}

uint64_t histogram_count(const struct histogram *histogram)
{
    uint64_t n = 0;

    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        n += atomic_load_explicit(&histogram->counts[i], memory_order_relaxed);
    return n;
}

uint64_t histogram_max(const struct histogram *histogram)
{
    return atomic_load_explicit(&histogram->max_us, memory_order_relaxed);
}

uint64_t histogram_quantile(const struct histogram *histogram, double share)
{
    const uint64_t max = histogram_max(histogram);
    const double wanted = share * (double) histogram_count(histogram);
    uint64_t n = 0;

    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        n += atomic_load_explicit(&histogram->counts[i], memory_order_relaxed);
        if (n > 0 && (double) n >= wanted)
            return bucket_last(i) < max ? bucket_last(i) : max;
    }
    return max;
}

static int compare_doubles(const void *a, const void *b)
{
    const double left = *(const double *) a, right = *(const double *) b;

    return (left > right) - (left < right);
}

double stats_median(double *numbers, size_t n)
{
    qsort(numbers, n, sizeof(*numbers), compare_doubles);
    return n % 2 == 1 ? numbers[n / 2] : (numbers[n / 2 - 1] + numbers[n / 2]) / 2;
}

/* ---- /proc ---- */

/* The file's beginning as text; false when it cannot be read. */
static bool read_text(const char *path, char *to, size_t size)
{
    CLEANUP(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n;

    if (fd < 0)
        return false;
    n = read(fd, to, size - 1);
    if (n <= 0)
        return false;
    to[n] = '\0';
    return true;
}

int64_t stats_cpu_us(pid_t pid)
{
    char path[64], text[1024];
    const char *at;
    char *end;
    uint64_t ticks;

    snprintf(path, sizeof(path), "/proc/%ld/stat", (long) pid);
    if (!read_text(path, text, sizeof(text)))
        return -1;
    /* The name is in parentheses and may hold anything: fields 14 and 15 are counted behind the
     * last one. */
    at = strrchr(text, ')');
    for (int field = 2; field < 14 && at; field++)
        at = strchr(at + 1, ' ');
    if (!at)
        return -1;
    ticks = strtoull(at, &end, 10);
    ticks += strtoull(end, NULL, 10);
    return (int64_t) (ticks * 1000000 / (uint64_t) sysconf(_SC_CLK_TCK));
}

uint64_t stats_resident_bytes(pid_t pid)
{
    char path[64], text[256];
    const char *resident;

    snprintf(path, sizeof(path), "/proc/%ld/statm", (long) pid);
    if (!read_text(path, text, sizeof(text)))
        return 0;
    resident = strchr(text, ' ');
    return resident ? strtoull(resident, NULL, 10) * (uint64_t) sysconf(_SC_PAGESIZE) : 0;
}

/* Takes the descriptor. */
static uint64_t disk_bytes(int fd)
{
    DIR *directory = fdopendir(fd);
    uint64_t n_bytes = 0;

    if (!directory) {
        close(fd);
        return 0;
    }
    for (const struct dirent *entry = readdir(directory); entry; entry = readdir(directory)) {
        struct stat st;

        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
            fstatat(dirfd(directory), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        n_bytes += (uint64_t) st.st_blocks * 512;
        if (S_ISDIR(st.st_mode)) {
            int below = openat(dirfd(directory), entry->d_name,
                               O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

            n_bytes += below < 0 ? 0 : disk_bytes(below);
        }
    }
    closedir(directory);
    return n_bytes;
}

uint64_t stats_disk_bytes(const char *directory)
{
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    return fd < 0 ? 0 : disk_bytes(fd);
}
