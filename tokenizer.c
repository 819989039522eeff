/* tokenizer.c: text <-> token ids, the byte-level BPE of Qwen.
 *
 * qwen.c includes this file; compiled by itself it is a program, see `usage` at its end. From the top:
 *
 *     the file         a .bin's header, mapped and checked
 *     the tokenizer    its section of the file, checked and used in place
 *     characters       UTF-8, and what Unicode says of a character
 *     NFC              one spelling for each text
 *     split            the pattern that cuts a text into words
 *     BPE              a word's bytes, merged to tokens
 *     encode           all of that in turn
 *     the program
 *
 * README.md describes the file byte by byte.
 */
#define _DEFAULT_SOURCE                     // qwen.c needs mmap's MAP_ANONYMOUS and MAP_NORESERVE
#define _DARWIN_C_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *program = "tokenizer";   // how error lines begin

/* One line on standard error, what is wrong: which file or flag: what to do, and the end. */
static _Noreturn void die(int status, const char *format, ...) {
    va_list arguments;
    fprintf(stderr, "%s: ", program);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(status);
}

/* Makes room in an array, which may move, for at least `needed` things of a size. */
static void *grow(void *array, size_t *capacity, size_t needed, size_t size) {
    if (needed <= *capacity) return array;
    if (needed > SIZE_MAX / size / 2) die(1, "out of memory: %zu times %zu bytes: use a shorter text", needed, size);
    *capacity = 2 * needed;
    array = realloc(array, *capacity * size);
    if (!array) die(1, "out of memory: %zu times %zu bytes: use a shorter text", *capacity, size);
    return array;
}

/* ---------------------------------------------------------------------------------------------
 * The file
 * ------------------------------------------------------------------------------------------- */

typedef struct {
    char magic[8];                          // "qwen.c\n\0"
    uint32_t version, header_size;
    uint64_t file_size, tokenizer_offset, tokenizer_size, weights_offset, weights_size;
    uint32_t weight_type, group_size;       // 0: bf16; 1: int8, with a scale per group
    uint32_t dim, hidden_dim, n_layers, n_heads, n_kv_heads, head_dim, vocab_size, max_positions;
    uint32_t tied;                          // 1: the embedding is the output matrix too
    float rms_eps;
    double rope_theta;
    uint32_t kind, chatml;                  // 0 base, 1 chat; 1: it has a ChatML template
    uint32_t im_start, im_end, endoftext;   // token ids
    uint32_t n_eos, eos[8];                 // the checkpoint's own stop tokens
    uint32_t do_sample;                     // generation_config.json, from here
    float temperature;
    uint32_t top_k;
    float top_p, repetition_penalty;
    uint32_t system_size;
    char name[64], system[768];             // the default system message is not NUL-terminated
} Header;

_Static_assert(sizeof(Header) == 1024, "the header is 1,024 bytes");

typedef struct {
    const unsigned char *data;              // [size], mapped read-only
    size_t size;
    const Header *header;
} File;

/* Refuses a file that is not a whole .bin of this version. */
static void check_file(const File *file, const char *path) {
    static const char pointer[] = "version https://git-lfs";
    const Header *h = file->header;
    const uint16_t one = 1;
    if (file->size >= sizeof pointer - 1 && memcmp(file->data, pointer, sizeof pointer - 1) == 0)
        die(1, "a Git LFS pointer instead of the file: %s: run git lfs pull", path);
    if (file->size < sizeof *h || memcmp(h->magic, "qwen.c\n", sizeof h->magic) != 0)
        die(1, "not a model of this program: %s: make one with export.py", path);
    if (*(const unsigned char *)&one != 1)
        die(1, "the file is little-endian, this machine is not: %s: use another machine", path);
    if (h->version != 1 || h->header_size != sizeof *h)
        die(1, "version %u of the format, this program reads version 1: %s: export it again", h->version, path);
    if (h->file_size != file->size)
        die(1, "%zu bytes, its header says %llu: %s: copy or export it again",
            file->size, (unsigned long long)h->file_size, path);
    if (h->tokenizer_offset != sizeof *h || h->tokenizer_size > file->size - sizeof *h
        || h->weights_offset % 64 != 0 || h->weights_offset > file->size
        || h->weights_offset < h->tokenizer_offset + h->tokenizer_size
        || h->weights_size != file->size - h->weights_offset)
        die(1, "the header's offsets do not fit the file: %s: export it again", path);
}

/* Maps PATH: the kernel reads a page when it is used. Dies unless it is a whole .bin. */
static File map_file(const char *path) {
    struct stat status;
    int descriptor = open(path, O_RDONLY | O_NONBLOCK);     // or opening a pipe would wait for a writer
    if (descriptor < 0 || fstat(descriptor, &status) != 0) die(1, "cannot open: %s: %s", path, strerror(errno));
    if (S_ISDIR(status.st_mode)) die(1, "a directory: %s: make a .bin of it with export.py", path);
    if (!S_ISREG(status.st_mode)) die(1, "not a regular file: %s: only a file on disk can be mapped", path);
    if (status.st_size == 0) die(1, "an empty file: %s: export it again", path);
    if ((uintmax_t)status.st_size > SIZE_MAX) die(1, "larger than the address space: %s: use a 64-bit machine", path);
    File file = { .size = (size_t)status.st_size };
    void *map = mmap(NULL, file.size, PROT_READ, MAP_SHARED, descriptor, 0);
    if (map == MAP_FAILED) die(1, "cannot map: %s: %s", path, strerror(errno));
    close(descriptor);
    file.data = map;
    file.header = map;
    check_file(&file, path);
    return file;
}

/* ---------------------------------------------------------------------------------------------
 * The tokenizer
 * ------------------------------------------------------------------------------------------- */

typedef struct { uint32_t left, right, rank, id; } Merge;   // tokens left and right become id
typedef struct { uint32_t first, second, composed; } Pair;  // characters first and second are composed

#define NONE UINT32_MAX                     // the id in an empty slot; the rank of what does not merge

typedef struct {                            // pointers into the map
    uint32_t n_vocab, n_added, n_slots, n_blocks, n_decompositions, n_compositions, n_bytes;
    int slot_shift;                         // 32 - log2(n_slots)
    const char *unicode_version;            // [16], NUL-padded
    const uint32_t *byte_id;                // [256]
    const uint32_t *token_start;            // [n_vocab + 1]
    const uint32_t *added;                  // [n_added], longest text first
    const Merge *merges;                    // [n_slots], a hash table
    const uint16_t *block;                  // [0x110000 / 256]
    const uint16_t *chars;                  // [n_blocks][256]
    const Pair *decompositions;             // [n_decompositions], sorted by composed
    const Pair *compositions;               // [n_compositions], sorted by first, second
    const unsigned char *bytes;             // [n_bytes]
    bool begins_added[256];                 // the bytes that an added token begins with
} Tokenizer;

typedef struct { const unsigned char *data; uint64_t offset, size; } Section;

/* The next array of a section: count things of a size, both below 2^32; NULL if it does not fit. */
static const void *next_array(Section *s, uint64_t count, uint64_t size) {
    uint64_t begin = (s->offset + 63) / 64 * 64;
    s->offset = begin + count * size;
    return s->offset <= s->size ? s->data + begin : NULL;
}

/* The bytes of a token; none for an id without a token (the model's vocab_size may be larger). */
static const unsigned char *token_bytes(const Tokenizer *t, int id, size_t *size) {
    bool known = id >= 0 && (uint32_t)id < t->n_vocab;
    *size = known ? t->token_start[id + 1] - t->token_start[id] : 0;
    return known ? t->bytes + t->token_start[id] : t->bytes;
}

/* What of the tokenizer's numbers would lead outside its arrays or into an endless search; NULL if
 * nothing. What follows relies on this and checks no more. */
static const char *find_contradiction(const Tokenizer *t, uint32_t vocab_size) {
    if (t->n_vocab < 1 || t->n_vocab > vocab_size || vocab_size > INT32_MAX) return "size";
    if (t->n_slots < 2 || (t->n_slots & (t->n_slots - 1)) != 0) return "merge table's size";
    for (int i = 0; i < 256; i++) if (t->byte_id[i] >= t->n_vocab) return "byte ids";
    for (uint32_t i = 0; i < t->n_vocab; i++) if (t->token_start[i] > t->token_start[i + 1]) return "token starts";
    if (t->token_start[0] != 0 || t->token_start[t->n_vocab] != t->n_bytes) return "token starts";
    uint32_t n_empty = 0;
    for (uint32_t i = 0; i < t->n_slots; i++) {
        if (t->merges[i].id == NONE) n_empty++;
        else if (t->merges[i].id >= t->n_vocab) return "merges";
    }
    if (n_empty == 0) return "merges";      // a search ends at an empty slot
    for (uint32_t i = 0; i < t->n_added; i++)
        if (t->added[i] >= t->n_vocab || t->token_start[t->added[i]] == t->token_start[t->added[i] + 1]) return "added tokens";
    for (int i = 0; i < 0x110000 / 256; i++) if (t->block[i] >= t->n_blocks) return "character table";
    for (uint32_t i = 0; i < t->n_decompositions + t->n_compositions; i++) {
        const Pair *p = i < t->n_decompositions ? &t->decompositions[i] : &t->compositions[i - t->n_decompositions];
        if (p->first > 0x10FFFF || p->second > 0x10FFFF || p->composed > 0x10FFFF) return "compositions";
    }
    return NULL;
}

/* Finds the arrays in the file's tokenizer section. Dies if a number in them cannot be. */
static Tokenizer open_tokenizer(const File *file, const char *path) {
    Section s = { file->data + file->header->tokenizer_offset, 0, file->header->tokenizer_size };
    const uint32_t *head = next_array(&s, 16, sizeof *head);
    const uint32_t *byte_id = next_array(&s, 256, sizeof *byte_id);
    if (!byte_id) die(1, "the tokenizer section is cut short: %s: export it again", path);
    Tokenizer t = {
        .n_vocab = head[0], .n_added = head[1], .n_slots = head[2], .n_blocks = head[3],
        .n_decompositions = head[4], .n_compositions = head[5], .n_bytes = head[6],
        .unicode_version = (const char *)(head + 8), .byte_id = byte_id,
    };
    t.token_start = next_array(&s, (uint64_t)t.n_vocab + 1, sizeof *t.token_start);
    t.added = next_array(&s, t.n_added, sizeof *t.added);
    t.merges = next_array(&s, t.n_slots, sizeof *t.merges);
    t.block = next_array(&s, 0x110000 / 256, sizeof *t.block);
    t.chars = next_array(&s, (uint64_t)t.n_blocks * 256, sizeof *t.chars);
    t.decompositions = next_array(&s, t.n_decompositions, sizeof *t.decompositions);
    t.compositions = next_array(&s, t.n_compositions, sizeof *t.compositions);
    t.bytes = next_array(&s, t.n_bytes, 1);
    if (s.offset != s.size) die(1, "the tokenizer's arrays do not fit its section: %s: export it again", path);
    const char *wrong = find_contradiction(&t, file->header->vocab_size);
    if (wrong) die(1, "the tokenizer's %s cannot be: %s: export it again", wrong, path);

    t.slot_shift = 32;
    for (uint32_t n = t.n_slots; n > 1; n /= 2) t.slot_shift--;
    for (uint32_t i = 0; i < t.n_added; i++) t.begins_added[t.bytes[t.token_start[t.added[i]]]] = true;
    return t;
}

/* ---------------------------------------------------------------------------------------------
 * Characters
 * ------------------------------------------------------------------------------------------- */

/* A bad byte sequence is no UTF-8; a cut one may become a character with the bytes that follow. */
typedef enum { UTF8_VALID, UTF8_BAD, UTF8_CUT } Utf8;

/* Decodes the character at s[n], n > 0, and returns how many bytes it takes. Bytes that are no
 * UTF-8 are one U+FFFD up to the first that cannot go on, as in Python's errors="replace". */
static size_t utf8_decode(const unsigned char *s, size_t n, uint32_t *c, Utf8 *kind) {
    *kind = UTF8_VALID;
    *c = s[0];
    if (s[0] < 0x80) return 1;
    size_t length = s[0] < 0xC2 ? 1 : s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : s[0] < 0xF5 ? 4 : 1;
    unsigned char low = 0x80, high = 0xBF;                  // bounds of the second byte, which keep out
    if (s[0] == 0xE0) low = 0xA0;                           // overlong forms,
    if (s[0] == 0xF0) low = 0x90;
    if (s[0] == 0xED) high = 0x9F;                          // surrogates,
    if (s[0] == 0xF4) high = 0x8F;                          // and what is past U+10FFFF
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

typedef enum { OTHER, LETTER, NUMBER, SPACE, END } Class;   // \p{L}, \p{N}, \s; END: no character any more

static unsigned char_properties(const Tokenizer *t, uint32_t c) { return t->chars[t->block[c >> 8] * 256u + (c & 255)]; }
static unsigned char_combining(const Tokenizer *t, uint32_t c) { return char_properties(t, c) & 255; }
static Class char_class(const Tokenizer *t, uint32_t c) { return (Class)(char_properties(t, c) >> 8 & 3); }
static bool char_may_change(const Tokenizer *t, uint32_t c) { return char_properties(t, c) >> 10 & 1; }     // under NFC

/* What a terminal would obey, a line separator, and what turns the direction of writing. */
static bool is_control(uint32_t c) {
    return c < 0x20 || (c >= 0x7F && c < 0xA0) || (c >= 0x2028 && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069);
}

/* Writes s[n] on one line: \n, \t, \\, and \xHH for each byte that is no printable UTF-8. */
static void write_piece(const Tokenizer *t, FILE *out, const unsigned char *s, size_t n) {
    (void)t;
    for (size_t i = 0; i < n; ) {
        uint32_t c;
        Utf8 kind;
        size_t length = utf8_decode(s + i, n - i, &c, &kind);
        if (c == '\n') fputs("\\n", out);
        else if (c == '\t') fputs("\\t", out);
        else if (c == '\\') fputs("\\\\", out);
        else if (kind == UTF8_VALID && !is_control(c)) fwrite(s + i, 1, length, out);
        else for (size_t k = 0; k < length; k++) fprintf(out, "\\x%02x", s[i + k]);
        i += length;
    }
}

#ifdef QWEN_C                               // what it needs besides
/* Zeroed memory for count things of a size. Never NULL. */
static void *allocate(size_t count, size_t size) {
    void *memory = calloc(count ? count : 1, size);
    if (!memory) die(1, "out of memory: %zu times %zu bytes: close other programs", count, size);
    return memory;
}

static int char_columns(const Tokenizer *t, uint32_t c) { return (int)(char_properties(t, c) >> 11 & 3); }

/* How many bytes at the end of s[n] are the beginning of a character that is not whole. */
static int utf8_incomplete(const unsigned char *s, size_t n) {
    for (int i = 1; i <= 3 && (size_t)i <= n; i++) {
        uint32_t c;
        Utf8 kind;
        if (utf8_decode(s + n - i, (size_t)i, &c, &kind) == (size_t)i && kind == UTF8_CUT) return i;
    }
    return 0;
}
#endif

/* ---------------------------------------------------------------------------------------------
 * NFC (Unicode Standard Annex 15)
 * ------------------------------------------------------------------------------------------- */

typedef struct { int *id; size_t n, capacity; } Ids;                // token ids
typedef struct { unsigned char *data; size_t n, capacity; } Bytes;

/* A character between decomposition and composition: its combining class (from bit 56), its place in the
 * text (from bit 21) and its code point. So numbers sort as characters have to, those of one class by place. */
typedef struct { uint64_t *item; size_t n, capacity; } Chars;

typedef struct { uint32_t id, rank, merged, previous, next; } Symbol;   // see BPE

/* Memory that one call of encode uses for all its words. */
typedef struct {
    Bytes normalized;
    Chars chars;
    Symbol *symbols;
    uint64_t *heap;
    size_t n_heap, symbol_capacity, heap_capacity;
} Scratch;

static void push_id(Ids *ids, int id) {
    ids->id = grow(ids->id, &ids->capacity, ids->n + 1, sizeof *ids->id);
    ids->id[ids->n++] = id;
}

static void push_bytes_of(Bytes *b, const unsigned char *s, size_t n) {
    b->data = grow(b->data, &b->capacity, b->n + n, 1);
    if (n > 0) memcpy(b->data + b->n, s, n);
    b->n += n;
}

static void push_char(const Tokenizer *t, Chars *chars, uint32_t c) {
    chars->item = grow(chars->item, &chars->capacity, chars->n + 1, sizeof *chars->item);
    chars->item[chars->n] = (uint64_t)char_combining(t, c) << 56 | (uint64_t)chars->n << 21 | c;
    chars->n++;
}

enum { HANGUL = 0xAC00, LEAD = 0x1100, VOWEL = 0x1161, TRAIL = 0x11A7, LEADS = 19, VOWELS = 21, TRAILS = 28 };

/* Appends the full decomposition of c. */
static void push_decomposed(const Tokenizer *t, Chars *chars, uint32_t c) {
    if (c - HANGUL < LEADS * VOWELS * TRAILS) {
        uint32_t syllable = c - HANGUL;
        push_char(t, chars, LEAD + syllable / (VOWELS * TRAILS));
        push_char(t, chars, VOWEL + syllable / TRAILS % VOWELS);
        if (syllable % TRAILS) push_char(t, chars, TRAIL + syllable % TRAILS);
        return;
    }
    uint32_t seconds[8];                    // Unicode needs no more than 3
    int n = 0;
    while (n < 8) {
        uint32_t low = 0, high = t->n_decompositions;
        while (low < high) {
            uint32_t middle = low + (high - low) / 2;
            if (t->decompositions[middle].composed < c) low = middle + 1;
            else high = middle;
        }
        if (low == t->n_decompositions || t->decompositions[low].composed != c) break;
        c = t->decompositions[low].first;
        seconds[n++] = t->decompositions[low].second;
    }
    push_char(t, chars, c);
    while (n-- > 0) if (seconds[n]) push_char(t, chars, seconds[n]);
}

/* The one character that first and second are together, or 0. */
static uint32_t compose(const Tokenizer *t, uint32_t first, uint32_t second) {
    if (first - LEAD < LEADS && second - VOWEL < VOWELS)
        return HANGUL + ((first - LEAD) * VOWELS + (second - VOWEL)) * TRAILS;
    if (first - HANGUL < LEADS * VOWELS * TRAILS && (first - HANGUL) % TRAILS == 0 && second - (TRAIL + 1) < TRAILS - 1)
        return first + (second - TRAIL);
    uint32_t low = 0, high = t->n_compositions;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const Pair *p = &t->compositions[middle];
        if (p->first == first && p->second == second) return p->composed;
        if (p->first < first || (p->first == first && p->second < second)) low = middle + 1;
        else high = middle;
    }
    return 0;
}

static int compare_items(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Puts each run of marks (characters with a combining class) into the order of their classes. */
static void order_marks(Chars *chars) {
    for (size_t i = 0; i < chars->n; ) {
        size_t begin = i;
        bool ordered = true;
        for (; i < chars->n && chars->item[i] >> 56; i++) ordered &= i == begin || chars->item[i - 1] < chars->item[i];
        if (!ordered) qsort(chars->item + begin, i - begin, sizeof *chars->item, compare_items);
        i += i == begin;
    }
}

/* Appends the characters, each mark composed with its base where there is such a character. */
static void push_composed(const Tokenizer *t, Bytes *out, Chars *chars) {
    size_t n = 0, base = 0;
    int last = 256;                         // combining class of the last mark kept, -1 after a base, 256 before any
    for (size_t i = 0; i < chars->n; i++) {
        uint32_t c = chars->item[i] & 0x1FFFFF;
        int class = (int)(chars->item[i] >> 56);
        uint32_t composed = last < class ? compose(t, (uint32_t)chars->item[base], c) : 0;
        if (composed) { chars->item[base] = composed; continue; }
        if (class == 0) base = n;
        last = class == 0 ? -1 : class;
        chars->item[n++] = c;
    }
    for (size_t i = 0; i < n; i++) {
        unsigned char s[4];
        push_bytes_of(out, s, utf8_encode(s, (uint32_t)chars->item[i]));
    }
}

/* Appends the NFC of the stretch that begins at s[i]: one character, whatever it is, and all that
 * follow it and may change. Returns where the stretch ends. */
static size_t push_stretch(const Tokenizer *t, Scratch *scratch, const unsigned char *s, size_t n, size_t i) {
    scratch->chars.n = 0;
    for (size_t length; i < n; i += length) {
        uint32_t c;
        Utf8 kind;
        length = utf8_decode(s + i, n - i, &c, &kind);
        if (scratch->chars.n > 0 && (kind != UTF8_VALID || !char_may_change(t, c))) break;
        push_decomposed(t, &scratch->chars, c);
    }
    order_marks(&scratch->chars);
    push_composed(t, &scratch->normalized, &scratch->chars);
    return i;
}

/* The text in NFC, with U+FFFD for what is no UTF-8: s itself if it is so already, as most texts are.
 * Where a character stands that NFC may change, a stretch is recomposed: from the character before
 * it to the next that NFC never changes, over which nothing acts. */
static const unsigned char *normalize(const Tokenizer *t, Scratch *scratch, const unsigned char *s, size_t *n) {
    Bytes *out = &scratch->normalized;
    size_t done = 0, previous = 0;          // up to where s is in out; where the character before begins
    out->n = 0;
    for (size_t i = 0; i < *n; ) {
        uint32_t c;
        Utf8 kind;
        size_t length = utf8_decode(s + i, *n - i, &c, &kind);
        if (kind != UTF8_VALID) {
            push_bytes_of(out, s + done, i - done);
            push_bytes_of(out, (const unsigned char *)"\xEF\xBF\xBD", 3);
            previous = done = i += length;
        } else if (char_may_change(t, c)) {
            push_bytes_of(out, s + done, previous - done);
            previous = done = i = push_stretch(t, scratch, s, *n, previous);
        } else {
            previous = i;
            i += length;
        }
    }
    if (done == 0) return s;
    push_bytes_of(out, s + done, *n - done);
    *n = out->n;
    return out->data;
}

/* ---------------------------------------------------------------------------------------------
 * Split
 * ------------------------------------------------------------------------------------------- */

typedef struct { uint32_t code; Class class; size_t end; } Char;

static Char char_at(const Tokenizer *t, const unsigned char *s, size_t n, size_t i) {
    Char c = { 0, END, n };
    Utf8 kind;
    if (i >= n) return c;
    c.end = i + utf8_decode(s + i, n - i, &c.code, &kind);
    c.class = char_class(t, c.code);
    return c;
}

static size_t run_end(const Tokenizer *t, const unsigned char *s, size_t n, size_t i, Class class) {
    for (Char c; (c = char_at(t, s, n, i)).class == class; ) i = c.end;
    return i;
}

static bool is_newline(uint32_t c) { return c == '\n' || c == '\r'; }

static uint32_t fold_case(uint32_t c) { return c == 0x17F ? 's' : c >= 'A' && c <= 'Z' ? c + 32 : c; }

/* Where the word that begins at s[i] ends. The branches of the pattern
 *     (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
 * in their order, each of which wins where it matches at all. */
static size_t word_end(const Tokenizer *t, const unsigned char *s, size_t n, size_t i) {
    Char c = char_at(t, s, n, i), d = char_at(t, s, n, c.end);
    if (c.code == '\'') {
        Char e = char_at(t, s, n, d.end);
        uint32_t a = fold_case(d.code), b = fold_case(e.code);
        if (a == 's' || a == 't' || a == 'm' || a == 'd') return d.end;
        if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return e.end;
    }
    if (c.class == LETTER || (c.class != NUMBER && !is_newline(c.code) && d.class == LETTER))
        return run_end(t, s, n, c.end, LETTER);
    if (c.class == NUMBER) return c.end;
    if (c.class == OTHER || (c.code == ' ' && d.class == OTHER)) {
        size_t end = run_end(t, s, n, c.end, OTHER);
        while (end < n && is_newline(s[end])) end++;
        return end;
    }
    size_t begin = i, last = i, after_newline = 0;          // where the last white space begins; the last newline ends
    for (Char w = c; w.class == SPACE; w = char_at(t, s, n, i)) {
        last = i;
        i = w.end;
        if (is_newline(w.code)) after_newline = i;
    }
    if (after_newline) return after_newline;
    return i < n && last > begin ? last : i;
}

/* ---------------------------------------------------------------------------------------------
 * BPE (Sennrich et al. 2016), in ranks as GPT-2 does it
 * ------------------------------------------------------------------------------------------- */

/* The symbols of a word are a linked list, at first one for each byte. A heap holds the neighbours
 * that merge, lowest rank first, then leftmost; what has changed since is skipped when it comes up. */

static const Merge *find_merge(const Tokenizer *t, uint32_t left, uint32_t right) {
    uint32_t slot = (left * 0x9E3779B1u + right) * 0x85EBCA6Bu >> t->slot_shift;
    for (;; slot = (slot + 1) & (t->n_slots - 1)) {
        const Merge *m = &t->merges[slot];
        if (m->id == NONE) return NULL;
        if (m->left == left && m->right == right) return m;
    }
}

static void heap_push(Scratch *b, uint64_t key) {
    size_t i = b->n_heap++;
    for (; i > 0 && b->heap[(i - 1) / 2] > key; i = (i - 1) / 2) b->heap[i] = b->heap[(i - 1) / 2];
    b->heap[i] = key;
}

static uint64_t heap_pop(Scratch *b) {
    uint64_t least = b->heap[0], key = b->heap[--b->n_heap];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < b->n_heap; i = child) {
        if (child + 1 < b->n_heap && b->heap[child + 1] < b->heap[child]) child++;
        if (b->heap[child] >= key) break;
        b->heap[i] = b->heap[child];
    }
    b->heap[i] = key;
    return least;
}

/* Looks up whether symbol i merges with the next one. */
static void rank_pair(const Tokenizer *t, Scratch *b, uint32_t i, uint32_t n) {
    Symbol *symbol = &b->symbols[i];
    symbol->rank = NONE;
    if (symbol->next == n) return;
    const Merge *m = find_merge(t, symbol->id, b->symbols[symbol->next].id);
    if (!m) return;
    symbol->rank = m->rank;
    symbol->merged = m->id;
    heap_push(b, (uint64_t)m->rank << 32 | i);
}

/* Appends the ids of one word. */
static void merge_word(const Tokenizer *t, Scratch *b, const unsigned char *s, size_t size, Ids *ids) {
    if (size > INT32_MAX) die(1, "a word of %zu bytes: too long: put spaces in it", size);
    uint32_t n = (uint32_t)size;
    b->symbols = grow(b->symbols, &b->symbol_capacity, n, sizeof *b->symbols);
    b->heap = grow(b->heap, &b->heap_capacity, 2 * (size_t)n, sizeof *b->heap);      // a merge takes one and adds two
    b->n_heap = 0;
    for (uint32_t i = 0; i < n; i++) b->symbols[i] = (Symbol){ t->byte_id[s[i]], NONE, 0, i - 1, i + 1 };
    for (uint32_t i = 0; i < n; i++) rank_pair(t, b, i, n);
    while (b->n_heap > 0) {
        uint64_t key = heap_pop(b);
        uint32_t i = (uint32_t)key;
        Symbol *left = &b->symbols[i];
        if (left->rank != key >> 32 || left->rank == NONE) continue;
        Symbol *right = &b->symbols[left->next];
        left->id = left->merged;
        left->next = right->next;
        right->rank = NONE;                 // it is no symbol any more
        if (left->next < n) b->symbols[left->next].previous = i;
        rank_pair(t, b, i, n);
        if (i > 0) rank_pair(t, b, left->previous, n);
    }
    for (uint32_t i = 0; i < n; i = b->symbols[i].next) push_id(ids, (int)b->symbols[i].id);
}

/* ---------------------------------------------------------------------------------------------
 * Encode
 * ------------------------------------------------------------------------------------------- */

/* Appends the ids of a text in which nothing is special. */
static void encode_plain(const Tokenizer *t, Scratch *scratch, const unsigned char *s, size_t n, Ids *ids) {
    s = normalize(t, scratch, s, &n);
    for (size_t i = 0, end; i < n; i = end) {
        end = word_end(t, s, n, i);
        merge_word(t, scratch, s + i, end - i, ids);
    }
}

/* The longest added token that s[n] begins with, or -1. */
static int match_added(const Tokenizer *t, const unsigned char *s, size_t n) {
    for (uint32_t i = 0; t->begins_added[s[0]] && i < t->n_added; i++) {
        size_t size;
        const unsigned char *bytes = token_bytes(t, (int)t->added[i], &size);
        if (size <= n && memcmp(bytes, s, size) == 0) return (int)t->added[i];
    }
    return -1;
}

/* Appends the ids of a text. If `special`, added tokens such as <|im_end|> that stand in it count as
 * what they are; they are cut out before anything else, and what is between them is encoded apart. */
static void encode(const Tokenizer *t, const char *text, size_t n, bool special, Ids *ids) {
    const unsigned char *s = (const unsigned char *)text;
    Scratch scratch = { 0 };
    size_t begin = 0;
    for (size_t i = 0, length; special && i < n; i += length) {
        int id = match_added(t, s + i, n - i);
        length = 1;
        if (id < 0) continue;
        encode_plain(t, &scratch, s + begin, i - begin, ids);
        push_id(ids, id);
        token_bytes(t, id, &length);
        begin = i + length;
    }
    encode_plain(t, &scratch, s + begin, n - begin, ids);
    free(scratch.normalized.data);
    free(scratch.chars.item);
    free(scratch.symbols);
    free(scratch.heap);
}

/* ---------------------------------------------------------------------------------------------
 * The program
 * ------------------------------------------------------------------------------------------- */

#ifndef QWEN_C

#include <signal.h>

static const char usage[] =
    "usage: ./tokenizer MODEL.bin [--ids] [--plain] [TEXT]\n"
    "       ./tokenizer MODEL.bin --decode [ID ...]\n"
    "\n"
    "prints a line per token of TEXT: id, tab, piece. Without TEXT, of standard input\n"
    "      --ids      only the ids, on one line\n"
    "      --plain    <|im_end|> and its like are ordinary text\n"
    "      --decode   the bytes of these ids, or of those on standard input\n"
    "      --         what follows is no flag: ./tokenizer MODEL.bin -- -1\n"
    "  -h, --help\n";

/* Standard output that was closed early (`| head -1`) is a quiet end, a full disk an error. */
static void flush_output(void) {
    if (fflush(stdout) == 0 && !ferror(stdout)) return;
    if (errno == EPIPE) exit(0);
    die(1, "cannot write: standard output: %s", strerror(errno));
}

static Bytes read_input(void) {
    Bytes input = { 0 };
    unsigned char buffer[65536];
    for (size_t n; (n = fread(buffer, 1, sizeof buffer, stdin)) > 0; ) push_bytes_of(&input, buffer, n);
    if (ferror(stdin)) die(1, "cannot read: standard input: %s", strerror(errno));
    return input;
}

static void push_written_id(Ids *ids, const char *text, uint32_t vocab_size) {
    char *end;
    errno = 0;
    long id = strtol(text, &end, 10);
    if (end == text || *end || errno || id < 0 || id >= (long)vocab_size)
        die(2, "not a token id from 0 to %u: %s: see --help", vocab_size - 1, text);
    push_id(ids, (int)id);
}

int main(int argc, char **argv) {
    bool only_ids = false, plain = false, decode = false, flags = true;
    int n = 0;                              // arguments that are no flags, moved to the front of argv
    for (int i = 1; i < argc; i++) {
        if (!flags || argv[i][0] != '-' || !argv[i][1]) argv[n++] = argv[i];
        else if (strcmp(argv[i], "--") == 0) flags = false;
        else if (strcmp(argv[i], "--ids") == 0) only_ids = true;
        else if (strcmp(argv[i], "--plain") == 0) plain = true;
        else if (strcmp(argv[i], "--decode") == 0) decode = true;
        else if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) { fputs(usage, stdout); flush_output(); return 0; }
        else die(2, "no such flag: %s: see --help; write -- before a text that begins with -", argv[i]);
    }
    if (n == 0) { fputs(usage, stderr); return 2; }
    if (n > 2 && !decode) die(2, "more than one text: %s: quote a text that has spaces", argv[2]);
    if (decode && (only_ids || plain)) die(2, "these make no sense together: --decode and --ids or --plain: leave one out");

    signal(SIGPIPE, SIG_IGN);               // a closed pipe is an error of write, which flush_output sees
    File file = map_file(argv[0]);
    Tokenizer t = open_tokenizer(&file, argv[0]);
    Ids ids = { 0 };
    if (decode) {
        for (int i = 1; i < n; i++) push_written_id(&ids, argv[i], file.header->vocab_size);
        if (n == 1) {
            Bytes input = read_input();
            push_bytes_of(&input, (const unsigned char *)"", 1);
            for (char *word = strtok((char *)input.data, " \t\r\n"); word; word = strtok(NULL, " \t\r\n"))
                push_written_id(&ids, word, file.header->vocab_size);
            free(input.data);
        }
    } else if (n == 2) {
        encode(&t, argv[1], strlen(argv[1]), !plain, &ids);
    } else {
        Bytes input = read_input();
        encode(&t, (const char *)input.data, input.n, !plain, &ids);
        free(input.data);
    }
    for (size_t i = 0; i < ids.n && !ferror(stdout); i++) {
        size_t size;
        const unsigned char *bytes = token_bytes(&t, ids.id[i], &size);
        if (decode) fwrite(bytes, 1, size, stdout);
        else if (only_ids) printf("%s%d", i ? " " : "", ids.id[i]);
        else {
            printf("%d\t", ids.id[i]);
            write_piece(&t, stdout, bytes, size);
            putchar('\n');
        }
    }
    if (only_ids) putchar('\n');
    flush_output();
    free(ids.id);
    return 0;
}

#endif
