"""Makes build/lesson.html: the page, the program as WebAssembly and both models, in one file.

    python3 ports/web/build.py PROGRAM.wasm BASE.bin CHAT.bin OUT.html      (int8 models)
    python3 ports/web/build.py --sources                    prints the hash of what it is made of
"""
import base64
import gzip
import hashlib
import json
import os
import struct
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SOURCES = ["qwen.c", "tokenizer.c", "export.py", "tiny/base", "tiny/chat", "ports/web"]


def read(name: str) -> bytes:
    """The bytes of a file, named from the repository's top."""
    with open(os.path.join(ROOT, name), "rb") as file:
        return file.read()


def sources_hash() -> str:
    """A hash of all that the page is made of; the page carries it."""
    names = [name for name in SOURCES if os.path.isfile(os.path.join(ROOT, name))]
    for source in SOURCES:
        for folder, _, files in os.walk(os.path.join(ROOT, source)):
            names += [os.path.relpath(os.path.join(folder, name), ROOT).replace(os.sep, "/")
                      for name in files if not name.endswith((".pyc", "lesson.html"))]
    digest = hashlib.sha256()
    for name in sorted(names):
        content = read(name)
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


def parts_of_model(kind: str, model: bytes) -> list:
    """[(name, bytes)]: header, tokenizer section and weights of a .bin."""
    tokenizer, = struct.unpack_from("<Q", model, 24)
    weights, = struct.unpack_from("<Q", model, 40)
    return [(f"{kind}.header", model[:tokenizer]), ("tokenizer", model[tokenizer:weights]),
            (f"{kind}.weights", model[weights:])]


def build(program: str, base: str, chat: str, out: str) -> None:
    """Writes the page."""
    parts = {"program": read(program)}
    for kind, path in (("base", base), ("chat", chat)):
        for name, content in parts_of_model(kind, read(path)):
            if parts.setdefault(name, content) != content:
                sys.exit("build.py: the two models have different tokenizers: export them again")
    packed = gzip.compress(b"".join(parts.values()), 9, mtime=0)
    files = base64.b85encode(packed, pad=True).replace(b"<", b",").decode()     # no end of a script
    page = read("ports/web/page.html").decode()
    for name, value in {
            "sources": sources_hash(),
            "css": read("ports/web/page.css").decode().strip(),
            "system": read("ports/web/system.js").decode().strip(),
            "js": read("ports/web/page.js").decode().strip(),
            "parts": json.dumps([[name, len(content)] for name, content in parts.items()]),
            "size": str(len(packed)), "files": files,
    }.items():
        page = page.replace(f"@{name}@", value)
    with open(os.path.join(ROOT, out), "w", encoding="utf-8", newline="\n") as file:
        file.write(page)
    print(f"{out}: {len(page.encode()) / 1e6:.2f} MB")


if __name__ == "__main__":
    if sys.argv[1:] == ["--sources"]:
        print(sources_hash())
    else:
        build(*sys.argv[1:5])
