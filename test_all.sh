#!/bin/sh
# All tests: a line for each, `ok`, `FAIL` or `skip` and its name, and at the end "N passed, N failed, N skipped".
#
#     ./test_all.sh
#
# Needs cc, make and python3. What needs more (clang, sanitizers, valgrind, other processors) is skipped by name where it
# is absent. With QWEN_TOKENIZER=DIR, a directory that holds the real Qwen1.5 tokenizer.json, the tokenizer is tested with
# that one too.

cd "$(dirname "$0")" || exit 1
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
flags="-O3 -march=native -ffp-contract=fast -std=c11 -Wall -Wextra -Wpedantic -Werror"
sanitizers="-O1 -g -std=c11 -Wall -Wextra -Wpedantic -Werror -fsanitize=address,undefined -fno-sanitize-recover=all"
export ASAN_OPTIONS=detect_leaks=0              # a program that ends gives its memory back

say() { echo "$*" | tee -a "$folder/lines"; }

# run NAME COMMAND ...: a program that prints lines of tests; that it fails without such a line counts as a failure, too
run() {
    name=$1
    shift
    { "$@" 2>&1; echo $? >"$folder/status"; } | tee "$folder/output"
    cat "$folder/output" >>"$folder/lines"
    [ "$(cat "$folder/status")" -eq 0 ] || grep -q '^FAIL' "$folder/output" || say "FAIL $name: exit status $(cat "$folder/status")"
}

# build NAME COMPILER FLAGS: $folder/NAME-qwen and $folder/NAME-tokenizer
build() {
    # shellcheck disable=SC2086             # the flags are several words
    if "$2" $3 qwen.c -o "$folder/$1-qwen" -lm -pthread >"$folder/log" 2>&1 &&
        "$2" $3 tokenizer.c -o "$folder/$1-tokenizer" >>"$folder/log" 2>&1
    then say "ok   build: $1, without a warning"
    else say "FAIL build: $1: $(head -n 1 "$folder/log")"
    fi
}

for compiler in cc gcc clang; do
    if command -v $compiler >/dev/null; then build $compiler $compiler "$flags"; else say "skip build: $compiler: not installed"; fi
done
sanitizer=                                      # clang's see more than gcc's
for compiler in clang cc; do
    # shellcheck disable=SC2086
    if [ -z "$sanitizer" ] && echo 'int main(void) { return 0; }' | $compiler $sanitizers -xc - -o "$folder/probe" 2>/dev/null &&
        "$folder/probe"; then sanitizer=$compiler; fi
done
if [ -n "$sanitizer" ]; then build sanitizers "$sanitizer" "$sanitizers"; else say "skip build: sanitizers: no compiler here has them"; fi
if command -v ldd >/dev/null && ldd "$folder/cc-qwen" >"$folder/log" 2>&1; then
    others=$(awk '{ print $1 }' "$folder/log" | grep -vE 'linux-vdso|ld-linux|ld-musl|libc\.|libm\.' | tr '\n' ' ')
    if [ -z "$others" ]; then say "ok   build: only libc and libm"; else say "FAIL build: linked with $others"; fi
else
    say "skip build: only libc and libm: no ldd"
fi

real=
if [ -n "$QWEN_TOKENIZER" ]; then
    real=$folder/real.bin
    if python3 tests/make_checkpoint.py "$folder/real" --preset tiny --tokenizer "$QWEN_TOKENIZER" >"$folder/log" 2>&1 &&
        python3 export.py "$folder/real" "$real" >>"$folder/log" 2>&1
    then say "ok   real tokenizer: exported"; else say "FAIL real tokenizer: $(tail -n 1 "$folder/log")"; real=; fi
else
    say "skip real tokenizer: QWEN_TOKENIZER is not set"
fi

run test_export python3 tests/test_export.py
for kind in cc sanitizers; do
    [ -x "$folder/$kind-qwen" ] || continue
    echo "with the build of $kind:"
    run test_tokenizer python3 tests/test_tokenizer.py "$folder/$kind-tokenizer" ${real:+"$real"}
    run test_qwen python3 tests/test_qwen.py "$folder/$kind-qwen"
    run test_bounds python3 tests/test_bounds.py "$folder/$kind-qwen"
done
if ! command -v valgrind >/dev/null; then
    say "skip valgrind: not installed"
elif cc -O1 -g qwen.c -o "$folder/plain-qwen" -lm -pthread 2>"$folder/log" &&
    python3 export.py tiny/chat "$folder/chat.bin" 2>>"$folder/log" &&
    valgrind -q --error-exitcode=9 "$folder/plain-qwen" "$folder/chat.bin" -t 2 -p "What colour is an apple?" -n 8 --seed 1 >"$folder/output" 2>>"$folder/log"
then say "ok   valgrind: nothing is read that was not written"
else say "FAIL valgrind: $(tail -n 1 "$folder/log")"
fi
run test_malformed python3 tests/test_malformed.py "$folder/cc-qwen" "$folder/cc-tokenizer"
run test_readme python3 tests/test_readme.py "$folder/cc-qwen" "$folder/cc-tokenizer"
run portability tests/portability.sh

passed=$(grep -c '^ok ' "$folder/lines")
failed=$(grep -c '^FAIL ' "$folder/lines")
skipped=$(grep -c '^skip ' "$folder/lines")
grep '^FAIL ' "$folder/lines"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
