/* tokenizer.c: text <-> token ids, the byte-level BPE of Qwen.
 *
 * qwen.c includes this file. Compiled by itself it is a program. Read it from the top: text,
 * errors, memory, input and output; the file, a .bin's header byte by byte; the tokenizer, its
 * section of the file array by array; then the way from a text to ids: characters, NFC (one
 * spelling for each text), split (into words), BPE (merges a word's bytes to tokens), encode.
 */
#define _GNU_SOURCE                 // qwen.c needs mmap's MAP_NORESERVE, and sched_getaffinity
#define _DARWIN_C_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* -- Text ----------------------------------------------------------------------------------- */

/* Bytes are BAD if they are no UTF-8. They are CUT if more bytes could still make a character. */
typedef enum { UTF8_VALID, UTF8_BAD, UTF8_CUT } Utf8;

/* Decodes the character at s[n], n > 0, and returns how many bytes it takes. Bytes that are no
 * UTF-8 become U+FFFD, one for each longest beginning of a character, as in Python's
 * errors="replace". */
static size_t utf8_decode(const unsigned char *s, size_t n, uint32_t *c, Utf8 *kind) {
    *kind = UTF8_VALID;
    *c = s[0];
    if (s[0] < 0x80) return 1;
    size_t length = s[0] < 0xC2 ? 1 : s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : s[0] < 0xF5 ? 4 : 1;
    unsigned char low = 0x80, high = 0xBF;  // limits of the second byte; they exclude
    if (s[0] == 0xE0) low = 0xA0;           // overlong forms,
    if (s[0] == 0xF0) low = 0x90;
    if (s[0] == 0xED) high = 0x9F;          // surrogates,
    if (s[0] == 0xF4) high = 0x8F;          // and what is past U+10FFFF
    uint32_t code = s[0] & (0x7Fu >> length);
    size_t i = 1;
    for (; i < length && i < n && s[i] >= low && s[i] <= high; i++) {
        code = code << 6 | (s[i] & 0x3Fu);
        low = 0x80;
        high = 0xBF;
    }
    if (i == length && length > 1) { *c = code; return length; }
    *c = 0xFFFD;
    *kind = i == n && length > 1 ? UTF8_CUT : UTF8_BAD;
    return i;
}

/* Writes c to s[4] and returns how many bytes it takes. */
static size_t utf8_encode(unsigned char *s, uint32_t c) {
    if (c < 0x80) { s[0] = (unsigned char)c; return 1; }
    size_t length = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = length - 1; i > 0; i--, c >>= 6) s[i] = (unsigned char)(0x80 | (c & 0x3F));
    s[0] = (unsigned char)(0xF00 >> length | c);
    return length;
}

/* Whether a terminal may obey c: controls, line separators, and marks that turn the direction
 * of writing. */
static bool is_control(uint32_t c) {
    return c < 0x20 || (c >= 0x7F && c < 0xA0) || c == 0x61C || c == 0x200E || c == 0x200F
        || (c >= 0x2028 && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069);
}

/* Replaces in a line, in place, each character that a terminal may obey by a question mark, and
 * each byte that is no UTF-8. Names of files and flags may hold any bytes. */
static void make_harmless(char *line) {
    unsigned char *s = (unsigned char *)line;
    size_t n = strlen(line), kept = 0;
    for (size_t i = 0, length; i < n; i += length) {
        uint32_t c;
        Utf8 kind;
        length = utf8_decode(s + i, n - i, &c, &kind);
        bool harmless = kind == UTF8_VALID && !is_control(c);
        if (harmless) memmove(s + kept, s + i, length);
        else s[kept] = '?';
        kept += harmless ? length : 1;
    }
    s[kept] = 0;
}

/* -- Errors --------------------------------------------------------------------------------- */

static const char *program = "tokenizer";   // error lines begin with it
static char *unfinished;                    // the path of a file that is being written, or NULL

/* Ends the program with one line on standard error: what is wrong: where: what to do. */
static _Noreturn void die(int status, const char *format, ...) {
    char line[4096];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    make_harmless(line);
    fprintf(stderr, "%s: %s\n", program, line);
    exit(status);
}

/* Signal handlers call this, too. */
static void remove_unfinished(void) { if (unfinished) unlink(unfinished); }

/* -- Memory --------------------------------------------------------------------------------- */

/* Makes room in an array, which may move, for at least `needed` elements of a size. */
static void *grow(void *array, size_t *capacity, size_t needed, size_t size) {
    if (needed <= *capacity) return array;
    bool fits = needed <= SIZE_MAX / size / 2;
    *capacity = 2 * needed;
    array = fits ? realloc(array, *capacity * size) : NULL;
    if (!array) die(1, "out of memory: %zu times %zu bytes: use a shorter text", needed, size);
    return array;
}

typedef struct { int *id; size_t n, capacity; } Ids;         // token ids
typedef struct { uint64_t *key; size_t n, capacity; } Keys;  // numbers that are sorted by size
typedef struct { char *data; size_t n, capacity; } Text;     // bytes

static void push_id(Ids *ids, int id) {
    ids->id = grow(ids->id, &ids->capacity, ids->n + 1, sizeof *ids->id);
    ids->id[ids->n++] = id;
}

static void push_key(Keys *keys, uint64_t key) {
    keys->key = grow(keys->key, &keys->capacity, keys->n + 1, sizeof *keys->key);
    keys->key[keys->n++] = key;
}

static void push_bytes(Text *text, const void *bytes, size_t n) {
    text->data = grow(text->data, &text->capacity, text->n + n, 1);
    if (n > 0) memcpy(text->data + text->n, bytes, n);
    text->n += n;
}

/* -- Input and output ----------------------------------------------------------------------- */

/* A reader that closes the pipe early (`| head -1`) is a quiet end, a full disk an error. */
static void flush_output(void) {
    if (fflush(stdout) == 0 && !ferror(stdout)) return;
    if (errno == EPIPE) exit(0);
    die(1, "cannot write: standard output: %s", strerror(errno));
}

/* Reads standard input to its end. */
static Text read_input(void) {
    Text text = { 0 };
    char buffer[65536];
    while (!feof(stdin) && !ferror(stdin))
        push_bytes(&text, buffer, fread(buffer, 1, sizeof buffer, stdin));
    if (ferror(stdin)) die(1, "cannot read: standard input: %s", strerror(errno));
    return text;
}

/* Appends the ids that are written in a text. The text belongs to `flag`, which errors name. */
static void read_ids(const char *text, const char *flag, uint32_t vocab_size, Ids *ids) {
    static const char space[] = " \t\r\n";
    for (text += strspn(text, space); *text; text += strspn(text, space)) {
        size_t length = strcspn(text, space);
        unsigned long id = strtoul(text, NULL, 10);
        if (strspn(text, "0123456789") != length || id >= vocab_size)
            die(2, "not a token id from 0 to %u: %s %.*s: see --help",
                vocab_size - 1, flag, (int)length, text);
        push_id(ids, (int)id);
        text += length;
    }
}

/* -- The file ------------------------------------------------------------------------------
 *
 * A .bin is this header, the tokenizer section (described at Tokenizer) and the weights (described
 * in qwen.c). Numbers are little-endian. The tokenizer section begins where the header ends, the
 * weights at the next multiple of 64 after it. Unused bytes are zero. */

typedef struct {
    char magic[8];                          //    0  "qwen.c\n" and a NUL
    uint32_t version, header_size;          //    8  2, 1152
    uint64_t file_size;                     //   16  bytes of the whole file
    uint64_t tokenizer_offset, tokenizer_size;          // 24  1152, and its bytes
    uint64_t weights_offset, weights_size;  //   40  they end where the file ends
    int32_t weight_type, group_size;        //   56  0: bf16, 0; 1: int8, 64 columns to a scale
    int32_t dim, hidden_dim, n_layers;      //   64  width of the model, of its MLP
    int32_t n_heads, n_kv_heads, head_dim;  //   76  of queries; of keys, values; their width
    int32_t vocab_size, max_positions;      //   88  rows of the embedding; longest context
    int32_t tied;                           //   96  1: the embedding is the output matrix, too
    float rms_eps;                          //  100
    double rope_theta;                      //  104
    int32_t qkv_bias, qk_norm;              //  112  1: q, k, v have biases; 1: heads of q, k a norm
    int32_t kind, chatml;                   //  120  0: base, 1: chat; 1: chats are framed as ChatML
    int32_t opening;                        //  128  what opens an answer. 0: nothing,
                                            //       1: <|im_start|>assistant\n, 2: and <think>\n
    int32_t cuts_reasoning;                 //  132  1: earlier answers keep what follows </think>
    int32_t im_start, im_end, endoftext;    //  136  token ids
    int32_t tokenizer_eos;                  //  148  the tokenizer's own eos token, or 0xFFFFFFFF
    int32_t max_new_tokens, do_sample;      //  152  length of an answer, or 0; 1: sample, 0: greedy
    float temperature;                      //  160
    int32_t top_k;                          //  164  0: off
    float top_p, min_p, repetition_penalty; //  168
    int32_t n_eos, eos[32];                 //  180  token ids that end a generation
    int32_t system_size;                    //  312  bytes of the default system message
    char name[64], system[768];             //  316, 380  UTF-8; only the name ends in a NUL
} Header;                                   // 1148  and 4 bytes of padding

_Static_assert(sizeof(Header) == 1152, "the header is 1,152 bytes");

typedef struct {
    const char *path;
    const unsigned char *data;              // [size], mapped read-only
    size_t size;
    dev_t device;                           // with the inode: the same file under any name
    ino_t inode;
    const Header *header;
} File;

static char bus_line[1024];                 // what on_bus_error shows

/* A mapped page that is gone from its file raises SIGBUS. */
static void on_bus_error(int number) {
    (void)number;
    remove_unfinished();
    ssize_t ignored = write(STDERR_FILENO, bus_line, strlen(bus_line));
    (void)ignored;
    _exit(1);
}

/* Shows one line instead of a crash if a mapped file is cut short. There may be two files. */
static void watch_map(const char *path) {
    static const char *other;
    snprintf(bus_line, sizeof bus_line - 1, "%s: a file changed while it was read: %.400s%s%.400s: "
             "copy it again", program, other ? other : "", other ? " or " : "", path);
    make_harmless(bus_line);
    strcat(bus_line, "\n");
    other = path;
    signal(SIGBUS, on_bus_error);
}

/* Refuses a file that is not a whole .bin of this version. */
static void check_file(const File *file) {
    static const char pointer[] = "version https://git-lfs";
    const Header *h = file->header;
    const uint16_t one = 1;
    if (file->size >= sizeof pointer - 1 && memcmp(file->data, pointer, sizeof pointer - 1) == 0)
        die(1, "a Git LFS pointer instead of the file: %s: run git lfs pull", file->path);
    if (file->size < 16 || memcmp(h->magic, "qwen.c\n", sizeof h->magic) != 0)
        die(1, "not a model of this program: %s: make one with export.py", file->path);
    if (*(const unsigned char *)&one != 1)
        die(1, "this machine is not little-endian: %s: use another machine", file->path);
    if (h->version != 2 || h->header_size != sizeof *h)
        die(1, "version %u of the format, this program reads version 2: %s: export it again",
            h->version, file->path);
    if (file->size < sizeof *h || h->file_size != file->size)
        die(1, "%zu bytes, its header says %llu: %s: copy it again, or make it with export.py",
            file->size, file->size < 24 ? 0 : (unsigned long long)h->file_size, file->path);
    if (h->tokenizer_offset != sizeof *h || h->tokenizer_size > file->size
        || h->weights_offset != (sizeof *h + h->tokenizer_size + 63) / 64 * 64
        || h->weights_offset > file->size || h->weights_size != file->size - h->weights_offset)
        die(1, "the header's offsets do not fit the file: %s: export it again", file->path);
}

/* Maps PATH: the kernel reads a page when it is used. Dies unless it is a whole .bin. */
static File map_file(const char *path) {
    struct stat status;
    int descriptor = open(path, O_RDONLY | O_NONBLOCK);     // a pipe would wait for a writer
    if (descriptor < 0 || fstat(descriptor, &status) != 0)
        die(1, "cannot open: %s: %s", path, strerror(errno));
    if (S_ISDIR(status.st_mode)) die(1, "a directory: %s: make a .bin of it with export.py", path);
    if (!S_ISREG(status.st_mode))
        die(1, "not a regular file: %s: only a file on disk can be mapped", path);
    if (status.st_size == 0) die(1, "an empty file: %s: export it again", path);
    if ((uintmax_t)status.st_size > SIZE_MAX)
        die(1, "larger than the address space: %s: use a 64-bit machine", path);
    File file = { .path = path, .size = (size_t)status.st_size,
                  .device = status.st_dev, .inode = status.st_ino };
    void *map = mmap(NULL, file.size, PROT_READ, MAP_SHARED, descriptor, 0);
    if (map == MAP_FAILED) die(1, "cannot map: %s: %s", path, strerror(errno));
    close(descriptor);
    file.data = map;
    file.header = map;
    watch_map(path);
    check_file(&file);
    return file;
}

/* -- The tokenizer -------------------------------------------------------------------------
 *
 * Its section begins with 16 uint32_t: n_vocab, n_added, n_slots, n_blocks, n_decompositions,
 * n_compositions, n_bytes, 0, the Unicode version of the tables as text in 16 bytes, and four
 * zeros. The arrays of Tokenizer follow in its order, each at a multiple of 64 from the section's
 * beginning. The section ends with `bytes`.
 *
 * Token i is bytes[token_start[i] .. token_start[i + 1]], real bytes and not GPT-2's stand-ins. An
 * id without a token has none. byte_id[b] is the token of byte b alone. */

/* The tokens left and right become id. The lowest rank of a word merges first. The pair is in slot
 * (left * 0x9E3779B1 + right) * 0x85EBCA6B mod 2^32 >> slot_shift, or, if others came first, in the
 * next free one; slot 0 follows the last. In an empty slot id is NONE. */
typedef struct { uint32_t left, right, rank, id; } Merge;
typedef struct { uint32_t first, second, composed; } Pair;  // composed = first + second in NFC

#define NONE UINT32_MAX

/* `added` holds ids with these two bits. */
#define SPECIAL 0x80000000u                 // special: plain text where encode is told so
#define NORMALIZED 0x40000000u              // looked for in the normalised text, not the raw one
#define ADDED_ID 0x3FFFFFFFu

typedef struct {                            // pointers into the map
    uint32_t n_vocab, n_added, n_slots, n_blocks, n_decompositions, n_compositions, n_bytes;
    int slot_shift;                         // 32 - log2(n_slots)
    const char *path, *unicode_version;     // of the file; [16], NUL-padded
    const uint32_t *byte_id;                // [256]
    const uint32_t *token_start;            // [n_vocab + 1]
    const uint32_t *added;                  // [n_added], longest text first
    const Merge *merges;                    // [n_slots], a hash table; n_slots is a power of 2
    const uint16_t *block;                  // [0x110000 / 256], see char_properties
    const uint16_t *chars;                  // [n_blocks][256]
    const Pair *decompositions;             // [n_decompositions], by composed; second may be 0
    const Pair *compositions;               // [n_compositions], by first, then second
    const unsigned char *bytes;             // [n_bytes]
    bool begins_added[256];                 // low 8 bits of the characters that begin `added`
} Tokenizer;

typedef struct { const File *file; uint64_t offset; } Section;  // a place in the section

/* Returns the next array: count elements of a size. Counts are below 2^41, so nothing wraps. */
static const void *next_array(Section *s, uint64_t count, uint64_t size) {
    const Header *h = s->file->header;
    uint64_t begin = (s->offset + 63) / 64 * 64;
    s->offset = begin + count * size;
    if (s->offset > h->tokenizer_size)
        die(1, "the tokenizer's arrays are larger than its section: %s: export it again",
            s->file->path);
    return s->file->data + h->tokenizer_offset + begin;
}

/* Returns the bytes of a token: none for an id without one, since vocab_size may be larger. What
 * was checked at the start is checked again: someone may have overwritten the file since. */
static const unsigned char *token_bytes(const Tokenizer *t, int id, size_t *size) {
    bool known = id >= 0 && (uint32_t)id < t->n_vocab;
    uint32_t begin = known ? t->token_start[id] : 0, end = known ? t->token_start[id + 1] : 0;
    if (begin > end || end > t->n_bytes)
        die(1, "the file changed while it was read: %s: copy it again", t->path);
    *size = end - begin;
    return t->bytes + begin;
}

static bool all_below(const void *numbers, size_t n, uint32_t limit) {
    for (size_t i = 0; i < n; i++) if (((const uint32_t *)numbers)[i] >= limit) return false;
    return true;
}

/* Names the number that would lead outside the arrays or into an endless search, or returns NULL.
 * What follows relies on this and checks no more. */
static const char *find_contradiction(const Tokenizer *t, uint32_t vocab_size) {
    if (t->n_vocab < 1 || t->n_vocab > vocab_size) return "number of tokens";
    if (t->n_slots < 2 || (t->n_slots & (t->n_slots - 1)) != 0) return "merge table's size";
    if (!all_below(t->byte_id, 256, t->n_vocab)) return "byte ids";
    for (uint32_t i = 0; i < t->n_vocab; i++) {
        uint32_t begin = t->token_start[i], end = t->token_start[i + 1];
        if (begin > end || end - begin > 65536) return "token starts";  // short enough to print
    }
    if (t->token_start[0] != 0 || t->token_start[t->n_vocab] != t->n_bytes) return "token starts";
    uint32_t n_empty = 0;
    for (uint32_t i = 0; i < t->n_slots; i++) {
        if (t->merges[i].id == NONE) n_empty++;
        else if (t->merges[i].id >= t->n_vocab) return "merges";
    }
    if (n_empty == 0) return "merges";      // a search ends at an empty slot
    for (uint32_t i = 0; i < t->n_added; i++) {
        uint32_t id = t->added[i] & ADDED_ID;
        if (id >= t->n_vocab || t->token_start[id] == t->token_start[id + 1]) return "added tokens";
    }
    for (int i = 0; i < 0x110000 / 256; i++)
        if (t->block[i] >= t->n_blocks) return "character table";
    if (!all_below(t->decompositions, 3 * (size_t)t->n_decompositions, 0x110000)
        || !all_below(t->compositions, 3 * (size_t)t->n_compositions, 0x110000))
        return "pairs of characters";
    return NULL;
}

/* Finds the arrays in the file's tokenizer section. Dies if a number in them cannot be. */
static Tokenizer open_tokenizer(const File *file) {
    uint32_t vocab_size = file->header->vocab_size;
    if (vocab_size < 1 || vocab_size > 1 << 24)
        die(1, "the header's vocab_size is %u, not between 1 and %u: %s: export it again",
            vocab_size, 1 << 24, file->path);
    Section s = { file, 0 };
    const uint32_t *head = next_array(&s, 16, sizeof *head);
    Tokenizer t = { .n_vocab = head[0], .n_added = head[1], .n_slots = head[2], .n_blocks = head[3],
                    .n_decompositions = head[4], .n_compositions = head[5], .n_bytes = head[6],
                    .path = file->path, .unicode_version = (const char *)(head + 8),
                    .slot_shift = 32 };
    t.byte_id = next_array(&s, 256, sizeof *t.byte_id);
    t.token_start = next_array(&s, (uint64_t)t.n_vocab + 1, sizeof *t.token_start);
    t.added = next_array(&s, t.n_added, sizeof *t.added);
    t.merges = next_array(&s, t.n_slots, sizeof *t.merges);
    t.block = next_array(&s, 0x110000 / 256, sizeof *t.block);
    t.chars = next_array(&s, (uint64_t)t.n_blocks * 256, sizeof *t.chars);
    t.decompositions = next_array(&s, t.n_decompositions, sizeof *t.decompositions);
    t.compositions = next_array(&s, t.n_compositions, sizeof *t.compositions);
    t.bytes = next_array(&s, t.n_bytes, 1);
    const char *wrong = s.offset != file->header->tokenizer_size ? "size"
                      : find_contradiction(&t, vocab_size);
    if (wrong)
        die(1, "impossible %s in the tokenizer section: %s: export it again", wrong, file->path);

    for (uint32_t n = t.n_slots; n > 1; n /= 2) t.slot_shift--;
    for (uint32_t i = 0; i < t.n_added; i++) {
        size_t size;
        uint32_t c;
        Utf8 kind;
        const unsigned char *bytes = token_bytes(&t, (int)(t.added[i] & ADDED_ID), &size);
        utf8_decode(bytes, size, &c, &kind);
        t.begins_added[c & 255] = true;
    }
    return t;
}

/* -- Characters ----------------------------------------------------------------------------- */

typedef enum { OTHER, LETTER, NUMBER, SPACE, END } Class;   // \p{L}, \p{N}, \s; END: past the text

/* 16 bits for each character: bits 0-7 its combining class, 8-9 its Class, 10 whether NFC may
 * change it or what stands before it, 11-12 the columns that it takes on a terminal. */
static unsigned char_properties(const Tokenizer *t, uint32_t c) {
    return t->chars[t->block[c >> 8] * 256u + (c & 255)];
}
static Class char_class(const Tokenizer *t, uint32_t c) { return char_properties(t, c) >> 8 & 3; }

/* Writes s[n] on one line: \n, \t, \\, and \xHH for each byte of what is not printable: what is no
 * UTF-8, white space but the space, and controls. */
static void write_piece(const Tokenizer *t, FILE *out, const unsigned char *s, size_t n) {
    for (size_t i = 0, length; i < n; i += length) {
        uint32_t c;
        Utf8 kind;
        length = utf8_decode(s + i, n - i, &c, &kind);
        if (c == '\n') fputs("\\n", out);
        else if (c == '\t') fputs("\\t", out);
        else if (c == '\\') fputs("\\\\", out);
        else if (kind != UTF8_VALID || is_control(c) || (char_class(t, c) == SPACE && c != ' '))
            for (size_t k = 0; k < length; k++) fprintf(out, "\\x%02x", s[i + k]);
        else fwrite(s + i, 1, length, out);
    }
}

/* -- NFC (Unicode Standard Annex 15) -------------------------------------------------------- */

/* A text is a list of keys, one for each character. From the top a key holds the character's
 * combining class, its place and its code point, so that sorting keys as numbers puts characters
 * into canonical order: by class, and within a class by place. */
static void push_char(const Tokenizer *t, Keys *text, uint32_t c) {
    uint64_t combining = char_properties(t, c) & 255;
    push_key(text, combining << 56 | (uint64_t)text->n << 21 | c);
}

static uint32_t code_at(const Keys *text, size_t i) { return text->key[i] & 0x1FFFFF; }
static int combining_at(const Keys *text, size_t i) { return (int)(text->key[i] >> 56); }

static int compare(uint64_t x, uint64_t y) { return (x > y) - (x < y); }
static int by_key(const void *a, const void *b) {
    return compare(*(const uint64_t *)a, *(const uint64_t *)b);
}
static int by_composed(const void *a, const void *b) {
    return compare(((const Pair *)a)->composed, ((const Pair *)b)->composed);
}
static int by_parts(const void *a, const void *b) {
    const Pair *x = a, *y = b;
    return compare((uint64_t)x->first << 32 | x->second, (uint64_t)y->first << 32 | y->second);
}

/* Appends the full decomposition of c. */
static void push_decomposed(const Tokenizer *t, Keys *text, uint32_t c) {
    uint32_t trailing[8];                   // Unicode needs 3 at most
    int n = 0;
    while (c >= 0xC0 && n < 8) {
        const Pair *p = bsearch(&(Pair){ .composed = c }, t->decompositions, t->n_decompositions,
                                sizeof *p, by_composed);
        if (!p) break;
        c = p->first;
        trailing[n++] = p->second;
    }
    push_char(t, text, c);
    while (n-- > 0) if (trailing[n]) push_char(t, text, trailing[n]);
}

/* Returns the one character that first and second make together, or 0. */
static uint32_t compose(const Tokenizer *t, uint32_t first, uint32_t second) {
    const Pair *p = bsearch(&(Pair){ first, second, 0 }, t->compositions, t->n_compositions,
                            sizeof *p, by_parts);
    return p ? p->composed : 0;
}

/* Writes the NFC of raw to text: all characters are decomposed, each run of marks is sorted, and
 * what can be composed again is. Marks are the characters that have a combining class. */
static void normalize(const Tokenizer *t, const Keys *raw, Keys *text) {
    text->n = 0;
    for (size_t i = 0; i < raw->n; i++) push_decomposed(t, text, code_at(raw, i));
    for (size_t i = 0, begin; i < text->n; i++) {
        for (begin = i; i < text->n && combining_at(text, i) > 0; ) i++;
        if (i - begin > 1) qsort(text->key + begin, i - begin, sizeof *text->key, by_key);
    }
    size_t kept = 0, base = 0;
    int last = 0;                   // class of the last mark that stays; -1 right after the base
    for (size_t i = 0; i < text->n; i++) {
        int combining = combining_at(text, i);
        uint32_t c = code_at(text, i), composed = 0;
        if (last < combining && (char_properties(t, c) >> 10 & 1))
            composed = compose(t, code_at(text, base), c);
        if (composed) { text->key[base] = composed; continue; }
        if (combining == 0) base = kept;
        last = combining == 0 ? -1 : combining;
        text->key[kept++] = c;
    }
    text->n = kept;
}

/* -- Split ---------------------------------------------------------------------------------- */

static Class class_at(const Tokenizer *t, const Keys *text, size_t i) {
    return i < text->n ? char_class(t, code_at(text, i)) : END;
}

static bool newline_at(const Keys *text, size_t i) {
    return i < text->n && (code_at(text, i) == '\n' || code_at(text, i) == '\r');
}

/* Returns the letter at i in lower case, as far as contractions need it: U+017F is a long s. */
static uint32_t lower_at(const Keys *text, size_t i) {
    uint32_t c = i < text->n ? code_at(text, i) : 0;
    return c == 0x17F ? 's' : c >= 'A' && c <= 'Z' ? c + 32 : c;
}

/* Returns where the word that begins at i ends. The pattern's branches, in its order:
 *     (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|
 *     \s*[\r\n]+|\s+(?!\S)|\s+ */
static size_t word_end(const Tokenizer *t, const Keys *text, size_t i) {
    Class class = class_at(t, text, i), next = class_at(t, text, i + 1);
    if (code_at(text, i) == '\'') {
        uint32_t a = lower_at(text, i + 1), b = lower_at(text, i + 2);
        if (a == 's' || a == 't' || a == 'm' || a == 'd') return i + 2;
        if (((a == 'r' || a == 'v') && b == 'e') || (a == 'l' && b == 'l')) return i + 3;
    }
    if (class == LETTER || (next == LETTER && class != NUMBER && !newline_at(text, i))) {
        do i++; while (class_at(t, text, i) == LETTER);
        return i;
    }
    if (class == NUMBER) return i + 1;
    if (class == OTHER || (next == OTHER && code_at(text, i) == ' ')) {
        do i++; while (class_at(t, text, i) == OTHER);
        while (newline_at(text, i)) i++;
        return i;
    }
    size_t end = i, after_newline = 0;
    for (; class_at(t, text, end) == SPACE; end++)
        if (newline_at(text, end)) after_newline = end + 1;
    if (after_newline) return after_newline;
    return end < text->n && end - i > 1 ? end - 1 : end;    // the last space joins the next word
}

/* -- BPE (Sennrich et al. 2016) ------------------------------------------------------------- */

/* The tokens of a word are a linked list, at first one for each byte. Neighbours that can merge
 * wait in a heap: the lowest rank first, then the leftmost. An entry whose pair has changed since
 * is skipped. So a long word takes n log n steps. */
typedef struct {
    uint32_t id, previous, next;            // the last one's next is the number of bytes
    uint32_t rank, merged;                  // of the merge with the next; rank NONE: none
} Node;

/* Memory that the words of a text use in turn. */
typedef struct {
    Keys raw, text, heap;
    Node *nodes;
    size_t n_nodes, capacity;
} Scratch;

static void heap_push(Keys *heap, uint64_t key) {
    push_key(heap, key);
    size_t i = heap->n - 1;
    for (; i > 0 && heap->key[(i - 1) / 2] > key; i = (i - 1) / 2)
        heap->key[i] = heap->key[(i - 1) / 2];
    heap->key[i] = key;
}

static uint64_t heap_pop(Keys *heap) {
    uint64_t least = heap->key[0], key = heap->key[--heap->n];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < heap->n; i = child) {
        if (child + 1 < heap->n && heap->key[child + 1] < heap->key[child]) child++;
        if (heap->key[child] >= key) break;
        heap->key[i] = heap->key[child];
    }
    heap->key[i] = key;
    return least;
}

static const Merge *find_merge(const Tokenizer *t, uint32_t left, uint32_t right) {
    uint32_t slot = (left * 0x9E3779B1u + right) * 0x85EBCA6Bu >> t->slot_shift;
    for (;; slot = (slot + 1) & (t->n_slots - 1)) {
        const Merge *m = &t->merges[slot];
        if (m->id == NONE) return NULL;
        if (m->left == left && m->right == right) return m;
    }
}

/* Looks up what node i and its next one merge to. */
static void rank_pair(const Tokenizer *t, Scratch *b, size_t i) {
    Node *node = &b->nodes[i];
    const Merge *m = node->next < b->n_nodes
                   ? find_merge(t, node->id, b->nodes[node->next].id) : NULL;
    node->rank = NONE;
    if (!m) return;
    node->rank = m->rank;
    node->merged = m->id;
    heap_push(&b->heap, (uint64_t)m->rank << 32 | i);
}

/* Appends the ids of one word, the characters from begin to end of a text. */
static void merge_word(const Tokenizer *t, Scratch *b, const Keys *text, size_t begin, size_t end,
                       Ids *ids) {
    uint32_t n = 0;
    if (end - begin > UINT32_MAX / 8)
        die(1, "a word of %zu characters: the text: put a space in it", end - begin);
    for (size_t i = begin; i < end; i++) {
        unsigned char s[4];
        size_t length = utf8_encode(s, code_at(text, i));
        b->nodes = grow(b->nodes, &b->capacity, n + length, sizeof *b->nodes);
        for (size_t k = 0; k < length; k++, n++)
            b->nodes[n] = (Node){ t->byte_id[s[k]], n - 1, n + 1, NONE, 0 };
    }
    b->n_nodes = n;
    b->heap.n = 0;
    for (uint32_t i = 0; i < n; i++) rank_pair(t, b, i);
    while (b->heap.n > 0) {
        uint64_t key = heap_pop(&b->heap);
        uint32_t i = (uint32_t)key;
        Node *left = &b->nodes[i];
        if (left->rank == NONE || left->rank != key >> 32) continue;
        Node *right = &b->nodes[left->next];
        left->id = left->merged;
        left->next = right->next;
        right->rank = NONE;                 // it is gone
        if (left->next < n) b->nodes[left->next].previous = i;
        rank_pair(t, b, i);
        if (i > 0) rank_pair(t, b, left->previous);
    }
    for (uint32_t i = 0; i < n; i = b->nodes[i].next) push_id(ids, (int)b->nodes[i].id);
}

/* -- Encode --------------------------------------------------------------------------------- */

typedef struct { size_t at, length; int id; } Match;    // characters of a text that are one token

/* Returns how many characters of a text from i on are the token id, or 0 if they are not. */
static size_t match_token(const Tokenizer *t, int id, const Keys *text, size_t i) {
    size_t size, n = 0;
    const unsigned char *bytes = token_bytes(t, id, &size);
    for (size_t at = 0; at < size; n++) {
        uint32_t c;
        Utf8 kind;
        at += utf8_decode(bytes + at, size - at, &c, &kind);
        if (i + n >= text->n || code_at(text, i + n) != c) return 0;
    }
    return n;
}

/* Returns the first added token in a text from i on: the leftmost, and of these the longest. Looks
 * for those with the bit `normalized`, which is NORMALIZED or 0. Passes over special ones if not
 * `special`. Without a match `at` is the text's end. */
static Match find_added(const Tokenizer *t, const Keys *text, size_t i, uint32_t normalized,
                        bool special) {
    for (; i < text->n; i++) {
        if (!t->begins_added[code_at(text, i) & 255]) continue;
        for (uint32_t k = 0; k < t->n_added; k++) {
            if ((t->added[k] & NORMALIZED) != normalized) continue;
            Match m = { i, 0, (int)(t->added[k] & ADDED_ID) };
            m.length = match_token(t, m.id, text, i);
            if (m.length == 0) continue;
            if (special || !(t->added[k] & SPECIAL)) return m;
            i += m.length - 1;
            break;
        }
    }
    return (Match){ text->n, 0, -1 };
}

/* Appends the ids of a text. Added tokens such as <tool_call> are cut out first, and what is
 * between them is encoded apart. If not `special`, <|im_end|> and other special tokens are text. */
static void encode(const Tokenizer *t, const char *text, size_t n, bool special, Ids *ids) {
    const unsigned char *s = (const unsigned char *)text;
    Scratch scratch = { 0 };
    Keys *raw = &scratch.raw, *clean = &scratch.text;
    for (size_t i = 0; i < n; ) {
        uint32_t c;
        Utf8 kind;
        i += utf8_decode(s + i, n - i, &c, &kind);
        push_key(raw, c);
    }
    for (Match outer = { 0 }; outer.at < raw->n; ) {
        size_t begin = outer.at + outer.length;
        outer = find_added(t, raw, begin, 0, special);
        Keys between = { raw->key + begin, outer.at - begin, 0 };
        normalize(t, &between, clean);
        for (Match inner = { 0 }; inner.at < clean->n; ) {
            begin = inner.at + inner.length;
            inner = find_added(t, clean, begin, NORMALIZED, special);
            Keys words = { clean->key + begin, inner.at - begin, 0 };
            for (size_t i = 0, end; i < words.n; i = end) {
                end = word_end(t, &words, i);
                merge_word(t, &scratch, &words, i, end, ids);
            }
            if (inner.length > 0) push_id(ids, inner.id);
        }
        if (outer.length > 0) push_id(ids, outer.id);
    }
    free(scratch.raw.key);
    free(scratch.text.key);
    free(scratch.heap.key);
    free(scratch.nodes);
}

/* -- The program ---------------------------------------------------------------------------- */

#ifndef QWEN_C

static const char usage[] =
    "usage: ./tokenizer MODEL.bin [--ids] [--plain] [TEXT]\n"
    "       ./tokenizer MODEL.bin --decode [ID ...]\n"
    "\n"
    "A line per token of TEXT, or of standard input: id, tab, piece.\n"
    "      --ids     only the ids, on one line\n"
    "      --plain   <|im_end|> and its like are ordinary text\n"
    "      --decode  the bytes of these ids, or of the ids on standard input\n"
    "      --        what follows is no flag, though it may begin with -\n"
    "  -h, --help\n";

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN);               // a closed pipe becomes an error for flush_output
    bool only_ids = false, plain = false, decode = false, help = false, flags = true;
    int n = 0;                              // arguments that are no flags; they move to the front
    for (int i = 1; i < argc; i++) {
        if (!flags || argv[i][0] != '-' || !argv[i][1]) argv[n++] = argv[i];
        else if (strcmp(argv[i], "--") == 0) flags = false;
        else if (strcmp(argv[i], "--ids") == 0) only_ids = true;
        else if (strcmp(argv[i], "--plain") == 0) plain = true;
        else if (strcmp(argv[i], "--decode") == 0) decode = true;
        else if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) help = true;
        else die(2, "no such flag: %s: see --help; put -- before a text with a -", argv[i]);
    }
    if (help) { fputs(usage, stdout); flush_output(); return 0; }
    if (n == 0) die(2, "no model: MODEL.bin: make one with export.py, and see --help");
    if (n > 2 && !decode)
        die(2, "more than one text: %s: put quotes around a text with spaces", argv[2]);
    if (decode && (only_ids || plain))
        die(2, "these make no sense together: --decode and %s: leave one out",
            plain ? "--plain" : "--ids");

    File file = map_file(argv[0]);
    Tokenizer t = open_tokenizer(&file);
    Ids ids = { 0 };
    Text input = { 0 };
    if (n == 1) input = read_input();
    for (int i = 1; i < n; i++) {           // one text, or ids
        if (i > 1) push_bytes(&input, " ", 1);
        push_bytes(&input, argv[i], strlen(argv[i]));
    }
    if (decode) {
        if (input.n > 0 && memchr(input.data, 0, input.n))
            die(2, "a NUL byte among the ids: --decode: write ids as decimal numbers");
        push_bytes(&input, "", 1);          // its NUL
        read_ids(input.data, "--decode", file.header->vocab_size, &ids);
    } else {
        encode(&t, input.data, input.n, !plain, &ids);
    }

    for (size_t i = 0; i < ids.n && !ferror(stdout); i++) {
        size_t size;
        const unsigned char *bytes = token_bytes(&t, ids.id[i], &size);
        if (decode) fwrite(bytes, 1, size, stdout);
        else printf(only_ids ? "%s%d" : "%s%d\t", only_ids && i ? " " : "", ids.id[i]);
        if (decode || only_ids) continue;
        write_piece(&t, stdout, bytes, size);
        putchar('\n');
    }
    if (only_ids) putchar('\n');
    flush_output();
    free(input.data);
    free(ids.id);
    return 0;
}

#endif
