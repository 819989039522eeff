/* A web page sends no signals. */
#pragma once

enum { SIGHUP = 1, SIGINT = 2, SIGQUIT = 3, SIGBUS = 7, SIGPIPE = 13, SIGTERM = 15,
    SIGXFSZ = 25 };
enum { SIG_BLOCK, SIG_SETMASK };
#define SIG_DFL ((void (*)(int))0)
#define SIG_IGN ((void (*)(int))0)

typedef int sig_atomic_t, sigset_t;

static inline void (*signal(int number, void (*handler)(int)))(int) {
    (void)number; return handler;
}
static inline int sigfillset(sigset_t *set) { return *set = 0; }
static inline int sigprocmask(int how, const sigset_t *set, sigset_t *before) {
    (void)how; (void)set; (void)before; return 0;
}
