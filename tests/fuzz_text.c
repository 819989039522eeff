/* Fuzzes encode and token_bytes with arbitrary text (clang's libFuzzer):
 *
 *     clang -std=c11 -g -O1 -fsanitize=fuzzer,address,undefined tests/fuzz_text.c -o fuzz_text
 *     MODEL=tiny-chat.bin ./fuzz_text
 *
 * Besides what the sanitizers see: the bytes of a text's ids, encoded again, give the same ids,
 * since they are in NFC already. What they should be is for test_tokenizer.py and
 * compare_tokenizer.py.
 */
#define main tokenizer_main
#include "../tokenizer.c"
#undef main

static Tokenizer tokenizer;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    const char *path = getenv("MODEL");
    if (!path) die(2, "no model: MODEL: set it to the path of a .bin");
    File file = map_file(path);
    tokenizer = open_tokenizer(&file);
    return 0;
}

static void check(const char *text, size_t size, bool special) {
    Ids ids = { 0 }, again = { 0 };
    Text bytes = { 0 };
    encode(&tokenizer, (Bytes){ text, size }, special, &ids);
    for (size_t i = 0; i < ids.n; i++) {
        Bytes piece = token_bytes(&tokenizer, ids.id[i]);
        push_bytes(&bytes, piece.data, piece.n);
    }
    encode(&tokenizer, (Bytes){ bytes.data, bytes.n }, special, &again);
    if (ids.n != again.n) abort();
    for (size_t i = 0; i < ids.n; i++) if (ids.id[i] != again.id[i]) abort();
    free(ids.id);
    free(again.id);
    free(bytes.data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    check((const char *)data, size, false);
    check((const char *)data, size, true);
    return 0;
}
