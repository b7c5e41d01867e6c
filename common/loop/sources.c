/* SPDX-License-Identifier: Apache-2.0 */

/* The parts that are files of the kernel with a meaning: wake-ups (eventfd) and signals (signalfd).
 */
#include "common/loop/loop.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "common/base/ensure.h"
#include "common/base/fault.h"
#include "common/base/file.h"

static void on_wakeup(struct loop_file *file, uint32_t events)
{
    struct loop_wakeup *wakeup = container_of(file, struct loop_wakeup, file);
    uint64_t n_fires;

    (void) events;
    /* Emptied before the call: a fire during it is not lost. */
    if (read(file->fd, &n_fires, sizeof(n_fires)) == (ssize_t) sizeof(n_fires))
        wakeup->fn(wakeup);
}

/* Adds the file, and closes it when that fails. */
static int add_source(struct loop *loop, struct loop_file *file)
{
    int r = loop_file_add(loop, file);

    if (r < 0)
        fd_closep(&file->fd);
    return pass(r);
}

/* A part that was never added is all zero, and fd 0 is not its own. */
static void remove_source(struct loop *loop, struct loop_file *file)
{
    if (!file->is_added)
        return;
    loop_file_remove(loop, file);
    fd_closep(&file->fd);
}

int loop_wakeup_add(struct loop *loop, struct loop_wakeup *wakeup)
{
    ensure(wakeup->fn && !wakeup->file.is_added);

    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    if (fd < 0)
        return fault(-errno, "cannot make an eventfd");
    wakeup->file = (struct loop_file){ .fd = fd, .events = EPOLLIN, .fn = on_wakeup };
    return pass(add_source(loop, &wakeup->file));
}

void loop_wakeup_remove(struct loop *loop, struct loop_wakeup *wakeup)
{
    remove_source(loop, &wakeup->file);
}

void loop_wakeup_fire(struct loop_wakeup *wakeup)
{
    static const uint64_t one = 1;
    int saved = errno;

    /* It can only be full, and then it is readable already. */
    if (write(wakeup->file.fd, &one, sizeof(one)) < 0)
        ensure(errno == EAGAIN);
    errno = saved;
}

static void on_signal(struct loop_file *file, uint32_t events)
{
    struct loop_signals *signals = container_of(file, struct loop_signals, file);
    struct signalfd_siginfo info;

    (void) events;
    /* One: the callback may remove us. The next is reported in the next round. */
    if (read(file->fd, &info, sizeof(info)) == (ssize_t) sizeof(info))
        signals->fn(signals, (int) info.ssi_signo);
}

int loop_signals_add(struct loop *loop, struct loop_signals *signals, const int *numbers)
{
    sigset_t set;

    ensure(signals->fn && !signals->file.is_added);

    sigemptyset(&set);
    for (; *numbers; numbers++)
        ensure(sigaddset(&set, *numbers) == 0);

    int r = pthread_sigmask(SIG_BLOCK, &set, NULL);

    if (r != 0)
        return fault(-r, "cannot block signals");

    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);

    if (fd < 0)
        return fault(-errno, "cannot make a signalfd");
    signals->file = (struct loop_file){ .fd = fd, .events = EPOLLIN, .fn = on_signal };
    return pass(add_source(loop, &signals->file));
}

void loop_signals_remove(struct loop *loop, struct loop_signals *signals)
{
    remove_source(loop, &signals->file);
}
