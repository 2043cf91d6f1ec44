/*
 * The kernel's TCP as peer and as rival, without an interpreter in its way.
 *
 *     kernel_peer serve PORT                                servers on PORT and the following ports, until stdin ends
 *     kernel_peer KIND HOST PORT SECONDS WARM COUNT CC      one run; a line of JSON tells what was done
 *
 * The servers, by their port's distance from PORT:
 *
 *     0 sink         takes everything, then closes        4 echo, many   any number of connections, by epoll
 *     1 source       sends with cubic until it is cut     5 greet        one byte there and back, one after the other
 *     2 source, bbr  the same with bbr                    6 greet, many  the same for any number at once
 *     3 echo         a process for each connection
 *
 * The kinds of runs: in, out (bulk), ping, ping-many (COUNT connections, a byte under way on each), connect, connect-many
 * (open, a byte there and back, close; COUNT at once), idle-in and idle-ping (the same alone, and among COUNT idle ones),
 * calls (as connect-many, but this end closes first: the load for a server).
 *
 * Who opens a connection to `greet` says by its byte who closes it first: 'S' the server, 'C' the client.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "figures.h"

enum { EVENTS = 256, BACKLOG = 4096 };

static char buffer[CHUNK];

/* --- sockets -------------------------------------------------------------------------------------------------------- */

static void choose(int fd, const char *cc) {
    int yes = 1;
    if (setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, cc, strlen(cc)) < 0)
        die(cc);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
}

static struct sockaddr_in address(const char *host, int port) {
    struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons(port)};
    if (inet_pton(AF_INET, host, &there.sin_addr) != 1)
        die(host);
    return there;
}

static int connected(const struct job *job, const char *cc) {
    struct sockaddr_in there = address(job->host, job->port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        die("socket");
    choose(fd, cc);
    if (connect(fd, (struct sockaddr *)&there, sizeof there) < 0)
        die("connect");
    return fd;
}

static int listening(int port, const char *cc, int flags) {
    struct sockaddr_in here = address("0.0.0.0", port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0), yes = 1;
    if (fd < 0)
        die("socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    choose(fd, cc);
    if (bind(fd, (struct sockaddr *)&here, sizeof here) < 0 || listen(fd, BACKLOG) < 0)
        die("listen");
    return fd;
}

static void watch(int poll, int op, int fd, uint32_t events) {
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (epoll_ctl(poll, op, fd, &event) < 0)
        die("epoll_ctl");
}

static void all_files(void) {
    struct rlimit limit = {1 << 20, 1 << 20};
    setrlimit(RLIMIT_NOFILE, &limit);
}

/* --- servers -------------------------------------------------------------------------------------------------------- */

static void sink(int fd) {
    while (recv(fd, buffer, sizeof buffer, 0) > 0)
        ;
}

static void source(int fd) {
    while (send(fd, buffer, sizeof buffer, MSG_NOSIGNAL) > 0)
        ;
}

static void echo(int fd) {
    ssize_t count;
    while ((count = recv(fd, buffer, sizeof buffer, 0)) > 0)
        if (send(fd, buffer, count, MSG_NOSIGNAL) < 0)
            return;
}

static void greet(int fd) {
    char byte;
    if (recv(fd, &byte, 1, 0) != 1 || send(fd, &byte, 1, MSG_NOSIGNAL) != 1)
        return;
    if (byte == 'C')
        recv(fd, &byte, 1, 0);
}

/* A process for each connection: one whose peer has vanished is in nobody's way. */
static void serve_apart(int port, const char *cc, void (*serve)(int)) {
    int listener = listening(port, cc, 0);
    signal(SIGCHLD, SIG_IGN);
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0)
            continue;
        if (fork() == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            close(listener);
            serve(fd);
            _exit(0);
        }
        close(fd);
    }
}

/* One after the other: one whose peer has vanished (its device went with it) holds up the others for a second. */
static void serve_in_turn(int port, void (*serve)(int)) {
    int listener = listening(port, "cubic", 0);
    struct timeval patience = {1, 0};
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0)
            continue;
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        serve(fd);
        close(fd);
    }
}

/* What waits on one connection of many; 0 when it is to be closed. */
static int answer(int fd, int greeting) {
    ssize_t count = recv(fd, buffer, sizeof buffer, 0);
    if (count <= 0)
        return count < 0 && errno == EAGAIN;
    if (send(fd, buffer, count, MSG_NOSIGNAL) < 0)
        return 0;
    return !(greeting && buffer[0] == 'S');
}

static void serve_many(int port, int greeting) {
    struct epoll_event events[EVENTS];
    int listener = listening(port, "cubic", SOCK_NONBLOCK), poll = epoll_create1(EPOLL_CLOEXEC);
    all_files();
    watch(poll, EPOLL_CTL_ADD, listener, EPOLLIN);
    for (;;) {
        int count = epoll_wait(poll, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd != listener) {
                if (!answer(fd, greeting))
                    close(fd);
                continue;
            }
            while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
                watch(poll, EPOLL_CTL_ADD, fd, EPOLLIN);
        }
    }
}

static void serve(int port) {
    char byte;
    for (int which = 0; which < 7; which++) {
        if (fork() != 0)
            continue;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        switch (which) {
        case 0: serve_apart(port, "cubic", sink); break;
        case 1: serve_apart(port + 1, "cubic", source); break;
        case 2: serve_apart(port + 2, "bbr", source); break;
        case 3: serve_apart(port + 3, "cubic", echo); break;
        case 4: serve_many(port + 4, 0); break;
        case 5: serve_in_turn(port + 5, greet); break;
        case 6: serve_many(port + 6, 1); break;
        }
        _exit(1);
    }
    for (int which = 0; which < 7; which++) { /* all of them listen */
        struct sockaddr_in here = address("127.0.0.1", port + which);
        for (;;) {
            int fd = socket(AF_INET, SOCK_STREAM, 0);
            int done = connect(fd, (struct sockaddr *)&here, sizeof here) == 0;
            close(fd);
            if (done)
                break;
            usleep(1000);
        }
    }
    puts("{\"ready\": true}");
    fflush(stdout);
    while (read(0, &byte, 1) > 0)
        ;
    signal(SIGTERM, SIG_IGN);
    kill(0, SIGTERM); /* the program is the leader of its own process group */
}

/* --- runs ----------------------------------------------------------------------------------------------------------- */

static void bulk_in(int fd, const struct job *job, struct count *count) {
    double until = now() + job->warm + job->seconds, at;
    count_begin(count, job->warm);
    while ((at = now()) < until) {
        ssize_t got = recv(fd, buffer, sizeof buffer, 0);
        if (got <= 0)
            die("recv");
        count_add(count, got, at);
    }
}

static void bulk_out(int fd, const struct job *job, struct count *count) {
    double until = now() + job->warm + job->seconds, at;
    count_begin(count, job->warm);
    while ((at = now()) < until) {
        if (send(fd, buffer, sizeof buffer, 0) != sizeof buffer)
            die("send");
        count_add(count, sizeof buffer, at);
    }
    shutdown(fd, SHUT_WR);
    if (recv(fd, buffer, 1, 0) != 0) /* the sink closes when it has everything */
        die("the sink's end");
}

static void ping(int fd, const struct job *job, struct count *count) {
    double until = now() + job->warm + job->seconds, at;
    count_begin(count, job->warm);
    while ((at = now()) < until) {
        if (send(fd, buffer, 1, 0) != 1 || recv(fd, buffer, 1, 0) != 1)
            die("ping");
        count_add(count, 1, at);
    }
}

static void ping_many(const struct job *job, struct count *count) {
    struct epoll_event events[EVENTS];
    int poll = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < job->count; i++) {
        int fd = connected(job, "cubic");
        watch(poll, EPOLL_CTL_ADD, fd, EPOLLIN);
        if (send(fd, buffer, 1, 0) != 1)
            die("send");
    }
    double until = now() + job->warm + job->seconds, at;
    count_begin(count, job->warm);
    while ((at = now()) < until) {
        int ready = epoll_wait(poll, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (recv(fd, buffer, 1, 0) != 1 || send(fd, buffer, 1, 0) != 1)
                die("ping");
        }
        count_add(count, ready, at);
    }
}

static void connects(const struct job *job, struct count *count) {
    double until = now() + job->warm + job->seconds, at;
    char byte = 'S';
    count_begin(count, job->warm);
    while ((at = now()) < until) {
        int fd = connected(job, "cubic");
        if (send(fd, &byte, 1, 0) != 1 || recv(fd, buffer, 1, 0) != 1 || recv(fd, buffer, 1, 0) != 0)
            die("greeting");
        close(fd);
        count_add(count, 1, at);
    }
}

/* Begin one of many; it is heard of when it is connected. */
static void call(int poll, const struct job *job) {
    struct sockaddr_in there = address(job->host, job->port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    choose(fd, "cubic");
    if (connect(fd, (struct sockaddr *)&there, sizeof there) < 0 && errno != EINPROGRESS)
        die("connect");
    watch(poll, EPOLL_CTL_ADD, fd, EPOLLOUT);
}

/* `count` at once; `byte` says who closes first. */
static void calls(const struct job *job, struct count *count, char byte) {
    struct epoll_event events[EVENTS];
    int poll = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < job->count; i++)
        call(poll, job);
    double until = now() + job->warm + job->seconds, at;
    count_begin(count, job->warm);
    while ((at = now()) < until) {
        int ready = epoll_wait(poll, events, EVENTS, 1000);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (events[i].events & EPOLLOUT) {
                if (send(fd, &byte, 1, 0) != 1)
                    die("connect");
                watch(poll, EPOLL_CTL_MOD, fd, EPOLLIN);
                continue;
            }
            ssize_t got = recv(fd, buffer, sizeof buffer, 0);
            if (got < 0)
                die("greeting");
            if (got > 0 && byte == 'S')
                continue; /* the server's end follows */
            close(fd);
            count_add(count, 1, at);
            call(poll, job);
        }
    }
}

/* Kilobytes of the kernel's own memory (/proc/meminfo, Slab). */
static long slab(void) {
    char line[256];
    long kilobytes = 0;
    FILE *file = fopen("/proc/meminfo", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "Slab: %ld", &kilobytes) == 1)
            break;
    if (file != NULL)
        fclose(file);
    return kilobytes;
}

/* `run` alone, then among `count` idle connections to the port of many echoes; both ends' memory is the kernel's. */
static void among_idle(const struct job *job, struct count *count, int distance,
                       void (*run)(int, const struct job *, struct count *)) {
    struct job idle = *job, alone = *job;
    char more[128];
    int fd;
    idle.port = job->port - distance + 4;
    all_files();
    fd = connected(&alone, "cubic");
    run(fd, &alone, count);
    double rate = count->amount / (now() - count->began);
    close(fd);
    long before = slab();
    for (int i = 0; i < job->count; i++) {
        int one = connected(&idle, "cubic");
        if (send(one, buffer, 1, 0) != 1 || recv(one, buffer, 1, 0) != 1)
            die("idle");
    }
    double each = (slab() - before) * 1024.0 / 2 / job->count;
    fd = connected(job, "cubic");
    run(fd, job, count);
    snprintf(more, sizeof more, ", \"alone\": %.3f, \"bytes_each\": %.0f", rate, each);
    count_say(count, more);
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN);
    if (argc == 3 && strcmp(argv[1], "serve") == 0) {
        serve(atoi(argv[2]));
        return 0;
    }
    if (argc != 8) {
        fprintf(stderr, "usage: kernel_peer serve PORT | KIND HOST PORT SECONDS WARM COUNT CC\n");
        return 2;
    }
    struct job job = {argv[1], argv[2], atoi(argv[3]), atof(argv[4]), atof(argv[5]), atoi(argv[6])};
    struct count count;
    const char *cc = argv[7];
    if (strcmp(job.kind, "in") == 0)
        bulk_in(connected(&job, cc), &job, &count);
    else if (strcmp(job.kind, "out") == 0)
        bulk_out(connected(&job, cc), &job, &count);
    else if (strcmp(job.kind, "ping") == 0)
        ping(connected(&job, cc), &job, &count);
    else if (strcmp(job.kind, "ping-many") == 0)
        ping_many(&job, &count);
    else if (strcmp(job.kind, "connect") == 0)
        connects(&job, &count);
    else if (strcmp(job.kind, "connect-many") == 0)
        calls(&job, &count, 'S');
    else if (strcmp(job.kind, "calls") == 0)
        calls(&job, &count, 'C');
    else if (strcmp(job.kind, "idle-in") == 0) {
        among_idle(&job, &count, 1, bulk_in);
        return 0;
    } else if (strcmp(job.kind, "idle-ping") == 0) {
        among_idle(&job, &count, 3, ping);
        return 0;
    } else {
        fprintf(stderr, "there is no run %s\n", job.kind);
        return 2;
    }
    count_say(&count, "");
    return 0;
}
