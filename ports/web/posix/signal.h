/* A web page sends no signals. */
#pragma once

enum { SIGHUP = 1, SIGINT = 2, SIGQUIT = 3, SIGBUS = 7, SIGPIPE = 13, SIGTERM = 15 };
enum { SA_RESTART, SIG_BLOCK, SIG_SETMASK };
#define SIG_DFL ((void (*)(int))0)
#define SIG_IGN ((void (*)(int))0)

typedef int sig_atomic_t, sigset_t;
struct sigaction {
    void (*sa_handler)(int);
    sigset_t sa_mask;
    int sa_flags;
};

static inline void (*signal(int number, void (*handler)(int)))(int) {
    (void)number; return handler;
}
static inline int sigaction(int number, const struct sigaction *new, struct sigaction *old) {
    (void)number; (void)new; (void)old; return 0;
}
static inline int sigemptyset(sigset_t *set) { return *set = 0; }
static inline int sigfillset(sigset_t *set) { return *set = 0; }
static inline int sigprocmask(int how, const sigset_t *set, sigset_t *before) {
    (void)how; (void)set; (void)before; return 0;
}
