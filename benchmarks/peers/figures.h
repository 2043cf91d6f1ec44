/* What every peer that is written in C tells about a run: times, and how busy the machine was meanwhile. */
#ifndef FIGURES_H
#define FIGURES_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { CHUNK = 256 << 10 }; /* bytes handed in or taken out at a time */

/* One run: what is done, with whom, for how long (after a time that does not count), with how many connections. */
struct job {
    const char *kind;
    const char *host;
    int port;
    double seconds;
    double warm;
    int count;
};

/* The monotonic clock, seconds. */
static inline double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec + at.tv_nsec / 1e9;
}

/* Seconds that all processors together were busy since boot (/proc/stat): user, nice, system, irq, softirq. */
static inline double busy(void) {
    unsigned long long user = 0, nice = 0, system = 0, idle = 0, iowait = 0, irq = 0, softirq = 0;
    FILE *file = fopen("/proc/stat", "r");
    if (file == NULL || fscanf(file, "cpu %llu %llu %llu %llu %llu %llu %llu", &user, &nice, &system, &idle, &iowait,
                               &irq, &softirq) != 7)
        user = 0;
    if (file != NULL)
        fclose(file);
    return (double)(user + nice + system + irq + softirq) / sysconf(_SC_CLK_TCK);
}

static inline void die(const char *what) {
    perror(what);
    exit(1);
}

/* What is counted: from the moment the warming up is over. */
struct count {
    double warm_until; /* 0: begins with the first thing counted */
    double began;
    double busy;
    uint64_t amount;
};

static inline void count_begin(struct count *count, double warm) {
    memset(count, 0, sizeof *count);
    count->warm_until = now() + warm;
}

/* `amount` more at the time `at`. */
static inline void count_add(struct count *count, uint64_t amount, double at) {
    if (count->began > 0)
        count->amount += amount;
    else if (at >= count->warm_until) {
        count->began = at;
        count->busy = busy();
    }
}

/* The line of JSON that ends a run. */
static inline void count_say(const struct count *count, const char *more) {
    printf("{\"amount\": %llu, \"seconds\": %.6f, \"cpu\": %.3f%s}\n", (unsigned long long)count->amount,
           now() - count->began, busy() - count->busy, more);
    fflush(stdout);
}

#endif
