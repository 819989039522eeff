# make         build ./qwen and ./tokenizer
# make demo    the lesson, on the two small models under tiny/   (LANG=zh: in Chinese)
# make test    all tests (./test_all.sh)
# make bench   how fast, against what this machine can do   (SHAPE=0.5b or 1.8b)
# make museum  models that do not stop, each for another reason, to be found out   (SEED=7)
# make page    build/lesson.html: the lesson as one offline page (clang, lld, wasi-libc)
# make windows build/qwen.exe and build/tokenizer.exe (mingw-w64)
# make fuzz    fuzz the program with files and texts, a minute each (clang)
# make debug   ./qwen-debug and ./tokenizer-debug, with Address- and UndefinedBehaviorSanitizer
# make clean

CC = cc
SHAPE = 0.5b
# What of these the compiler takes: Apple clang 13 and 14.0 on Apple silicon refuse -march=native.
take = $(shell echo | $(CC) $(1) -x c -E - >/dev/null 2>&1 && echo " $(1)")
ifeq ($(OS),Windows_NT)
# Not native: gcc aligns the stack of Windows to 16 bytes, which is too few for AVX.
NATIVE := $(call take,-march=x86-64-v2)
PORT = -Iports/windows -include ports/windows/posix.h ports/windows/posix.c -static
else
NATIVE := $(call take,-march=native)
endif
# -std=c11 alone would switch off fused multiply-add, which a matrix product lives on
CFLAGS = -std=c11 -O3$(NATIVE) -ffp-contract=fast -Wall -Wextra -Wpedantic
DEBUG = -std=c11 -O1 -g -Wall -Wextra -Wpedantic \
	-fsanitize=address,undefined -fno-sanitize-recover=all

all: qwen tokenizer

qwen: qwen.c tokenizer.c
	$(CC) $(CFLAGS) $(PORT) qwen.c -o $@ -lm -pthread

tokenizer: tokenizer.c
	$(CC) $(CFLAGS) $(PORT) tokenizer.c -o $@

debug: qwen-debug tokenizer-debug

qwen-debug: qwen.c tokenizer.c
	$(CC) $(DEBUG) qwen.c -o $@ -lm -pthread

tokenizer-debug: tokenizer.c
	$(CC) $(DEBUG) tokenizer.c -o $@

# The page: the same two files in WebAssembly, with both small models as int8. Another compiler:
# make page WASM="python3 -m ziglang cc -target wasm32-wasi"
WASM = clang --target=wasm32-wasi

build/qwen.wasm: qwen.c tokenizer.c ports/web/posix/*.h ports/web/posix/sys/*.h
	@mkdir -p build
	$(WASM) -std=c11 -O3 -msimd128 -ffp-contract=fast -Wall -Wextra -Wpedantic \
		-Iports/web/posix -include ports/web/posix/posix.h \
		-Wl,--strip-all,-z,stack-size=1048576 qwen.c -o $@ -lm

build/%.bin: tiny-%.bin qwen
	@mkdir -p build
	./qwen $< --quantize $@

page: build/qwen.wasm build/base.bin build/chat.bin
	python3 ports/web/build.py $^ build/lesson.html

build/%.exe: %.c tokenizer.c ports/windows/posix.c ports/windows/posix.h
	@mkdir -p build
	$(CC) $(CFLAGS) $(PORT) $< -o $@ -lm -pthread

windows:
	@$(MAKE) --no-print-directory OS=Windows_NT CC=x86_64-w64-mingw32-gcc build/qwen.exe \
		build/tokenizer.exe

tiny-%.bin: tiny/%/model.safetensors tiny/%/config.json export.py
	python3 export.py tiny/$* $@

demo: all tiny-base.bin tiny-chat.bin
	@tests/demo.sh

test:
	@./test_all.sh

bench: all
	@python3 tests/bench.py --shape $(SHAPE)

museum: qwen
	@python3 tests/museum.py ./qwen build/museum $(SEED)

fuzz:
	@tests/fuzz.sh

clean:
	rm -rf build
	rm -f qwen tokenizer qwen-debug tokenizer-debug tiny-base.bin tiny-chat.bin

.PHONY: all debug demo test bench museum fuzz page windows clean
