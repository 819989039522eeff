/* WebAssembly has no mmap. Memory is allocated, a file is read into it. */
#pragma once
#include <stdlib.h>
#include <unistd.h>

enum { PROT_READ = 1, PROT_WRITE = 2 };
enum { MAP_SHARED = 1, MAP_PRIVATE = 2, MAP_ANONYMOUS = 4, MAP_NORESERVE = 8 };
#define MAP_FAILED ((void *)-1)

static inline void *mmap(void *at, size_t size, int protection, int flags, int file, off_t begin) {
    char *memory = calloc(1, size);
    ssize_t n = 1;
    (void)at; (void)protection; (void)begin;
    for (size_t i = 0; memory && file >= 0 && i < size && n > 0; i += (size_t)n)
        n = read(file, memory + i, size - i);
    (void)flags;
    return memory && n > 0 ? memory : MAP_FAILED;
}
