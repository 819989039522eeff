/* A web page's program has one thread. */
#pragma once
#include <errno.h>

typedef int pthread_t, pthread_mutex_t, pthread_cond_t;

static inline int pthread_mutex_init(pthread_mutex_t *m, void *a) { (void)m; (void)a; return 0; }
static inline int pthread_mutex_lock(pthread_mutex_t *m) { (void)m; return 0; }
static inline int pthread_mutex_unlock(pthread_mutex_t *m) { (void)m; return 0; }
static inline int pthread_cond_init(pthread_cond_t *c, void *a) { (void)c; (void)a; return 0; }
static inline int pthread_cond_wait(pthread_cond_t *c, pthread_mutex_t *m) {
    (void)c; (void)m; return 0;
}
static inline int pthread_cond_broadcast(pthread_cond_t *c) { (void)c; return 0; }
static inline int pthread_create(pthread_t *t, void *a, void *(*run)(void *), void *argument) {
    (void)t; (void)a; (void)run; (void)argument; return EAGAIN;
}
static inline int pthread_detach(pthread_t t) { (void)t; return 0; }
