/* Fuzzes ./qwen with model files (clang's libFuzzer): each input is a .bin, which the program describes, continues a
 * text with, answers a prompt with or scores one with, at a terminal or not, as the file's last byte has it. It may
 * refuse, but not crash.
 *
 *     clang -std=c11 -g -O1 -fsanitize=fuzzer,address,undefined,float-cast-overflow -fno-sanitize-recover=all \
 *         tests/fuzz_model.c -o fuzz_model -lm -pthread
 *     ./fuzz_model -close_fd_mask=3 -detect_leaks=0 -max_len=400000 DIRECTORY      (which holds a few small .bin to begin with)
 *
 * The file and each buffer lie in blocks of the heap of their own, so that AddressSanitizer sees one byte too far;
 * the end of the program is a jump back to here.
 */
#define _DEFAULT_SOURCE
#define _DARWIN_C_SOURCE
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MOST_MEMORY = 1 << 26 };             // larger blocks can't be had, as if address space ran out

static const uint8_t *input;
static size_t input_size;
static jmp_buf program_end;
static void *blocks[4096];                  // all that the program has from the heap
static size_t n_blocks;

static void *take_block(void *old, void *new) {
    size_t i = 0;
    while (i < n_blocks && (!old || blocks[i] != old)) i++;
    if (i == sizeof blocks / sizeof *blocks) abort();
    if (i == n_blocks && new) n_blocks++;
    if (new) blocks[i] = new;
    return new;
}

static void *fuzz_calloc(size_t count, size_t size) {
    return take_block(NULL, count <= MOST_MEMORY / size ? calloc(count, size) : NULL);
}

static void *fuzz_realloc(void *block, size_t size) {
    return take_block(block, size <= MOST_MEMORY ? realloc(block, size) : NULL);
}

static void fuzz_free(void *block) {
    for (size_t i = 0; i < n_blocks; i++) if (blocks[i] == block) blocks[i] = blocks[--n_blocks];
    free(block);
}

static void *fuzz_mmap(size_t size, int descriptor) {
    void *file = NULL;
    if (descriptor < 0) file = fuzz_calloc(size, 1);
    else if (posix_memalign(&file, 64, size) == 0) memcpy(take_block(NULL, file), input, size);
    return file ? file : MAP_FAILED;
}

static int fuzz_fstat(struct stat *status) {
    *status = (struct stat){ .st_mode = S_IFREG, .st_size = (off_t)input_size };
    return 0;
}

#define calloc fuzz_calloc
#define realloc fuzz_realloc
#define free fuzz_free
#define open(path, flags) 0
#define close(descriptor) (void)(descriptor)
#define fstat(descriptor, status) fuzz_fstat(status)
#define mmap(address, size, protection, flags, descriptor, offset) fuzz_mmap(size, descriptor)
#define sigaction(number, action, old) (void)(action)
#define isatty(descriptor) (input[input_size - 1] / 4 % 2)
#define atexit(function) (void)(function)
#define exit(status) longjmp(program_end, (status) + 1)
#define main qwen_main
#undef _DEFAULT_SOURCE
#undef _DARWIN_C_SOURCE
#include "../qwen.c"
#undef main
#undef exit
#undef free

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);

#define PROMPT "It's 3.14, hello  world\n\n\xe8\x8b\xb9\xe6\x9e\x9c\xe6\x98\xaf e\xcc\x81\xcc\xa3 \xed\x95\x9c <|im_end|>\xff"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static char *commands[][16] = {
        { "qwen", "m.bin", "-p", PROMPT, "-t", "1", "-n", "3", "--seed", "1" },
        { "qwen", "m.bin", "-p", PROMPT, "-t", "1", "-n", "3", "-m", "base", "--watch", "--temp", "1" },
        { "qwen", "m.bin", "-p", PROMPT, "-t", "1", "-c", "99", "-m", "base", "--score" },
        { "qwen", "m.bin", "--info" },
    };
    if (size == 0) return 0;
    char **command = commands[data[size - 1] % 4];
    int n = 0;
    while (n < 16 && command[n]) n++;
    input = data;
    input_size = size;
    switch (setjmp(program_end)) {
    case 0: if (qwen_main(n, command) != 0) abort(); break;
    case 1: case 2: break;                  // exit(0), and exit(1) for a file that is refused
    default: abort();
    }
    while (n_blocks > 0) free(blocks[--n_blocks]);
    return 0;
}

/* ---------------------------------------------------------------------------------------------
 * Mutations that get past the first checks
 * ------------------------------------------------------------------------------------------- */

/* Where the weights end by the header; 0 if it names sizes that the program refuses. */
static uint64_t weights_end(const Header *h, const uint8_t *data) {
    Model m = { .dim = (int)h->dim, .hidden_dim = (int)h->hidden_dim, .q_dim = (int)(h->n_heads * h->head_dim), .kv_dim = (int)(h->n_kv_heads * h->head_dim) };
    if (h->dim > 1 << 20 || h->hidden_dim > 1 << 20 || h->n_layers > 1 << 12 || h->n_heads > 1 << 12 || h->head_dim > 1 << 12
        || h->n_kv_heads > h->n_heads || h->vocab_size > 1 << 24) return 0;
    Cursor at = { .data = data, .offset = h->weights_offset, .type = h->weight_type == INT8 ? INT8 : BF16 };
    next_matrix(&at, (int)h->vocab_size, m.dim);
    for (uint32_t i = 0; i < h->n_layers; i++) next_layer(&at, &m);
    next_floats(&at, m.dim);
    if (!h->tied) next_matrix(&at, (int)h->vocab_size, m.dim);
    return at.offset;
}

/* Makes magic, version, offsets and sizes agree, and the file as long as its weights by the header. */
static size_t make_consistent(uint8_t *data, size_t size, size_t max_size) {
    Header h;
    memcpy(&h, data, sizeof h);
    memcpy(h.magic, "qwen.c\n", sizeof h.magic);
    h.version = 1;
    h.tokenizer_offset = h.header_size = sizeof h;
    if (h.tokenizer_size > size - sizeof h) h.tokenizer_size = size - sizeof h;
    h.weights_offset = (sizeof h + h.tokenizer_size + 63) / 64 * 64;
    uint64_t end = weights_end(&h, data);
    if (end > sizeof h && end <= max_size) {
        for (; size < end; size++) data[size] = data[size / 2];
        size = end;
    }
    h.file_size = size;
    h.weights_size = size - h.weights_offset;
    memcpy(data, &h, sizeof h);
    return size;
}

/* Sets one of the header's or the tokenizer's numbers, or one anywhere, to what may be a limit of something; or leaves
 * the change to libFuzzer. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed) {
    static const uint32_t limits[] = { 0, 1, 2, 3, 8, 15, 16, 17, 63, 64, 65, 255, 256, 257, 4096, 4097, 65535, 65536, 1 << 20, (1 << 20) + 1, 0x10FFFF, 0x110000,
        1 << 24, (1 << 24) + 1, 0x7F7FFFFF, 0x7F800000, 0x7FC00000, 0x7FFFFFFF, 0x80000000, 0xFF800000, 0xFFFFFFFE, 0xFFFFFFFF };
    uint64_t random = seed;
    for (int n = 1 + (int)(3 * random_uniform(&random)); n > 0; n--) {
        double choice = random_uniform(&random);
        size_t begin = choice < 0.4 ? 56 : choice < 0.55 ? 1024 : 0, end = choice < 0.4 ? 180 : choice < 0.55 ? 1056 : size;
        if (choice > 0.85 || size < 1056) { size = LLVMFuzzerMutate(data, size, max_size); continue; }
        uint32_t value;
        size_t at = (begin + (size_t)(random_uniform(&random) * (double)(end - begin - 3))) / 4 * 4;
        memcpy(&value, data + at, sizeof value);
        choice = random_uniform(&random);
        if (choice < 0.5) value = limits[(size_t)(random_uniform(&random) * (sizeof limits / sizeof *limits))];
        else if (choice < 0.7) value += (uint32_t)(random_uniform(&random) * 5) - 2;
        else if (choice < 0.9) value ^= 1u << (int)(random_uniform(&random) * 32);
        else value = (uint32_t)(random_uniform(&random) * 0x1p32);
        memcpy(data + at, &value, sizeof value);
    }
    if (size < 1088 || random_uniform(&random) < 0.05) return size;
    return make_consistent(data, size, max_size);
}
