// The replay of puzzles: every player's board at the moment that the slider names. Data: see `replay_data` in replay.py.
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const slider = at("moment"), players = at("players");
let puzzle = 0, timer = null;

// Pictures are made once and kept: they are decoded before they are shown, so boards change together.
const pictures = new Map();
function picture(address) {
  if (!pictures.has(address)) pictures.set(address, node("img", { src: address, width: data.board[0], height: data.board[1] }));
  return pictures.get(address).cloneNode();
}

// Marks over the board: cells the last segment changed are framed, unsure cells have a bar, the longer the less sure.
function overlay(frame, free) {
  const [width, height] = data.board;
  const marks = node("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
  const place = (cell) => [...data.columns[cell % data.columns.length], ...data.rows[Math.floor(cell / data.columns.length)]];
  if (at("changes").checked) {
    for (const cell of frame.changed) {
      const [x, w, y, h] = place(cell);
      marks.append(node("rect", { x: x + 1.5, y: y + 1.5, width: w - 3, height: h - 3, rx: w / 8, fill: "none", stroke: "#7c3aed", "stroke-width": w > 24 ? 3 : 2 }));
    }
  }
  if (at("unsure").checked && frame.confidence) {
    for (const cell of free) {
      const doubt = 1 - frame.confidence[cell] / 100, [x, w, y, h] = place(cell), thick = Math.max(2, h / 9);
      if (doubt >= 0.05) marks.append(node("rect", { x: x + w / 16, y: y + h - thick - h / 16, width: w * 0.875 * doubt, height: thick, fill: "#06b6d4" }));
    }
  }
  return marks;
}

function card(player, { name, mode, halting }, moment, free) {
  const frames = player.frames, now = Math.min(moment, frames.length - 1), frame = frames[now];
  const ended = now === frames.length - 1, unit = mode === "answer" ? "segment" : "step";
  const verdict = !ended ? ["running", "under way"] : player.solved ? ["solved", "solved"] : ["unsolved", "not solved"];
  const shown = picture(frame.board);
  shown.alt = `The board of ${name} after ${now} ${unit}${now === 1 ? "" : "s"}`;
  const made = node("article", { class: "player" },
    node("header", {}, node("strong", { title: `${mode} mode${halting ? ", " + halting : ""}` }, name),
      node("span", { class: "dim count" }, `${unit} ${now} of ${frames.length - 1}`), node("span", { class: `verdict ${verdict[0]}` }, verdict[1])),
    node("div", { class: "board" }, shown, overlay(frame, free)));
  const mind = node("div", { class: "mind" });
  made.append(mind);
  const past = frames.slice(1, now + 1), curve = (title, colour, key) => ({ name: title, colour, values: past.map((one) => one[key]) });
  const curves = [curve("Q(halt)", "green", "q_halt"), curve("Q(continue)", "amber", "q_continue")]
    .filter((one, k) => frames.some((each) => known(each[k ? "q_continue" : "q_halt"])));
  const slots = slotsFor(frames.length - 1, player.budget);
  if (curves.length && unit === "segment") {
    mind.append(legend(curves, now),
      timeline(curves, slots, { threshold: frame.threshold ?? null, events: past.map((one) => one.event), now }));
  }
  mind.append(node("p", { class: `words ${frame.event || ""}` }, frame.words || "\u00a0"));
  const names = [...new Set(frames.flatMap((each) => Object.keys(each.residuals)))];
  if (names.length) {
    const moved = names.map((one, k) => ({ name: one, colour: ["ink", "grey", "dim"][k % 3], values: past.map((each) => each.residuals[one]) }));
    mind.append(node("div", { class: "moved" }, node("span", { class: "dim" }, "State moved by"), legend(moved, now, 3)),
      timeline(moved, slots, { kind: "residuals", marks: [0.001, 0.03, 1], log: [0.001, 1], now, height: 62 }));
  }
  return made;
}

function show() {
  const shown = data.puzzles[puzzle], moment = Number(slider.value);
  players.replaceChildren(...shown.players.map((player, k) => card(player, data.agents[k], moment, shown.free)));
  at("where").textContent = `${moment} of ${slider.max}`;
  at("which").textContent = `puzzle ${puzzle + 1} of ${data.puzzles.length}`;
  at("name").textContent = shown.name;
  at("before").disabled = puzzle === 0;
  at("after").disabled = puzzle === data.puzzles.length - 1;
  at("back").disabled = moment === 0;
  at("step").disabled = moment === Number(slider.max);
}

function turnTo(number) {
  puzzle = Math.max(0, Math.min(data.puzzles.length - 1, number));
  slider.max = Math.max(...data.puzzles[puzzle].players.map((player) => player.frames.length)) - 1;
  slider.value = 0;
  const kept = data.puzzles[puzzle].players.flatMap((player) => player.frames.map((frame) => frame.board));
  Promise.allSettled(kept.map((address) => { picture(address); return pictures.get(address).decode(); }));
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
    timer = setInterval(() => (Number(slider.value) < Number(slider.max) ? step(1) : play()), 600 / Number(at("speed").value));
  }
  at("play").textContent = timer === null ? "Play" : "Pause";
  show();
}

slider.addEventListener("input", show);
for (const id of ["changes", "unsure"]) at(id).addEventListener("change", show);
for (const [id, act] of Object.entries({ play, back: () => step(-1), step: () => step(1), before: () => turnTo(puzzle - 1), after: () => turnTo(puzzle + 1) })) {
  at(id).addEventListener("click", act);
}
at("speed").addEventListener("change", () => { if (timer !== null) { play(); play(); } });
const keys = {
  ArrowLeft: () => step(-1), ArrowRight: () => step(1), ArrowUp: () => turnTo(puzzle - 1), ArrowDown: () => turnTo(puzzle + 1),
  Home: () => step(-slider.max), End: () => step(Number(slider.max)), " ": play,
};
document.addEventListener("keydown", (event) => {
  const busy = event.ctrlKey || event.metaKey || event.altKey || (event.key === " " && event.target.closest("button,input"))
    || event.target.closest("select");
  if (keys[event.key] && !busy) {
    event.preventDefault();
    keys[event.key]();
  }
});
let touched = null;
players.addEventListener("touchstart", (event) => { touched = event.changedTouches[0]; }, { passive: true });
players.addEventListener("touchend", (event) => {
  const across = event.changedTouches[0].clientX - touched.clientX, down = event.changedTouches[0].clientY - touched.clientY;
  if (Math.abs(across) > 40 && Math.abs(across) > 2 * Math.abs(down)) step(across < 0 ? 1 : -1);
}, { passive: true });
const wide = data.agents.length <= 4 ? data.agents.length : Math.ceil(data.agents.length / 2);
players.classList.toggle("single", data.agents.length === 1);
players.style.setProperty("--wide", wide);
players.style.setProperty("--rows", Math.ceil(data.agents.length / wide));
players.style.setProperty("--narrow", Math.min(2, data.agents.length));
players.style.setProperty("--stack", Math.ceil(data.agents.length / Math.min(2, data.agents.length)));
turnTo(0);
if (location.hash.startsWith("#")) {
  const [number, moment] = location.hash.slice(1).split(".").map(Number);
  if (number >= 1) turnTo(number - 1);
  if (moment >= 0) { slider.value = moment; show(); }
}
