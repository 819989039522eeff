#!/bin/sh
# The same text and the same logits from every compiler, optimisation level and processor at hand.
#
#     tests/portability.sh
#
# Each compiler builds ./qwen and ./tokenizer without a warning. They run on the two models of
# tiny/, under qemu if they are for another processor, and are compared with the build of the
# README. Where it matters for speed, the assembly is read: the sums of a tile stay in registers.
# A line per test: `ok   NAME`, `FAIL NAME: reason` or `skip NAME: why`; exit status 1 if one
# failed.

cd "$(dirname "$0")/.." || exit 1
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
trap 'exit 130' INT TERM
base="$folder/base.bin" chat="$folder/chat.bin" wanted="$folder/wanted"
warnings="-std=c11 -ffp-contract=fast -Wall -Wextra -Wpedantic -Werror"
status=0

text='The apple is red, is it not? 苹果是什么颜色？ 1 2 3    Where is the dog? What
does the bird eat in the morning, and what does it do at night? Ärger,
cafe'"$(printf '\314\201')"', 🍎. Tom has three apples. Anna is at school.'

skip() { echo "skip portability: $1: $2"; }
fail() {
    echo "FAIL portability: $1: $(printf '%s' "$2" | tr '\n' ' ' | cut -c 1-400)"
    status=1
}

# build DIRECTORY COMPILER FLAG...: both programs, in a new directory
build() {
    directory=$1
    shift
    mkdir "$directory" && "$@" qwen.c -o "$directory/qwen" -lm -pthread &&
        "$@" tokenizer.c -o "$directory/tokenizer"
}

# try DIRECTORY [RUNNER]: what its programs have to say, in files beside them. The logits of a
# prompt are computed in batches, those of new tokens one by one.
try() (
    cd "$1" || exit
    run() { ${runner:+"$runner"} "$@"; }
    runner=$2
    run ./tokenizer "$base" "$text" > ids &&
    run ./qwen "$base" -t 2 -p "$text" --score --logits prompt.f32 > table &&
    run ./qwen "$base" -t 2 -p "The apple" -n 40 --greedy --ignore-stop --logits new.f32 > text &&
    run ./qwen "$chat" -t 2 -p "What colour is an apple?" -p "苹果是什么颜色？" -n 40 \
        --greedy >> text
) 2> "$1/error"

# difference FILE FILE: the largest between two files of floats; fails if it is above 1e-4
difference() {
    python3 - "$1" "$2" << 'END'
import struct, sys
a, b = ([x for x, in struct.iter_unpack("<f", open(path, "rb").read())] for path in sys.argv[1:])
largest = max(abs(x - y) for x, y in zip(a, b)) if len(a) == len(b) else float("inf")
print(f"{largest:.1e}")
sys.exit(not largest <= 1e-4)               # NaN fails, too
END
}

# present NAME TOOL...: false, and said, if one is not installed
present() {
    name=$1
    shift
    for tool in "$@"; do
        command -v "$tool" > "$folder/found" || { skip "$name" "no $tool"; return 1; }
    done
}

# prepare NAME RUNNER COMPILER [FLAG...]: sets built to a directory with both programs; false, and
# said, if there is none
prepare() {
    name=$1 runner=$2
    shift 2
    present "$name" "$1" ${runner:+"$runner"} || return 1
    built="$folder/$(echo "$name" | tr ' ' '_')"
    # shellcheck disable=SC2086             # the warnings are several words
    errors=$(build "$built" "$@" $warnings 2>&1) || { fail "$name" "$errors"; return 1; }
}

# compare NAME RUNNER COMPILER [FLAG...]: RUNNER "" is this machine itself
compare() {
    prepare "$@" || return
    try "$built" "$runner" || { fail "$name" "$(cat "$built/error")"; return; }
    cmp -s "$built/ids" "$wanted/ids" || { fail "$name" "other token ids"; return; }
    cmp -s "$built/text" "$wanted/text" ||
        { fail "$name" "another text: $(cat "$built/text")"; return; }
    prompt=$(difference "$built/prompt.f32" "$wanted/prompt.f32") ||
        { fail "$name" "logits of the prompt differ by $prompt"; return; }
    new=$(difference "$built/new.f32" "$wanted/new.f32") ||
        { fail "$name" "logits of new tokens differ by $new"; return; }
    echo "ok   portability: $name: logits within $prompt (prompt) and $new (new tokens)"
}

# refuse NAME RUNNER COMPILER [FLAG...]: a machine that cannot use the file says so in one line
refuse() {
    prepare "$@" || return
    message=$("$runner" "$built/qwen" "$chat" -p hello 2>&1)
    code=$?
    case "$code $(printf '%s\n' "$message" | wc -l) $message" in
        "1 "*"1 qwen: "*little-endian*)
            echo "ok   portability: $name: refused in one line" ;;
        *) fail "$name" "exit status $code: $message" ;;
    esac
}

# registers NAME COMPILER [FLAG...]: a tile has ROWS sums of one vector or of two. Its loop
# multiplies and adds once for each, and stores nothing.
registers() {
    name="the sums of a tile stay in registers: $1"
    shift
    present "$name" "$1" || return
    # shellcheck disable=SC2086
    errors=$("$@" $warnings -O3 -S qwen.c -o "$folder/qwen.s" 2>&1) ||
        { fail "$name" "$errors"; return; }
    if found=$(python3 - "$folder/qwen.s" << 'END'
import re, sys
rows = int(re.search(r"\bROWS = (\d+)", open("qwen.c", encoding="utf-8").read())[1])
lines = open(sys.argv[1], encoding="utf-8").read().splitlines()
labels, loops, tiles = {}, [], []
for at, line in enumerate(lines):
    label = re.match(r"(\.?\w+):", line)
    if label:
        labels[label[1]] = at
    branch = re.match(r"\s+(?:j|b|cb|tb).*?(\.L\w+)\s*(?:#.*|//.*)?$", line)
    if branch and branch[1] in labels:
        loops.append((labels[branch[1]], at))
for begin, end in loops:
    body = lines[begin:end]
    inner = any(begin <= a and b <= end and (a, b) != (begin, end) for a, b in loops)
    sums = sum(bool(re.search(r"\s(fmla|vfmadd\w+ps)\s", x)) for x in body)
    stores = sum(bool(re.search(r"\s(st[rp1]\w*\s|v?mov\w*\s+%\w+, *[^%\s,]*\()", x)) for x in body)
    if not inner and sums in (rows, 2 * rows):
        tiles.append((sums, stores))
print("loops of " + ", ".join(f"{sums} sums, {stores} stores" for sums, stores in sorted(tiles)))
sys.exit(2 * rows not in dict(tiles) or any(stores for _, stores in tiles))
END
    )
    then echo "ok   portability: $name: $found"
    else fail "$name" "$found"
    fi
}

# emulator PROCESSOR: the name of qemu's program for it here
emulator() {
    if command -v "qemu-$1-static" > "$folder/found"; then echo "qemu-$1-static"
    else echo "qemu-$1"; fi
}

for kind in base chat; do
    python3 export.py "tiny/$kind" "$folder/$kind.bin" 2> "$folder/error" ||
        { fail export "$(cat "$folder/error")"; exit 1; }
done
build "$wanted" cc -O3 -march=native -ffp-contract=fast 2> "$folder/error" ||
    { fail "cc -O3 -march=native" "$(cat "$folder/error")"; exit 1; }
try "$wanted" "" || { fail "cc -O3 -march=native" "$(cat "$wanted/error")"; exit 1; }

case $(uname -m) in
    x86_64 | amd64) machines="-march=x86-64 -march=native" ;;
    *) machines="-mcpu=native" ;;
esac
for compiler in gcc clang; do
    for level in -O0 -O3; do
        for machine in $machines; do
            compare "$compiler $level $machine" "" "$compiler" "$level" "$machine"
        done
    done
done
compare "musl" "" musl-gcc -O3 -static
compare "arm64" "$(emulator aarch64)" aarch64-linux-gnu-gcc -O3 -static
refuse "big-endian s390x" "$(emulator s390x)" s390x-linux-gnu-gcc -O1 -static

if [ "$(uname -m)" = x86_64 ]; then
    registers "gcc, AVX2" gcc -march=x86-64-v3
    registers "clang, AVX2" clang -march=x86-64-v3
fi
registers "gcc, arm64" aarch64-linux-gnu-gcc
headers=/usr/aarch64-linux-gnu/include
if [ -d $headers ]; then
    registers "clang, arm64" clang --target=aarch64-linux-gnu -isystem $headers
else
    skip "the sums of a tile stay in registers: clang, arm64" "no headers for arm64"
fi
exit $status
