#!/bin/sh
# The page, and the programs for Windows and macOS: built without a warning, and compared with the
# native program, as far as what that needs is installed.
#
#     tests/test_ports.sh
#
# A line per test: `ok   NAME`, `FAIL NAME: reason` or `skip NAME: why`; exit status 1 if one
# failed.

cd "$(dirname "$0")/.." || exit 1
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
status=0

skip() { echo "skip $1: $2"; }
fail() { echo "FAIL $1: $(printf '%s' "$2" | tr '\n' ' ' | cut -c 1-400)"; status=1; }

# built NAME COMMAND...: it succeeds, without a warning
built() {
    name=$1
    shift
    if ! "$@" >"$folder/log" 2>&1 || grep -q 'warning:' "$folder/log"; then
        fail "$name" "$(grep -m 1 -E 'error|warning' "$folder/log" || tail -n 1 "$folder/log")"
        return 1
    fi
    echo "ok   $name, without a warning"
}

built "ports: the native program" make -s qwen tokenizer tiny-base.bin tiny-chat.bin || exit 1
rm -f build/qwen.wasm build/lesson.html build/qwen.exe build/tokenizer.exe

if ! echo 'int main(void) { return 0; }' |
    clang --target=wasm32-wasi -x c - -o "$folder/probe" 2>/dev/null; then
    skip "page" "no clang with lld, wasi-libc and its builtins"
elif built "page: built" make -s page; then
    size=$(wc -c <build/lesson.html)
    if [ "$size" -lt 4000000 ]; then echo "ok   page: below 4 MB: $size bytes"
    else fail "page: below 4 MB" "$size bytes"; fi
    python3 tests/test_ports_page.py qwen build || status=1
fi

# The page of the repository is as new as what it is made of.
if [ ! -f ports/web/lesson.html ]; then skip "page: ports/web/lesson.html" "not there"
elif grep -q "name=\"sources\" content=\"$(python3 ports/web/build.py --sources)\"" \
    ports/web/lesson.html; then echo "ok   page: ports/web/lesson.html is made of these sources"
else fail "page: ports/web/lesson.html" "older than its sources: make page, and copy it there"
fi

for wine in wine64 /usr/lib/wine/wine64 wine ''; do
    if command -v "$wine" >/dev/null; then break; fi
done
if ! command -v x86_64-w64-mingw32-gcc >/dev/null; then
    skip "windows" "x86_64-w64-mingw32-gcc is not installed"
elif built "windows: built" make -s windows; then
    if [ -n "$wine" ]; then python3 tests/test_ports_windows.py "$wine" || status=1
    else skip "windows: run" "wine is not installed"; fi
fi

for processor in aarch64 x86_64; do
    if ! python3 -m ziglang version >/dev/null 2>&1; then
        skip "macos: $processor" "ziglang is not installed"
        continue
    fi
    for program in qwen tokenizer; do
        built "macos: $program built for $processor" python3 -m ziglang cc \
            -target $processor-macos -std=c11 -O3 -ffp-contract=fast -Wall -Wextra -Wpedantic \
            $program.c -o "$folder/$program" -lm -pthread
    done
done
exit $status
