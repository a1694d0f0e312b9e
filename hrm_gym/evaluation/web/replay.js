// The replay of puzzles: every player's board at the moment that the slider names. Data: see `replay_data` in replay.py.
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const slider = at("moment"), players = at("players");
let puzzle = 0, timer = null;

function node(name, attributes = {}, ...children) {
  const svg = ["svg", "rect", "polyline", "line", "circle"].includes(name);
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const figure = (value) => (value === null ? "–" : value.toFixed(2));
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

// Marks over the board: cells the last segment changed are outlined, unsure cells are tinted.
function overlay(frame) {
  const [width, height] = data.board;
  const marks = node("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
  const put = (cell, style) => {
    const [x, w] = data.columns[cell % data.columns.length];
    const [y, h] = data.rows[Math.floor(cell / data.columns.length)];
    marks.append(node("rect", { x: x + 1.5, y: y + 1.5, width: w - 3, height: h - 3, rx: 3, ...style }));
  };
  if (at("unsure").checked && frame.confidence) {
    frame.confidence.forEach((share, cell) => {
      if (share < 99) put(cell, { fill: "#f59e0b", "fill-opacity": (0.85 * (100 - share)) / 100 });
    });
  }
  if (at("changes").checked) {
    for (const cell of frame.changed) put(cell, { fill: "none", stroke: "#db2777", "stroke-width": 3 });
  }
  return marks;
}

function bar(label, value, colour) {
  const share = Math.max(0, Math.min(1, value ?? 0));
  const filled = node("i", { style: `width:${100 * share}%;background:var(--${colour})` });
  return [node("span", { class: "dim" }, label), node("span", { class: "bar" }, filled), node("span", {}, figure(value))];
}

// Q(halt) and Q(continue) over the segments, with a line at the present one.
function course(frames, now) {
  const known = frames.map((frame, x) => [x, frame.q_halt, frame.q_continue]).filter(([, halt]) => halt !== null);
  if (known.length < 2) return "";
  const width = 300, height = 60, last = Math.max(1, frames.length - 1);
  const place = (x, q) => `${(6 + (x / last) * (width - 12)).toFixed(1)},${(6 + (1 - q) * (height - 12)).toFixed(1)}`;
  const drawn = node("svg", { class: "course", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img",
    "aria-label": "Q(halt) and Q(continue) over the segments" });
  const x = 6 + (now / last) * (width - 12);
  drawn.append(node("line", { x1: x, x2: x, y1: 0, y2: height, stroke: "var(--dim)", "stroke-dasharray": "3 3" }));
  for (const [which, colour] of [[1, "green"], [2, "amber"]]) {
    const points = known.filter((row) => row[which] !== null).map((row) => place(row[0], row[which])).join(" ");
    drawn.append(node("polyline", { points, fill: "none", stroke: `var(--${colour})`, "stroke-width": 2,
      "vector-effect": "non-scaling-stroke" }));
  }
  return drawn;
}

function card(player, { name, mode, halting }, moment) {
  const now = Math.min(moment, player.frames.length - 1), frame = player.frames[now];
  const ended = now === player.frames.length - 1;
  const verdict = !ended ? ["running", "under way"] : player.solved ? ["solved", "solved"] : ["unsolved", "not solved"];
  const unit = mode === "answer" ? "segment" : "step";
  const facts = node("div", { class: "facts" });
  facts.append(node("span", { class: "dim" }, unit), node("span", { class: "wide" }, `${now} of ${player.frames.length - 1}`));
  if (player.frames.some((one) => one.q_halt !== null)) {
    facts.append(...bar("Q(halt)", frame.q_halt, "green"), ...bar("Q(continue)", frame.q_continue, "amber"));
  }
  if (frame.confidence) {
    const sure = `${(mean(frame.confidence) / 100).toFixed(2)}, least ${(Math.min(...frame.confidence) / 100).toFixed(2)}`;
    facts.append(node("span", { class: "dim" }, "confidence"), node("span", { class: "wide" }, sure));
  }
  facts.append(node("span", { class: "dim" }, "changed cells"), node("span", { class: "wide" }, String(frame.changed.length)));
  const alt = `The board of ${name} after ${now} ${unit}${now === 1 ? "" : "s"}`;
  return node("article", { class: "player" },
    node("header", {}, node("strong", {}, name), node("span", { class: `verdict ${verdict[0]}` }, verdict[1]),
      node("span", { class: "dim mode" }, `${mode} mode${halting ? "; " + halting : ""}`)),
    node("div", { class: "board" }, node("img", { src: frame.board, alt, width: data.board[0], height: data.board[1] }), overlay(frame)),
    facts, course(player.frames, now));
}

function show() {
  const shown = data.puzzles[puzzle], moment = Number(slider.value);
  players.replaceChildren(...shown.players.map((player, k) => card(player, data.agents[k], moment)));
  at("where").textContent = `${moment} of ${slider.max}`;
  at("which").textContent = `puzzle ${puzzle + 1} of ${data.puzzles.length}`;
  at("name").textContent = shown.name;
  at("before").disabled = puzzle === 0;
  at("after").disabled = puzzle === data.puzzles.length - 1;
}

function turnTo(number) {
  puzzle = Math.max(0, Math.min(data.puzzles.length - 1, number));
  slider.max = Math.max(...data.puzzles[puzzle].players.map((player) => player.frames.length)) - 1;
  slider.value = 0;
  show();
}

function step(by) {
  slider.value = Number(slider.value) + by;
  show();
}

function play() {
  if (timer !== null) {
    clearInterval(timer);
    timer = null;
  } else {
    if (slider.value === slider.max) slider.value = 0;
    timer = setInterval(() => (Number(slider.value) < Number(slider.max) ? step(1) : play()), 600);
  }
  at("play").textContent = timer === null ? "Play" : "Pause";
  show();
}

slider.addEventListener("input", show);
at("changes").addEventListener("change", show);
at("unsure").addEventListener("change", show);
at("play").addEventListener("click", play);
at("before").addEventListener("click", () => turnTo(puzzle - 1));
at("after").addEventListener("click", () => turnTo(puzzle + 1));
const keys = {
  ArrowLeft: () => step(-1), ArrowRight: () => step(1), ArrowUp: () => turnTo(puzzle - 1), ArrowDown: () => turnTo(puzzle + 1),
  Home: () => step(-slider.max), End: () => step(Number(slider.max)), " ": play,
};
document.addEventListener("keydown", (event) => {
  const busy = event.ctrlKey || event.metaKey || event.altKey || (event.key === " " && event.target.closest("button,input"));
  if (keys[event.key] && !busy) {
    event.preventDefault();
    keys[event.key]();
  }
});
turnTo(0);
if (location.hash.startsWith("#")) {
  const [number, moment] = location.hash.slice(1).split(".").map(Number);
  if (number >= 1) turnTo(number - 1);
  if (moment >= 0) { slider.value = moment; show(); }
}
