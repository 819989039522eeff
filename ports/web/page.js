/* The lesson's page. It runs the program in a Worker (system.js) as one would on a command line,
 * `qwen chat.bin --watch --top 5 -p QUESTION`, and shows the rows that come back. */
"use strict";

const LIMIT = 48;                       // tokens of an answer
const PACE = 280;                       // milliseconds from token to token
const TOP = 5;
const END = "<|im_end|>", DOCUMENT_END = "<|endoftext|>";

const WORDS = {
  en: {
    title: "Why does a base model never stop?",
    lead1: "A base model has learnt to continue text; a chat model is the same network, trained "
      + "further on dialogues in which every turn ends with the token <|im_end|>.",
    lead2: "Ask both the same question: the bar under each token is the probability, as the model "
      + "sees it, that the turn ends there.",
    lead3: "An answer ends only where two agree, weights that learnt to say <|im_end|> and a "
      + "runner that stops at it; let the runner ignore it, or click a token and choose another, "
      + "and see who runs on.",
    question: "A question for both", ask: "Ask", examples: "Examples",
    ignore: "The runner ignores <|im_end|>", temperature: "Temperature",
    pause: "Pause", play: "Go on", skip: "To the end",
    chat: "Chat weights", chatWhat: "trained on text, then on dialogues",
    base: "Base weights", baseWhat: "trained on text alone",
    tokens: "Tokens of the answer. Arrow keys move, Enter shows what else was likely.",
    legend: "The bar: P(<|im_end|>), from empty, 0, to full, 1. Click a token for what else was "
      + "likely there.",
    cases: "The four cases", stops: "The runner stops at <|im_end|>",
    ignores: "The runner ignores it",
    about: "This page is the C program qwen.c, compiled to WebAssembly, with two small models "
      + "made for it; they know colours, animals and little else. Nothing that you type leaves "
      + "the page.",
    speed: rate => `Here it writes ${rate} tokens a second; the page slows it down.`,
    stopSign: "■ the runner stops", onSign: "→ and so on",
    running: "…",
    ended: n => `■ Ended its turn after ${n} tokens.`,
    youEnded: () => "■ You ended its turn.",
    documentEnded: n => `■ Ended a document after ${n} tokens.`,
    ignored: n => `→ Ended its turn at token ${n}, and the runner ignored it.`,
    ignoredWhy: "So it ran on, and wrote the next turns itself, yours included.",
    limit: n => `→ Ran on until it was cut off, at ${n} tokens.`,
    highest: p => `Highest P(<|im_end|>): ${p}`,
    caseEnded: n => `■ ends after ${n} tokens`,
    caseIgnored: n => `→ ends its turn at token ${n}, runs on`,
    caseLimit: () => "→ runs on",
    untried: "try it",
    label: (n, piece, p, end) => `Token ${n}: ${piece}. Probability ${p}, of an end ${end}`,
    yours: "chosen by you",
    choices: n => `At token ${n} the model found likely:`,
    chosen: "chosen", close: "Close", goOn: "Choose one, and the text goes on from it.",
    hereEnd: p => `P(<|im_end|>) here: ${p}.`,
    newline: "new line",
    failed: "This page needs a browser of 2023 or later, with WebAssembly SIMD and "
      + "DecompressionStream. It said: ",
    list: ["What colour is a banana?", "What colour is an apple?", "Why do you stop?",
      "雪是什么颜色？", "苹果是什么颜色？"],
    other: "中文", otherLanguage: "zh",
  },
  zh: {
    title: "为什么基础模型停不下来？",
    lead1: "基础模型（base）学会的是续写文字；对话模型（chat）是同一个网络，又用对话训练过，"
      + "其中每一轮都以标记 <|im_end|> 结束。",
    lead2: "向两者提同一个问题：每个标记下面的竖条，是模型自己认为这一轮到此结束的概率。",
    lead3: "回答要停下来，需要双方一致：学会了输出 <|im_end|> 的权重，和遇到它就停止的运行程序；"
      + "让运行程序忽略它，或者点一个标记换成别的，看看谁会一直写下去。",
    question: "问它们同一个问题", ask: "提问", examples: "例子",
    ignore: "运行程序忽略 <|im_end|>", temperature: "温度",
    pause: "暂停", play: "继续", skip: "直接到底",
    chat: "对话权重（chat）", chatWhat: "先用文字训练，再用对话训练",
    base: "基础权重（base）", baseWhat: "只用文字训练",
    tokens: "回答的标记。用方向键移动，按回车键看这里还有哪些可能。",
    legend: "竖条是 P(<|im_end|>)：空为 0，满为 1。点一个标记，看这里还有哪些可能。",
    cases: "四种情况", stops: "运行程序遇到 <|im_end|> 就停", ignores: "运行程序忽略它",
    about: "本页就是 C 程序 qwen.c，编译成了 WebAssembly，带有两个专门训练的小模型；它们只懂颜色、"
      + "动物之类的小事。您输入的内容不会离开本页。",
    speed: rate => `它在这里每秒写 ${rate} 个标记；页面特意放慢了。`,
    stopSign: "■ 运行程序停止", onSign: "→ 没完没了",
    running: "……",
    ended: n => `■ 写了 ${n} 个标记，自己结束了这一轮。`,
    youEnded: () => "■ 您结束了这一轮。",
    documentEnded: n => `■ 写了 ${n} 个标记，结束了一篇文章。`,
    ignored: n => `→ 在第 ${n} 个标记结束了这一轮，但运行程序没有理会。`,
    ignoredWhy: "于是它接着写，把后面几轮也写了出来，连您的问题也替您写了。",
    limit: n => `→ 一直写，到 ${n} 个标记时被截断。`,
    highest: p => `P(<|im_end|>) 最高：${p}`,
    caseEnded: n => `■ ${n} 个标记后结束`,
    caseIgnored: n => `→ 第 ${n} 个标记处结束，却被迫写下去`,
    caseLimit: () => "→ 一直写下去",
    untried: "试一试",
    label: (n, piece, p, end) => `第 ${n} 个标记：${piece}。概率 ${p}，结束的概率 ${end}`,
    yours: "您选的",
    choices: n => `在第 ${n} 个标记处，模型认为可能的有：`,
    chosen: "已选", close: "关闭", goOn: "选一个，文字就从它接着写。",
    hereEnd: p => `这里的 P(<|im_end|>)：${p}。`,
    newline: "换行",
    failed: "本页需要 2023 年以后的浏览器，要有 WebAssembly SIMD 和 DecompressionStream。错误：",
    list: ["雪是什么颜色？", "苹果是什么颜色？", "你为什么停下来？", "What colour is a banana?"],
    other: "English", otherLanguage: "en",
  },
};

const $ = id => document.getElementById(id);
const still = matchMedia("(prefers-reduced-motion: reduce)");
let words = WORDS[navigator.language.startsWith("zh") ? "zh" : "en"];

/* ---- The program ------------------------------------------------------------------------- */

let worker;
const running = new Map();              // id of a run -> { onText, done }
let runs = 0;

/* Runs the program; onText gets standard output as it comes. Resolves to { status, err }. */
function run(args, onText) {
  return new Promise(done => {
    running.set(++runs, { onText, done });
    worker.postMessage({ id: runs, args: args.map(String) });
  });
}

/* Bytes from base 85: five characters for four bytes, where base 64 takes five and a third. */
function fromBase85(text, size) {
  const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    + "!#$%&()*+-;,=>?@^_`{|}~";
  const values = new Uint8Array(128), bytes = new DataView(new ArrayBuffer(text.length / 5 * 4));
  for (let i = 0; i < 85; i++) values[digits.charCodeAt(i)] = i;
  for (let i = 0, value = 0; i < text.length; i++) {
    value = value * 85 + values[text.charCodeAt(i)];
    if (i % 5 !== 4) continue;
    bytes.setUint32((i - 4) / 5 * 4, value);
    value = 0;
  }
  return new Uint8Array(bytes.buffer, 0, size);
}

async function load() {
  const packed = fromBase85($("files").textContent, +$("files").dataset.size);
  const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const all = new Uint8Array(await new Response(unpacked).arrayBuffer());
  const parts = {};
  let at = 0;
  for (const [name, size] of JSON.parse($("files").dataset.parts))
    parts[name] = all.subarray(at, at += size);
  const files = {};
  for (const kind of ["base", "chat"]) {            // the tokenizer is the same in both
    const pieces = [parts[`${kind}.header`], parts.tokenizer, parts[`${kind}.weights`]];
    files[`${kind}.bin`] = new Uint8Array(await new Blob(pieces).arrayBuffer());
  }
  worker = new Worker(URL.createObjectURL(new Blob([$("system").textContent])));
  worker.onmessage = ({ data }) => {
    const job = running.get(data.id);
    if ("out" in data) { job.onText(data.out); return; }
    running.delete(data.id);
    job.done(data);
  };
  worker.postMessage({ module: await WebAssembly.compile(parts.program), files });
}

/* Rows of --watch and --score as they arrive in parts. */
function rowReader(take) {
  let rest = "";
  return text => {
    const lines = (rest + text).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      const [n, id, piece, p, end] = line.split("\t");
      if (n !== "n") take({ n: +n, id: +id, bytes: unescape(piece), p: +p, end: +end });
    }
  };
}

/* The bytes of a piece: \n, \t, \\ and \xHH stand for one each. */
function unescape(piece) {
  const named = { n: 10, t: 9, "\\": 92 }, bytes = [];
  for (const [, hex, name, plain] of piece.matchAll(/\\x(..)|\\(.)|([^\\]+)/gu)) {
    if (plain) bytes.push(...new TextEncoder().encode(plain));
    else bytes.push(hex ? parseInt(hex, 16) : named[name]);
  }
  return Uint8Array.from(bytes);
}

const isEnd = row => [END, DOCUMENT_END].includes(decode(row.bytes));
const decode = bytes => new TextDecoder().decode(bytes);

/* A token's text for the eye: bytes that are not a whole character are shown as \xHH. */
function visible(row) {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(row.bytes);
  } catch {
    return [...row.bytes].map(byte => `\\x${byte.toString(16).padStart(2, "0")}`).join("");
  }
}

/* As the program writes a probability. */
function probability(p) {
  if (p < 0.000001) return "< 0.000001";
  let digits = 2;
  for (let x = p; x < 0.1 && digits < 6; x *= 10) digits++;
  for (let x = 1 - p; x < 0.005 && digits < 5; x *= 10) digits++;
  return Math.min(p, 0.99999).toFixed(digits);
}

/* ---- The two answers --------------------------------------------------------------------- */

const columns = {};
for (const kind of ["chat", "base"])
  columns[kind] = { kind, section: $(kind), text: $(kind).querySelector(".text"),
    verdict: $(kind).querySelector(".verdict"), rows: [], shown: 0, turn: 0, result: null };
const both = Object.values(columns);

let asked = { question: "", ignore: false, temperature: 0, seed: 0 };
let cases = {};                         // of this question: "chat-stops" -> result
let timer = 0, paused = false;
let fastest = 0;                        // tokens a second; the browser's compiler warms up first

function ask() {
  const question = $("question").value.trim();
  if (!question || !worker) return;
  const { temperature } = asked;
  if (question !== asked.question || +$("temperature").value !== temperature) cases = {};
  asked = { question, ignore: $("ignore").checked, temperature: +$("temperature").value,
    seed: asked.seed + 1 };
  closeChoices();
  for (const column of both) answer(column, []);
}

/* Runs a model from the question, or from the rows that are kept of its answer. */
async function answer(column, kept) {
  const turn = ++column.turn, { question, ignore, temperature, seed } = asked;
  const file = `${column.kind}.bin`, framed = ["-m", "chat", "-t", 1];
  Object.assign(column, { rows: [...kept], shown: kept.length, result: null });
  show(column);
  let prompt = ["-p", question];
  if (kept.length > 0) {
    const ids = [];
    await run([file, ...framed, "--score", "-p", question], rowReader(row => ids.push(row.id)));
    prompt = ["--ids", [...ids, ...kept.map(row => row.id)].join(" ")];
  }
  const sampling = temperature === 0 ? ["--greedy"]
    : ["--temp", temperature, "--top-k", 0, "--top-p", 1, "--min-p", 0, "--seed", seed];
  const rows = rowReader(row => {
    const last = column.rows.at(-1);
    if (turn !== column.turn) return;
    row.n += kept.length;
    if (last && last.n === row.n) last.top.push(row);
    else column.rows.push({ ...row, top: [] });
  });
  play();
  let end = { err: "stopped: -n" };
  const ended = kept.length > 0 && isEnd(kept.at(-1)) && !ignore;
  if (!ended && kept.length < LIMIT)
    end = await run([file, ...framed, "-n", LIMIT - kept.length, "--watch", "--top", TOP,
      "--repeat-penalty", 1, ...sampling, ...ignore ? ["--ignore-stop"] : [], ...prompt], rows);
  if (turn !== column.turn) return;
  column.result = result(column, end.err, ended);
  const name = `${column.kind}-${ignore ? "ignores" : "stops"}`;
  if (!column.rows.some(row => row.yours)) cases[name] = column.result;
  const speed = /new \d+ tokens, ([\d.]+) tok/.exec(end.err);
  if (speed) fastest = Math.max(fastest, Math.round(speed[1] / 10) * 10);
  if (fastest > 0) $("speed").textContent = words.speed(fastest);
}

/* What came of it, from the program's closing line and the rows. */
function result(column, err, yours) {
  const { rows } = column, stopped = /^stopped: (\S+)/m.exec(err);
  const ends = rows.findIndex(isEnd) + 1, highest = Math.max(...rows.map(row => row.end));
  if (yours) return { kind: "youEnded", n: rows.length, highest };
  if (!stopped) return { kind: "error", text: err.trim() };
  if (stopped[1] === END) return { kind: "ended", n: rows.length, highest };
  if (stopped[1] === DOCUMENT_END) return { kind: "documentEnded", n: rows.length, highest };
  if (ends > 0) return { kind: "ignored", n: ends, highest };
  return { kind: "limit", n: rows.length, highest };
}

const hasStopped = ({ kind }) => ["ended", "youEnded", "documentEnded"].includes(kind);

/* ---- What is seen ------------------------------------------------------------------------ */

/* Puts a text into an element; special tokens in it are code. */
function fill(element, text) {
  element.replaceChildren(...text.split(/(<\|\w+\|>)/).filter(part => part).map((part, i) => {
    if (!part.startsWith("<|")) return part;
    const code = document.createElement("code");
    code.textContent = part;
    return code;
  }));
}

function make(tag, name, text = "") {
  const element = document.createElement(tag);
  element.className = name;
  element.textContent = text;
  return element;
}

function play() {
  if (!timer) timer = setInterval(tick, PACE);
  if (still.matches) tick();
}

/* The next token of each column; where motion is unwelcome, all that there is. */
function tick() {
  if (paused) return;
  for (const column of both) {
    do {
      if (column.shown >= column.rows.length) break;
      showToken(column, column.shown++);
    } while (still.matches);
    if (column.result && column.shown === column.rows.length) finish(column);
  }
  if (both.every(column => column.section.dataset.state === "done")) {
    clearInterval(timer);
    timer = 0;
    announce();
  }
  $("pause").disabled = $("skip").disabled = timer === 0;
}

function skip() {
  paused = false;
  for (const column of both)
    while (column.shown < column.rows.length) showToken(column, column.shown++);
  label();
  tick();
}

function show(column) {
  column.section.dataset.state = "running";
  column.text.lang = /[\u3400-\u9fff]/.test(asked.question) ? "zh" : "en";
  column.text.replaceChildren();
  column.verdict.className = "verdict";
  column.verdict.textContent = words.running;
  for (let i = 0; i < column.shown; i++) showToken(column, i);
  showCases();
}

function showToken(column, index) {
  const row = column.rows[index], whole = visible(row), special = /^<\|.*\|>$/.test(whole);
  const space = /^ (?=\S)/.test(whole) ? " " : "";      // it stands between the tokens
  const text = whole.slice(space.length).replace(/ /g, "␣").replace(/\n/g, "⏎");
  const token = make("button", `token${row.yours ? " yours" : ""}`);
  token.type = "button";
  token.tabIndex = index === 0 ? 0 : -1;
  token.setAttribute("aria-expanded", "false");
  const broken = text.startsWith("\\x");
  const piece = make("span", "piece", text);
  piece.classList.toggle("special", special || broken || /^[␣⏎]+$/.test(text));
  piece.classList.toggle("end", isEnd(row));
  const bar = make("span", "bar"), level = make("i", "");
  bar.append(level);
  token.append(piece, bar);
  token.onclick = () => openChoices(column, index, token);
  column.text.append(space, token);       // a space at the end of a line takes no room
  if (whole.includes("\n")) column.text.append(document.createElement("br"));
  labelToken(token, row);
  if (row.end >= 0.5 && bar.offsetWidth > 50) bar.append(make("b", "", probability(row.end)));
  if (!still.matches) level.getBoundingClientRect();    // so that the height is seen to grow
  level.style.height = `${row.end * 100}%`;
}

function labelToken(token, row) {
  const name = visible(row).replace(/\n/g, words.newline);
  token.title = words.label(row.n, name, probability(row.p), probability(row.end))
    + (row.yours ? `, ${words.yours}` : "");
  token.setAttribute("aria-label", token.title);
}

function verdict(column) {
  const { kind, n, highest, text } = column.result;
  if (kind === "error") { column.verdict.textContent = text; return; }
  const strong = make("strong", ""), small = make("small", "");
  fill(strong, words[kind](n));
  fill(small, kind === "ignored" ? words.ignoredWhy : words.highest(probability(highest)));
  column.verdict.className = "verdict";
  column.verdict.classList.toggle("ended", hasStopped(column.result));
  column.verdict.replaceChildren(strong, small);
}

function finish(column) {
  if (column.section.dataset.state === "done") return;
  column.section.dataset.state = "done";
  const stopped = hasStopped(column.result);
  if (column.result.kind !== "error")
    column.text.append(make("span", `sign ${stopped ? "stop" : "on"}`,
      stopped ? words.stopSign : words.onSign));
  verdict(column);
  showCases();
}

function showCases() {
  for (const kind of ["chat", "base"])
    for (const runner of ["stops", "ignores"]) {
      const name = `${kind}-${runner}`, cell = $(name), found = cases[name];
      const done = columns[kind].section.dataset.state === "done";
      const now = (runner === "ignores") === asked.ignore;
      const seen = found && found.kind !== "error" && (done || !now);
      const ended = seen && hasStopped(found);
      cell.className = `${seen ? "" : "untried"}${ended ? "ended" : ""}${now ? " now" : ""}`;
      cell.textContent = !seen ? "" : ended ? words.caseEnded(found.n)
        : found.kind === "ignored" ? words.caseIgnored(found.n) : words.caseLimit();
      if (!seen && !now) {
        const button = make("button", "", words.untried);
        button.type = "button";
        button.onclick = () => $("ignore").click();
        cell.append(button);
      }
    }
}

/* The text of an answer, as the program prints it. */
function textOf(column) {
  const { rows } = column;
  const shown = hasStopped(column.result) ? rows.slice(0, -1) : rows;
  return decode(Uint8Array.from(shown.flatMap(row => [...row.bytes])));
}

function announce() {
  $("announcer").textContent = both.filter(column => column.result.kind !== "error").map(column =>
    `${words[column.kind]}: ${textOf(column)} ${column.verdict.textContent}`).join(" ");
}

/* ---- Another token ----------------------------------------------------------------------- */

let choices = null;                     // { panel, token }

function closeChoices(focus) {
  if (!choices) return;
  choices.panel.remove();
  choices.token.setAttribute("aria-expanded", "false");
  if (focus) choices.token.focus();
  choices = null;
}

function openChoices(column, index, token) {
  const open = choices && choices.token === token;
  closeChoices();
  if (open) return;
  const row = column.rows[index], panel = make("div", "choices"), list = make("ol", "");
  const head = make("header", ""), title = make("span", ""), close = make("button", "close", "×");
  title.textContent = words.choices(row.n);
  close.type = "button";
  close.setAttribute("aria-label", words.close);
  close.onclick = () => closeChoices(true);
  head.append(title, close);
  panel.setAttribute("role", "dialog");
  panel.setAttribute("aria-label", words.choices(row.n));
  list.lang = column.text.lang;
  for (const choice of row.top) list.append(choiceOf(column, index, choice));
  const note = make("p", "");
  fill(note, `${words.hereEnd(probability(row.end))} ${words.goOn}`);
  panel.append(head, list, note);
  column.section.append(panel);
  const room = column.section.clientWidth - panel.offsetWidth - 8;
  panel.style.left = `${Math.max(8, Math.min(token.offsetLeft, room))}px`;
  panel.style.top = `${token.offsetTop + token.offsetHeight + 2}px`;
  token.setAttribute("aria-expanded", "true");
  choices = { panel, token };
  (panel.querySelector("li button:enabled") ?? close).focus();
  panel.scrollIntoView({ block: "nearest" });
}

function choiceOf(column, index, choice) {
  const item = make("li", ""), button = make("button", ""), meter = make("span", "meter");
  const row = column.rows[index], level = make("i", ""), chosen = choice.id === row.id;
  const text = visible(choice).replace(/\n/g, "⏎").replace(/^ /, "␣");
  button.type = "button";
  level.style.width = `${choice.p * 100}%`;
  meter.append(level);
  meter.setAttribute("aria-hidden", "true");
  button.append(make("span", "name", text), meter,
    make("span", "p", `${chosen ? "✓ " : ""}${probability(choice.p)}`));
  if (chosen) {
    button.className = "chosen";
    button.disabled = true;
    button.title = words.chosen;
  }
  button.onclick = () => {
    const token = { ...choice, n: row.n, top: row.top, yours: true };
    closeChoices();
    answer(column, [...column.rows.slice(0, index), token]);
    column.text.querySelector(".token:last-of-type").focus();
  };
  item.append(button);
  return item;
}

/* ---- The page ---------------------------------------------------------------------------- */

function label() {
  document.documentElement.lang = words === WORDS.zh ? "zh" : "en";
  document.title = words.title;
  for (const element of document.querySelectorAll("[data-text]"))
    fill(element, words[element.dataset.text]);
  for (const element of document.querySelectorAll("[data-label]"))
    element.setAttribute("aria-label", words[element.dataset.label]);
  $("language").textContent = words.other;
  $("language").lang = words.otherLanguage;
  $("temperature-value").textContent = $("temperature").value;
  $("pause").textContent = paused ? words.play : words.pause;
  $("examples").replaceChildren(...words.list.map(question => {
    const button = make("button", "", question);
    button.type = "button";
    button.lang = /^[ -~]*$/.test(question) ? "en" : "zh";
    button.onclick = () => { $("question").value = question; ask(); };
    return button;
  }));
}

$("language").onclick = () => {
  words = WORDS[words.otherLanguage];
  label();
  if (Object.values(WORDS).some(each => each.list.includes($("question").value)))
    $("question").value = words.list[0];
  ask();
};
$("ask").onsubmit = event => { event.preventDefault(); ask(); };
$("ignore").onchange = ask;
$("temperature").oninput = label;
$("temperature").onchange = ask;
$("pause").onclick = () => { paused = !paused; label(); };
$("skip").onclick = skip;
document.addEventListener("keydown", event => {
  if (event.key === "Escape") closeChoices(true);
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  const token = event.target.closest(".token"), panel = event.target.closest(".choices");
  if (!step || !(token || panel)) return;
  const all = token ? token.parentNode.querySelectorAll(".token")
    : panel.querySelectorAll("li button:enabled");
  const next = all[[...all].indexOf(event.target) + step];
  event.preventDefault();
  if (!next) return;
  next.focus();
});
document.addEventListener("focusin", ({ target }) => {    // Tab comes back to the last one
  if (!target.matches(".token")) return;
  for (const token of target.parentNode.querySelectorAll(".token")) token.tabIndex = -1;
  target.tabIndex = 0;
});
document.addEventListener("pointerdown", event => {
  if (choices && !choices.panel.contains(event.target) && !event.target.closest(".token"))
    closeChoices();
});

label();
$("question").value = words.list[0];
load().then(ask, error => { columns.chat.verdict.textContent = words.failed + error.message; });
