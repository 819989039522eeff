/* Fuzzes ./qwen with model files (clang's libFuzzer): each input is a .bin, and the file's last
 * byte says what the program does with it, at a terminal or not. It may refuse, but not crash.
 * fuzz.sh builds and runs it.
 *
 * The file and each buffer lie in blocks of the heap of their own, so that AddressSanitizer sees
 * one byte too far. The end of the program is a jump back to here.
 */
#define _GNU_SOURCE
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

enum { MOST_MEMORY = 1 << 26 };         // larger blocks can't be had, as if address space ran out

static const uint8_t *input;
static size_t input_size;
static jmp_buf program_end;
static void *blocks[4096];              // all that the program has from the heap
static size_t n_blocks;

/* Writes down a new block, in place of an old one if there is one; NULL if it can't be had. */
static void *take_block(void *old, void *new) {
    size_t i = 0;
    while (i < n_blocks && (!old || blocks[i] != old)) i++;
    if (i == sizeof blocks / sizeof *blocks) abort();
    if (i == n_blocks && new) n_blocks++;
    if (new) blocks[i] = new;
    return new;
}

static void *fuzz_calloc(size_t count, size_t size) {
    return take_block(NULL, count <= MOST_MEMORY / (size + !size) ? calloc(count, size) : NULL);
}

static void *fuzz_malloc(size_t size) {
    return take_block(NULL, size <= MOST_MEMORY ? malloc(size) : NULL);
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
#define malloc fuzz_malloc
#define realloc fuzz_realloc
#define free fuzz_free
#define open(...) 0
#define close(descriptor) (void)(descriptor)
#define fstat(descriptor, status) fuzz_fstat(status)
#define mmap(address, size, protection, flags, descriptor, offset) fuzz_mmap(size, descriptor)
#define signal(number, action) (void)(action)
#define isatty(descriptor) (input[input_size - 1] % 2)
#define atexit(function) (void)(function)
#define exit(status) longjmp(program_end, (status) + 1)
#define main qwen_main
#undef _GNU_SOURCE
#undef _DARWIN_C_SOURCE
#include "../qwen.c"
#undef main
#undef exit
#undef free

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);

#define PROMPT "It's 3.14, hello  world\n\n\xe8\x8b\xb9\xe6\x9e\x9c\xe6\x98\xaf e\xcc\x81" \
               "\xcc\xa3 \xed\x95\x9c <|im_end|>\xff <think>"

static char no_options[sizeof opt];     // what the command line is before it is read

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    memcpy(no_options, &opt, sizeof opt);
    // The one buffer that lasts longer than a run gets all the room that it may need.
    static const uint16_t block[ADDED / 256], chars[256];
    static char spaces[1 << 20];
    const Model m = { .tokenizer = { .block = block, .chars = chars } };
    memset(spaces, ' ', sizeof spaces);
    visible(&m, (Bytes){ spaces, sizeof spaces }, FLOWING, INT_MAX);
    n_blocks = 0;
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static char *commands[][16] = {
        { "-p", PROMPT, "-n", "3", "--seed", "1" },
        { "-p", PROMPT, "-n", "3", "-m", "base", "--watch", "--top", "2", "--temp", "1" },
        { "-p", PROMPT, "-p", "hi", "-n", "3", "--plain" },
        { "-p", PROMPT, "-n", "3", "--compare", "m.bin" },
        { "-p", "It's", "-c", "99", "-m", "base", "--score" },
        { "-p", "It's", "-c", "199", "--answer", PROMPT },
        { "--info" },
    };
    if (size == 0) return 0;
    char **command = commands[data[size - 1] / 2 % (sizeof commands / sizeof *commands)];
    char *arguments[20] = { "qwen", "m.bin", "-t", "1" };
    int n = 4;
    while (*command) arguments[n++] = *command++;
    input = data;
    input_size = size;
    memcpy(&opt, no_options, sizeof opt);
    switch (setjmp(program_end)) {
    case 0: if (qwen_main(n, arguments) != 0) abort(); break;
    case 1: case 2: break;              // exit(0), and exit(1) for a file that is refused
    default: abort();
    }
    while (n_blocks > 0) free(blocks[--n_blocks]);
    return 0;
}

/* ---------------------------------------------------------------------------------------------
 * Mutations that get past the first checks
 * ------------------------------------------------------------------------------------------- */

static uint64_t tensor_end(uint64_t end, uint64_t rows, uint64_t row_size) {
    return (end + 63) / 64 * 64 + rows * row_size;
}

/* Where the weights end by the header; 0 if it names sizes that are far too large. */
static uint64_t weights_end(const Header *h) {
    const int sizes[] = { h->dim, h->hidden_dim, h->n_layers, h->n_heads, h->n_kv_heads,
                          h->head_dim };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (sizes[i] < 1 || sizes[i] > 1 << 12) return 0;
    if (h->n_layers > 64 || h->vocab_size < 1 || h->vocab_size > 1 << 24) return 0;
    const WeightType *type = &weight_types[h->weight_type == INT8 ? INT8 : BF16];
    int q_dim = h->n_heads * h->head_dim, kv_dim = h->n_kv_heads * h->head_dim;
    const int outputs[] = { q_dim, kv_dim, kv_dim };
    size_t number = sizeof(float), row = type->row_size(h->dim);
    uint64_t end = tensor_end(h->weights_offset, (uint64_t)h->vocab_size, row);
    for (int layer = 0; layer < h->n_layers; layer++) {
        end = tensor_end(end, (uint64_t)h->dim, number);
        for (int i = 0; i < 3; i++) {
            end = tensor_end(end, (uint64_t)outputs[i], row);
            if (h->qkv_bias == 1) end = tensor_end(end, (uint64_t)outputs[i], number);
        }
        for (int i = 0; i < 2 && h->qk_norm == 1; i++)
            end = tensor_end(end, (uint64_t)h->head_dim, number);
        end = tensor_end(end, (uint64_t)h->dim, type->row_size(q_dim));
        end = tensor_end(end, (uint64_t)h->dim, number);
        end = tensor_end(end, (uint64_t)h->hidden_dim, row);
        end = tensor_end(end, (uint64_t)h->hidden_dim, row);
        end = tensor_end(end, (uint64_t)h->dim, type->row_size(h->hidden_dim));
    }
    end = tensor_end(end, (uint64_t)h->dim, number);
    return h->tied == 1 ? end : tensor_end(end, (uint64_t)h->vocab_size, row);
}

/* Makes magic, version, offsets and sizes agree, and the file as long as the header says. */
static size_t make_consistent(uint8_t *data, size_t size, size_t max_size) {
    Header h;
    memcpy(&h, data, sizeof h);
    memcpy(h.magic, "qwen.c\n", sizeof h.magic);
    h.version = 2;
    h.tokenizer_offset = h.header_size = sizeof h;
    if (h.tokenizer_size > size - sizeof h) h.tokenizer_size = size - sizeof h;
    h.weights_offset = (sizeof h + h.tokenizer_size + 63) / 64 * 64;
    uint64_t end = weights_end(&h);
    if (end > sizeof h && end <= max_size) {
        for (; size < end; size++) data[size] = data[size / 2];
        size = end;
    }
    h.file_size = size;
    h.weights_size = size - h.weights_offset;
    memcpy(data, &h, sizeof h);
    return size;
}

static size_t choose(uint64_t *state, size_t n) {
    return (size_t)(random_uniform(state) * (double)n);
}

/* Sets some of the numbers of the header, of the tokenizer's counts, or of the whole file to what
 * may be a limit of something, or leaves the change of some bytes to libFuzzer. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed) {
    static const uint32_t limits[] = {
        0, 1, 2, 3, 8, 15, 16, 17, 63, 64, 65, 255, 256, 257, 4096, 4097, 65535, 65536, 1 << 20,
        (1 << 20) + 1, 0x10FFFF, 0x110000, 1 << 24, (1 << 24) + 1, 0x7F7FFFFF, 0x7F800000,
        0x7FC00000, 0x7FFFFFFF, 0x80000000, 0xC0000000, 0xFF800000, 0xFFFFFFFE, 0xFFFFFFFF };
    enum { HEADER = sizeof(Header), COUNTS = HEADER + 32, WHOLE = HEADER + 64 };
    static const struct { size_t begin, end; } parts[] = {
        { 56, 316 }, { 56, 316 }, { HEADER, COUNTS }, { 0, SIZE_MAX }, { 0, SIZE_MAX } };
    uint64_t state = seed;
    for (size_t n = 1 + choose(&state, 3); n > 0; n--) {
        size_t part = choose(&state, 6);
        if (size < WHOLE) return LLVMFuzzerMutate(data, size, max_size);
        if (part == 5) {
            size_t place = choose(&state, size - 32);
            LLVMFuzzerMutate(data + place, 32, 32);
            continue;
        }
        size_t begin = parts[part].begin, end = parts[part].end;
        if (end > size) end = size;
        uint8_t *at = data + (begin + choose(&state, end - begin - 3)) / 4 * 4;
        uint32_t value;
        memcpy(&value, at, sizeof value);
        size_t limit = choose(&state, sizeof limits / sizeof *limits);
        switch (choose(&state, 6)) {
        case 0: case 1: case 2: value = limits[limit]; break;
        case 3: value += (uint32_t)choose(&state, 5) - 2; break;
        case 4: value ^= 1u << choose(&state, 32); break;
        default: value = (uint32_t)choose(&state, (size_t)1 << 32);
        }
        memcpy(at, &value, sizeof value);
    }
    if (size < WHOLE || choose(&state, 20) == 0) return size;
    return make_consistent(data, size, max_size);
}
