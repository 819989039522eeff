#!/bin/sh
# All tests: a line for each, `ok`, `FAIL` or `skip` and its name, and at the end
# "N passed, N failed, N skipped".
#
#     ./test_all.sh            three minutes on two cores
#     ./test_all.sh --all      and with sanitizers, valgrind, all compilers and processors at hand
#
# Needs cc, make and python3. What needs more is skipped by name where it is absent. With
# QWEN_TOKENIZER=DIR, a directory that holds the real Qwen1.5 tokenizer.json, the tokenizer is
# tested with that one too.
# shellcheck disable=SC2016             # jobs are expanded when they run

cd "$(dirname "$0")" || exit 1
case "$*" in
    "") all= ;;
    --all) all=1 ;;
    *) echo "usage: ./test_all.sh [--all]" >&2; exit 2 ;;
esac
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
export ASAN_OPTIONS=detect_leaks=0              # a program that ends gives its memory back

# ---------------------------------------------------------------------------------------------
# Jobs: as many at once as there are processors, their output in order
# ---------------------------------------------------------------------------------------------

n_jobs=0

# job PREFIX COMMAND: a program that prints lines of tests; PREFIX goes before their names. If it
# fails without a line that says so, that counts as a failure, too.
job() {
    n_jobs=$((n_jobs + 1))
    echo "$1" >"$folder/prefix.$n_jobs"
    echo "$2" >"$folder/command.$n_jobs"
}

# python FILE ...: a shell has its background jobs ignore Ctrl-C, which tests send
python() {
    python3 -c 'import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])' "$@"
}

# work: takes jobs that nobody has taken, one after the other
work() {
    for i in $(seq $n_jobs); do
        mkdir "$folder/taken.$i" 2>/dev/null || continue
        (eval "$(cat "$folder/command.$i")") >"$folder/output.$i" 2>&1 </dev/null
        echo $? >"$folder/status.new.$i"
        mv "$folder/status.new.$i" "$folder/status.$i"
    done
}

# finish: runs the jobs and shows what they print
finish() {
    workers=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
    for i in $(seq "$workers"); do work & done
    for i in $(seq $n_jobs); do
        until [ -e "$folder/status.$i" ]; do sleep 1; done
        prefix=$(cat "$folder/prefix.$i") status=$(cat "$folder/status.$i")
        sed "s/^\(ok  \|FAIL\|skip\) /&${prefix:+$prefix: }/" "$folder/output.$i"
        if [ "$status" -ne 0 ] && ! grep -q '^FAIL' "$folder/output.$i"; then
            echo "FAIL $prefix: exit status $status: $(cat "$folder/command.$i")"
        fi
    done | tee -a "$folder/lines"
    wait
    rm -rf "$folder"/taken.* "$folder"/status.*
    n_jobs=0
}

# ---------------------------------------------------------------------------------------------
# Builds
# ---------------------------------------------------------------------------------------------

# flags VARIABLE COMPILER: those of the Makefile
flags() {
    printf 'include Makefile\nprint:\n\t@echo $(%s) -Werror\n' "$1" | make -s -f - print CC="$2"
}

# build NAME COMPILER FLAGS: $folder/NAME-qwen and $folder/NAME-tokenizer
build() {
    if ! command -v "$2" >/dev/null; then
        echo "skip build: $1: not installed"
        return
    fi
    # shellcheck disable=SC2086             # the flags are several words
    if "$2" $3 qwen.c -o "$folder/$1-qwen" -lm -pthread >"$folder/log.$1" 2>&1 &&
        "$2" $3 tokenizer.c -o "$folder/$1-tokenizer" >>"$folder/log.$1" 2>&1
    then echo "ok   build: $1, without a warning"
    else echo "FAIL build: $1: $(head -n 1 "$folder/log.$1")"
    fi
}

# sanitizer FLAGS: a compiler that has it; clang's sees more than gcc's
sanitizer() {
    for compiler in clang cc; do
        # shellcheck disable=SC2086
        if echo 'int main(void) { return 0; }' |
            $compiler $1 -xc - -o "$folder/probe" >"$folder/log.probe" 2>&1 && "$folder/probe"
        then echo $compiler; return; fi
    done
    echo "no-compiler-that-has-it"
}

libraries() {
    if ! command -v ldd >/dev/null || ! ldd "$folder/cc-qwen" >"$folder/log.ldd" 2>&1; then
        echo "skip build: only libc and libm: no ldd"
        return
    fi
    others=$(awk '{ print $1 }' "$folder/log.ldd" |
        grep -vE 'linux-vdso|ld-linux|ld-musl|libc\.|libm\.' | tr '\n' ' ')
    if [ -z "$others" ]; then echo "ok   build: only libc and libm"
    else echo "FAIL build: linked with $others"; fi
}

job "" 'build cc cc "$(flags CFLAGS cc)"; libraries'
job "" 'build gcc gcc "$(flags CFLAGS gcc)"'
job "" 'build clang clang "$(flags CFLAGS clang)"'
if [ "$all" ]; then
    job "" 'build sanitizers "$(sanitizer -fsanitize=address,undefined)" "$(flags DEBUG cc)"'
    job "" 'build thread-sanitizer "$(sanitizer -fsanitize=thread)" "-g -O1 -fsanitize=thread"'
fi
finish

# ---------------------------------------------------------------------------------------------
# Tests, those that take longest first
# ---------------------------------------------------------------------------------------------

real_tokenizer() {
    if [ -z "$QWEN_TOKENIZER" ]; then
        echo "skip real tokenizer: QWEN_TOKENIZER is not set"
    elif python3 tests/make_checkpoint.py "$folder/real" --tokenizer "$QWEN_TOKENIZER" \
            >"$folder/log.real" 2>&1 &&
        python3 export.py "$folder/real" "$folder/real.bin" >>"$folder/log.real" 2>&1
    then echo "ok   real tokenizer: exported"
    else echo "FAIL real tokenizer: $(tail -n 1 "$folder/log.real")"; fi
}

# tokenizer NAME: tests of that build, with the real tokenizer if it is there
tokenizer() {
    real="$folder/real.bin"
    [ -e "$real" ] || real=
    python tests/test_tokenizer.py "$folder/$1-tokenizer" ${real:+"$real"}
}

uninitialised() {
    if ! command -v valgrind >/dev/null; then
        echo "skip valgrind: not installed"
    elif cc -O1 -g qwen.c -o "$folder/plain-qwen" -lm -pthread 2>"$folder/log.valgrind" &&
        python3 export.py tiny/chat "$folder/chat.bin" 2>>"$folder/log.valgrind" &&
        valgrind -q --error-exitcode=9 "$folder/plain-qwen" "$folder/chat.bin" -t 2 \
            -p "What colour is an apple?" -n 8 --seed 1 >"$folder/output.valgrind" \
            2>>"$folder/log.valgrind"
    then echo "ok   valgrind: nothing is read that was not written"
    else echo "FAIL valgrind: $(tail -n 1 "$folder/log.valgrind")"; fi
}

# lost: what LeakSanitizer says of a program that ends. (Under some debuggers it cannot work.)
lost() {
    if python3 export.py tiny/chat "$folder/lost.bin" 2>"$folder/log.lost" &&
        ASAN_OPTIONS=detect_leaks=1 "$folder/sanitizers-qwen" "$folder/lost.bin" \
            -p hi -p ho --stop oo -n 9 >"$folder/output.lost" 2>>"$folder/log.lost"
    then echo "ok   no memory is lost"
    elif grep -q "LeakSanitizer has encountered" "$folder/log.lost"; then
        echo "skip no memory is lost: LeakSanitizer cannot work here"
    else echo "FAIL no memory is lost: $(grep -m 1 ERROR "$folder/log.lost")"; fi
}

# count: the last line
count() {
    passed=$(grep -c '^ok ' "$folder/lines")
    failed=$(grep -c '^FAIL ' "$folder/lines")
    skipped=$(grep -c '^skip ' "$folder/lines")
    grep '^FAIL ' "$folder/lines"
    echo "$passed passed, $failed failed, $skipped skipped"
    [ "$failed" -eq 0 ]
}

[ -x "$folder/cc-tokenizer" ] || { count; exit 1; }
real_tokenizer | tee -a "$folder/lines"
if [ "$all" ]; then
    job "" tests/portability.sh
    if [ -x "$folder/sanitizers-qwen" ]; then
        for suite in qwen terminal files bounds; do
            job sanitizers "python tests/test_$suite.py \"\$folder/sanitizers-qwen\""
        done
        job sanitizers 'tokenizer sanitizers'
        job sanitizers lost
        job sanitizers 'python tests/test_malformed.py "$folder"/sanitizers-*'
    fi
    if [ -x "$folder/thread-sanitizer-qwen" ]; then
        job "thread sanitizer" 'python tests/test_qwen.py --only threads \
            "$folder/thread-sanitizer-qwen"'
    fi
    job "" uninitialised
fi
job "" 'python tests/test_export.py'
job "" 'tokenizer cc'
job "" 'python tests/test_qwen.py "$folder/cc-qwen"'
job "" 'python tests/test_malformed.py "$folder/cc-qwen" "$folder/cc-tokenizer"'
job "" 'python tests/test_terminal.py "$folder/cc-qwen"'
job "" 'python tests/test_files.py "$folder/cc-qwen"'
job "" 'python tests/test_bounds.py "$folder/cc-qwen"'
job "" 'python tests/test_readme.py "$folder/cc-qwen" "$folder/cc-tokenizer"'
[ ! -e tests/test_museum.py ] || job "" 'python tests/test_museum.py "$folder/cc-qwen"'
[ ! -e tests/test_ports.sh ] || job "" tests/test_ports.sh
finish
count
