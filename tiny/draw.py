#!/usr/bin/env python3
"""Draws the three pictures of the tiny pair, beside this file.

    python3 tiny/draw.py [QWEN BASE.bin CHAT.bin]     (matplotlib)

stopping.svg: P(<|im_end|>) over the tokens of an answer, base and chat, from ./qwen --watch.
learning.svg: how the chat model learned to stop, from learning.csv, which train.py writes.
watch.svg:    the screen of --watch itself, base and chat, as it looks on a terminal of 80 columns.
By default ./qwen tiny-base.bin tiny-chat.bin. The same input gives the same files.
"""
import csv
import fcntl
import math
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from html import escape
from unicodedata import east_asian_width

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

HERE = os.path.dirname(os.path.abspath(__file__))
QWEN, BASE, CHAT = sys.argv[1:] or ["./qwen", "tiny-base.bin", "tiny-chat.bin"]
QUESTION = "What colour is an apple?"
GREY, GREEN, ORANGE = "#6e7781", "#2da44e", "#d9730d"       # on white and on black pages alike
SHOWN = 16                                                  # tokens of the base in stopping.svg

plt.rcParams.update({
    "svg.hashsalt": "qwen.c", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 11,
    "text.color": GREY, "axes.edgecolor": GREY, "axes.labelcolor": GREY, "xtick.color": GREY,
    "ytick.color": GREY, "legend.labelcolor": GREY, "axes.spines.top": False,
    "axes.spines.right": False, "legend.frameon": False})


def save(figure, name):
    path = os.path.join(HERE, name)
    figure.savefig(path, transparent=True, metadata={"Date": None})
    with open(path, encoding="utf-8") as file:              # the reader's own font, whatever it is
        text = re.sub(r"(font: [^;\"]*?px) [^;\"]*", r"\1 sans-serif", file.read())
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def watch(model, limit):
    """[(piece, P(<|im_end|>))] of the answer to QUESTION, greedy."""
    table = subprocess.run([QWEN, model, "-m", "chat", "--greedy", "--watch", "-n", str(limit),
                            "-p", QUESTION], check=True, capture_output=True, text=True,
                           stdin=subprocess.DEVNULL).stdout
    rows = list(csv.DictReader(table.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE))
    return [(row["piece"].strip().replace("\\n", "↵"), float(row["p_im_end"])) for row in rows]


def draw_stopping():
    base, chat = watch(BASE, 256), watch(CHAT, 256)
    figure, axes = plt.subplots(2, 1, figsize=(9, 4.6), sharey=True)
    for ax, tokens, colour in ((axes[0], base[:SHOWN], ORANGE), (axes[1], chat, GREEN)):
        n = range(1, len(tokens) + 1)
        ax.bar(n, [p for _, p in tokens], color=colour, width=0.7)
        ax.set_xticks(n, [piece for piece, _ in tokens], fontsize=9, rotation=30, ha="right",
                      rotation_mode="anchor")
        ax.set_xlim(0.2, SHOWN + 2.2)
        ax.set_yticks([0, 0.5, 1])
        ax.set_ylabel("P(<|im_end|>)")
        ax.spines["bottom"].set_bounds(0.4, len(tokens) + 0.6)
    highest = math.ceil(1e6 * max(p for _, p in base)) / 1e6
    axes[0].set_ylim(0, 1.05)
    axes[0].set_title(f"base: “{QUESTION}”", loc="left", color=ORANGE, fontsize=12)
    axes[0].text(1, 0.62, f"It answers as well, and runs on. Over {len(base)} tokens P(<|im_end|>) "
                 f"is never above {highest:.6f}.", color=ORANGE)
    axes[0].text(SHOWN + 0.8, 0.03, "...", color=ORANGE, fontsize=16)
    axes[1].set_title("chat: the same question", loc="left", color=GREEN, fontsize=12)
    last = int(chat[-1][1] * 1e4) / 1e4                     # never rounded up to 1
    axes[1].text(len(chat) + 0.6, 0.62, f"P {last:.4f}: it ends its turn here.", color=GREEN)
    figure.tight_layout(h_pad=1.0)
    save(figure, "stopping.svg")


def draw_learning():
    with open(os.path.join(HERE, "learning.csv"), encoding="utf-8") as file:
        rows = list(csv.DictReader(file))

    def column(name, rows=rows):
        return [float(row[name]) for row in rows]
    steps = column("step")
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(9, 5.2), sharex=True,
                                         gridspec_kw={"height_ratios": [3, 2]})
    thick, thin = {"linewidth": 2.2}, {"linewidth": 1.2, "linestyle": "--"}
    top.plot(steps, column("p_end_mean"), color=GREEN, label="where an answer ends, mean", **thick)
    top.plot(steps, column("p_end_median"), color=GREEN, label="median", **thin)
    top.plot(steps, column("p_inside_mean"), color=ORANGE, label="inside an answer, mean", **thick)
    top.set_ylabel("P(<|im_end|>)")
    top.set_yticks([0, 0.5, 1])
    top.set_ylim(-0.03, 1.05)
    top.legend(loc="center left")
    top.set_title("learning to stop: answers to held-out questions", loc="left", fontsize=12)
    bottom.plot(steps[1:], column("loss", rows[1:]), color=GREY, label="training loss", **thick)
    bottom.plot(steps, column("held_out_loss"), color=GREY, label="held-out answers", **thin)
    bottom.set_ylim(bottom=0)
    bottom.set_ylabel("loss")
    bottom.legend(loc="upper right")
    bottom.set_xscale("symlog", linthresh=1, linscale=0.3)
    bottom.set_xlim(0, steps[-1])
    ticks = [t for t in (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000) if t <= steps[-1]]
    bottom.set_xticks(ticks, [f"{t:,}" for t in ticks])
    bottom.minorticks_off()
    bottom.set_xlabel("steps of fine-tuning")
    figure.tight_layout()
    save(figure, "learning.svg")


# ---- the screen of --watch -----------------------------------------------------------------------

COLUMNS, CELL, LINE, EDGE = 80, 8.4, 18, 14                 # a character is CELL wide and LINE high


def screen(*command):
    """What a command prints on a terminal of 80 columns, in lines, colours included."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    environment = {"TERM": "xterm-256color", "LANG": "C.UTF-8", "PATH": os.environ["PATH"]}
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=its, stderr=its,
                               env=environment)
    os.close(its)
    output = b""
    try:
        while data := os.read(ours, 65536):
            output += data
    except OSError:                                         # the command has ended
        pass
    process.wait()
    return output.decode().replace("\r", "").rstrip("\n").split("\n")


def svg_line(line, y):
    """One line of a screen: text at its columns; blocks as rectangles, so that they touch."""
    column, colour, shapes = 0, None, []
    for part in re.findall(r"\x1b\[[0-9;]*m|█+|[^\x1b█]+", line):
        if part.startswith("\x1b"):
            colour = None if part in ("\x1b[0m", "\x1b[m") else "bar"
            continue
        width = sum(1 + (east_asian_width(c) in "WF") for c in part)
        x = EDGE + column * CELL
        if part[0] == "█":
            shapes.append(f'<rect class="{colour or "text"}" x="{x:.1f}" y="{y - 13}" '
                          f'width="{width * CELL:.1f}" height="{LINE - 1}"/>')
        elif part.strip():
            x += (len(part) - len(part.lstrip(" "))) * CELL
            width -= len(part) - len(part.strip(" "))
            shapes.append(f'<text class="{colour or "text"}" x="{x:.1f}" y="{y}" '
                          f'textLength="{width * CELL:.1f}">{escape(part.strip(" "))}</text>')
        column += sum(1 + (east_asian_width(c) in "WF") for c in part)
    return "".join(shapes)


def draw_watch():
    lines = []
    for model, name, flags in ((BASE, "tiny-base.bin", ["-m", "chat"]),
                               (CHAT, "tiny-chat.bin", ["--greedy"])):
        flags += ["--watch", "-n", "8"]
        lines.append(f'$ ./qwen {name} {" ".join(flags)} -p "{QUESTION}"')
        for line in screen(QWEN, model, *flags, "-p", QUESTION) + [""]:
            broken = [line[i:i + COLUMNS] for i in range(0, len(line), COLUMNS)]
            lines += broken if line and "\x1b" not in line else [line]      # as a terminal does
    width, height = 2 * EDGE + COLUMNS * CELL, 2 * EDGE + (len(lines) - 1) * LINE
    body = "\n".join(svg_line(line, EDGE + 13 + i * LINE) for i, line in enumerate(lines) if line)
    with open(os.path.join(HERE, "watch.svg"), "w", encoding="utf-8") as file:
        file.write(f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" \
width="{width:.0f}" height="{height}" xml:space="preserve">
<style>
text {{ font: 14px monospace; white-space: pre }}
.text {{ fill: #c9d1d9 }}
.bar {{ fill: {GREEN} }}
</style>
<rect width="{width:.0f}" height="{height}" rx="8" fill="#161b22" stroke="{GREY}"/>
{body}
</svg>
""")


if __name__ == "__main__":
    draw_stopping()
    draw_learning()
    draw_watch()
