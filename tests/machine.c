/* What this machine can do, for tests/bench.py to compare with: GB/s of plain reads of a mapped
 * FILE and GFLOP/s of float32 multiply-adds, with THREADS threads at once, each the best of a few
 * passes.
 *
 *     machine FILE THREADS
 */
#define _POSIX_C_SOURCE 200809L
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { SUMS = 96, STEPS = 2000000, PASSES = 4, MOST_THREADS = 1024 };

typedef struct {
    const uint64_t *words;
    size_t n;
    double result;                          // keeps a loop from being dropped
} Part;

static void *read_words(void *argument) {
    Part *part = argument;
    uint64_t sum = 0;
    for (size_t i = 0; i < part->n; i++) sum += part->words[i];
    part->result = (double)sum;
    return NULL;
}

/* 96 independent chains of multiply-adds: enough to hide the latency, few enough for registers. */
static void *multiply_add(void *argument) {
    Part *part = argument;
    float sums[SUMS], a = 0.999f + (float)part->n * 1e-30f, b = 0.001f;
    for (int lane = 0; lane < SUMS; lane++) sums[lane] = (float)lane;
    for (int step = 0; step < STEPS; step++)
        for (int lane = 0; lane < SUMS; lane++) sums[lane] = sums[lane] * a + b;
    for (int lane = 0; lane < SUMS; lane++) part->result += sums[lane];
    return NULL;
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static double fastest(void *work(void *), Part *parts, int n_threads) {
    double best = 1e9;
    for (int pass = 0; pass < PASSES; pass++) {
        pthread_t ids[MOST_THREADS];
        double start = seconds();
        for (int i = 1; i < n_threads; i++)
            if (pthread_create(&ids[i], NULL, work, &parts[i])) exit(1);
        work(&parts[0]);
        for (int i = 1; i < n_threads; i++) pthread_join(ids[i], NULL);
        double time = seconds() - start;
        if (time < best) best = time;
    }
    return best;
}

int main(int argc, char **argv) {
    static Part parts[MOST_THREADS];
    int n_threads = argc == 3 ? atoi(argv[2]) : 0, file = argc == 3 ? open(argv[1], O_RDONLY) : -1;
    struct stat status;
    if (n_threads < 1 || n_threads > MOST_THREADS || file < 0 || fstat(file, &status)) {
        fputs("usage: machine FILE THREADS\n", stderr);
        return 2;
    }
    size_t n = (size_t)status.st_size / sizeof(uint64_t) / (size_t)n_threads;
    const uint64_t *words = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, file, 0);
    if (words == MAP_FAILED) return perror(argv[1]), 1;
    for (int i = 0; i < n_threads; i++) parts[i] = (Part){ words + (size_t)i * n, n, 0 };
    double bytes = (double)n * sizeof(uint64_t) * n_threads;
    double operations = 2.0 * SUMS * STEPS * n_threads;
    double read_time = fastest(read_words, parts, n_threads);
    double multiply_time = fastest(multiply_add, parts, n_threads);
    printf("%.2f %.2f\n", bytes / read_time * 1e-9, operations / multiply_time * 1e-9);
    return 0;
}
