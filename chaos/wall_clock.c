/* The wall clock of one process, moved: the machine's and the whole seconds that stand in a file.

   Preloaded (LD_PRELOAD) before the C library; CHAOS_WALL_CLOCK names the file: one int64_t, which may change at any
   time. Every other clock is left to the kernel. C11's timed wait, librdkafka's, has an instant of the wall clock for
   its end: it is waited for in slices, so that a step lengthens or ends a wait that is under way, as the kernel's does.
   So would pthread_cond_timedwait and sem_timedwait; nobody in a role has these wait for the wall clock. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>

#define SLICE_NANOSECONDS 20000000LL
#define SECOND 1000000000LL

static const volatile int64_t *moved;

__attribute__((constructor)) static void open_offset(void)
{
    const char *name = getenv("CHAOS_WALL_CLOCK");
    int file = name == NULL ? -1 : open(name, O_RDONLY | O_CLOEXEC);
    void *place = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *moved, PROT_READ, MAP_SHARED, file, 0);
    if (place == MAP_FAILED) {
        perror("CHAOS_WALL_CLOCK");
        abort();
    }
    moved = place;
}

static int64_t moved_seconds(void)
{
    /* Whoever is constructed before this library sees the machine's. */
    return moved == NULL ? 0 : *moved;
}

static int machine_gettime(clockid_t clock, struct timespec *now)
{
    static int (*real)(clockid_t, struct timespec *);
    if (real == NULL)
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    return real(clock, now);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int status = machine_gettime(clock, now);
    if (status == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += moved_seconds();
    return status;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec precise;
    (void)zone; /* obsolete, and ignored by Linux's C libraries */
    int status = clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return status;
}

time_t time(time_t *now)
{
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (now != NULL)
        *now = precise.tv_sec;
    return precise.tv_sec;
}

int timespec_get(struct timespec *now, int base)
{
    return base == TIME_UTC && clock_gettime(CLOCK_REALTIME, now) == 0 ? base : 0;
}

int cnd_timedwait(cnd_t *restrict condition, mtx_t *restrict mutex, const struct timespec *restrict until)
{
    static int (*real)(cnd_t *, mtx_t *, const struct timespec *);
    if (real == NULL)
        real = (int (*)(cnd_t *, mtx_t *, const struct timespec *))dlsym(RTLD_NEXT, "cnd_timedwait");
    struct timespec now;
    machine_gettime(CLOCK_REALTIME, &now);
    long long left = (until->tv_sec - now.tv_sec - moved_seconds()) * SECOND + until->tv_nsec - now.tv_nsec;
    long long slice = left > SLICE_NANOSECONDS ? SLICE_NANOSECONDS : left > 0 ? left : 0;
    long long end = now.tv_nsec + slice;
    struct timespec slice_until = {.tv_sec = now.tv_sec + end / SECOND, .tv_nsec = end % SECOND};
    int status = real(condition, mutex, &slice_until);
    /* Not over yet: woken for nothing, which C11 allows and every caller has to bear. */
    return status == thrd_timedout && left > slice ? thrd_success : status;
}
