/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A clock that is set wrong: preloaded into a program, it adds the seconds that the file
 * $SENTINEL_CLOCK_SHIFT says to CLOCK_REALTIME. The file is read each time, so that a test can set
 * the clock right. Other clocks are as they are.
 */

#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

static time_t shift(void)
{
    const char *path = getenv("SENTINEL_CLOCK_SHIFT");
    char text[32];
    ssize_t n;
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;

    if (fd < 0)
        return 0;
    n = read(fd, text, sizeof(text) - 1);
    close(fd);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    return (time_t) strtol(text, NULL, 10);
}

EXPORT int clock_gettime(clockid_t clock, struct timespec *ret)
{
    int r = (int) syscall(SYS_clock_gettime, clock, ret);

    if (r == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        ret->tv_sec += shift();
    return r;
}

EXPORT int gettimeofday(struct timeval *restrict ret, void *restrict zone)
{
    struct timespec now;
    int r = clock_gettime(CLOCK_REALTIME, &now);

    (void) zone;
    ret->tv_sec = now.tv_sec;
    ret->tv_usec = now.tv_nsec / 1000;
    return r;
}

EXPORT time_t time(time_t *ret)
{
    struct timespec now;

    if (clock_gettime(CLOCK_REALTIME, &now) != 0)
        return (time_t) -1;
    if (ret)
        *ret = now.tv_sec;
    return now.tv_sec;
}
