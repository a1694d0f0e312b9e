// A page in which HRMs think: ONNX Runtime Web runs one segment after the other. Data: see `playground_data` in web.py.
const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);

async function bytes(text, zipped) {
  const held = Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
  if (!zipped) return held;
  return new Uint8Array(await new Response(new Blob([held]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer());
}

const source = await bytes(at("runtime").textContent, true);
const ort = await import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmBinary = (await bytes(at("wasm").textContent, true)).buffer;

const WALL = 1, OPEN = 2, START = 3, GOAL = 4, PATH = 5;  // of mazes; a Sudoku's 1 is blank, d + 1 the digit d
let model, session, clues, history, place, brush, cursor, timer = null, busy = false, example = 0, spent = 0, count = 0;
const sessions = new Map();
const sudoku = () => model.family === "sudoku";
const side = () => model.grid[0];

async function choose(number) {
  stop();
  model = data.models[number];
  if (!sessions.has(number)) sessions.set(number, await ort.InferenceSession.create(await bytes(model.onnx, true), { executionProviders: ["wasm"] }));
  session = sessions.get(number);
  brush = sudoku() ? 2 : WALL;
  cursor = 0;
  at("rule").value = model.check ? "check" : "q";
  const symbols = sudoku() ? ["erase", ...Array.from({ length: side() }, (_, k) => String(k + 1))] : ["wall", "open", "start", "goal"];
  at("brushes").replaceChildren(...symbols.map((word, k) => {
    const button = node("button", {}, word);
    button.onclick = () => { brush = k + 1; if (sudoku()) write(cursor, brush); else show(); };
    return button;
  }));
  load(model.puzzles[0]);
}

function load(puzzle) {
  clues = Uint8Array.from(puzzle);
  again();
}

function again() {
  history = [];
  place = 0;
  show();
}

// Cells of an answer that break a rule; an answer is complete if there are none and nothing is blank.
function broken(answer) {
  const size = side(), wrong = new Set();
  if (sudoku()) {
    const [rows, columns] = model.box;
    const units = answer.map((_, cell) => [Math.floor(cell / size), cell % size]).map(([r, c]) => [`r${r}`, `c${c}`, `b${Math.floor(r / rows)}.${Math.floor(c / columns)}`]);
    const seen = new Map();
    answer.forEach((token, cell) => units[cell].forEach((unit) => {
      if (token < 2) return;
      const key = `${unit}:${token}`, other = seen.get(key);
      if (other !== undefined) wrong.add(cell).add(other);
      seen.set(key, cell);
    }));
    answer.forEach((token, cell) => { if (clues[cell] > 1 && token !== clues[cell]) wrong.add(cell); });
    return wrong;
  }
  const near = (cell) => [[-1, 0], [0, 1], [1, 0], [0, -1]].map(([r, c]) => [Math.floor(cell / size) + r, cell % size + c])
    .filter(([r, c]) => r >= 0 && c >= 0 && r < size && c < size).map(([r, c]) => r * size + c);
  answer.forEach((token, cell) => {
    const joined = near(cell).filter((other) => [START, GOAL, PATH].includes(answer[other])).length;
    if (token === PATH && (clues[cell] !== OPEN || joined !== 2)) wrong.add(cell);
    if (token !== PATH && token !== clues[cell]) wrong.add(cell);
    if ((token === START || token === GOAL) && joined < 1) wrong.add(cell);
  });
  return wrong;
}
const keeps = (answer) => answer.every((token) => !sudoku() || token > 1) && broken(answer).size === 0;

const RULES = {
  q: ["its own decision (Q)", (one) => one.wants],
  check: ["Q, if no rule is broken", (one) => one.wants && one.keeps],
  first: ["first answer that breaks no rule", (one) => one.keeps],
  never: ["the budget alone", () => false],
};
const halts = (rule, k) => RULES[rule][1](history[k]) || k + 1 >= Number(at("budget").value);

async function segment() {
  const shape = [1, ...model.width], before = history.at(-1);
  const blank = () => new ort.Tensor("float32", new Float32Array(shape[1] * shape[2]), shape);
  const feeds = {
    tokens: new ort.Tensor("int64", BigInt64Array.from(clues, BigInt), [1, clues.length]),
    puzzle: new ort.Tensor("int64", new BigInt64Array(1), [1]),
    begin: new ort.Tensor("float32", new Float32Array([before ? 0 : 1]), [1]),
  };
  model.states.forEach((name, k) => { feeds[name] = before ? before.states[k] : blank(); });
  for (const name of Object.keys(feeds)) if (!session.inputNames.includes(name)) delete feeds[name];
  const begin = performance.now(), out = await session.run(feeds);
  spent += performance.now() - begin;
  count += 1;
  const answer = Array.from(out.answers.data, Number), [halt, on] = Array.from(out.q.data, (logit) => 1 / (1 + Math.exp(-logit)));
  history.push({
    answer, confidence: Array.from(out.confidence.data), q_halt: halt, q_continue: model.alone ? null : on, keeps: keeps(answer),
    wants: halt > (model.alone ? 0.5 : on), moved: Array.from(out.moved.data), states: model.states.map((name) => out[`next_${name}`]), clues: clues.slice(),
  });
  place = history.length;
}

async function step() {
  if (busy) return;
  if (place < history.length) place += 1;
  else {
    busy = true;
    await segment();
    busy = false;
  }
  show();
}

function stop() {
  clearTimeout(timer);
  timer = null;
  at("think").textContent = "Think";
}

function think() {
  if (timer !== null) { stop(); return; }
  at("think").textContent = "Pause";
  const round = async () => {
    await step();
    if (timer === null) return;
    if (place === history.length && halts(at("rule").value, place - 1)) { stop(); show(); return; }
    timer = setTimeout(round, 250);
  };
  timer = setTimeout(round, 0);
}

function write(cell, token) {
  if (!sudoku() && (clues[cell] === START || clues[cell] === GOAL)) return;
  if (!sudoku() && (token === START || token === GOAL)) clues = clues.map((old) => (old === token ? OPEN : old));
  clues[cell] = token;
  history.length = place;  // it thinks on from what is shown
  show();
}

function words(k) {
  const one = history[k], rule = at("rule").value;
  if (!one) return "";
  const q = `Q(halt) ${one.q_halt.toFixed(2)} ${one.wants ? ">" : "<"} ${model.alone ? "0.50" : `Q(continue) ${one.q_continue.toFixed(2)}`}`;
  if (RULES[rule][1](one)) return rule === "first" ? "first answer that breaks no rule: halts" : rule === "check" ? `${q} and no rule is broken: halts` : `${q}: halts`;
  if (halts(rule, k)) return "budget spent: halts";
  return rule === "check" && one.wants ? `${q}, but a rule is broken: continues` : `${q}: continues`;
}

function show() {
  const size = side(), now = history[place - 1], before = history[place - 2];
  const answer = Array.from(clues, (clue, cell) => (now && (clue === 1 || !sudoku()) && (sudoku() || clue === OPEN) ? now.answer[cell] : clue));
  const wrong = now ? broken(answer) : new Set();
  at("board").style.setProperty("--n", size);
  at("board").style.gridTemplate = `repeat(${size}, 1fr) / repeat(${size}, 1fr)`;
  at("board").replaceChildren(...answer.map((token, cell) => {
    const r = Math.floor(cell / size), c = cell % size, given = sudoku() && clues[cell] > 1;
    const classes = [given && "given", wrong.has(cell) && "wrong", before && now.answer[cell] !== before.answer[cell] && !given && "new", cell === cursor && "here"];
    if (sudoku()) classes.push((c + 1) % model.box[1] === 0 && c + 1 < size && "right", (r + 1) % model.box[0] === 0 && r + 1 < size && "under");
    else classes.push({ [WALL]: "wall", [START]: "start", [GOAL]: "goal", [PATH]: "path" }[token]);
    const text = sudoku() ? (token > 1 ? String(token - 1) : "") : { [START]: "S", [GOAL]: "G" }[token] ?? "";
    const button = node("button", { class: classes.filter(Boolean).join(" "), tabindex: "-1", "data-cell": cell }, text);
    const doubt = now && !given && (sudoku() || clues[cell] === OPEN) ? 1 - now.confidence[cell] : 0;
    if (doubt >= 0.05) button.append(node("i", { style: `width:${88 * doubt}%` }));
    return button;
  }));
  [...at("brushes").children].forEach((one, k) => one.setAttribute("aria-pressed", String(!sudoku() && k + 1 === brush)));
  const past = history.slice(0, place), slots = slotsFor(history.length, Number(at("budget").value));
  const curves = [{ name: "Q(halt)", colour: "green", values: past.map((one) => one.q_halt) }];
  if (!model.alone) curves.push({ name: "Q(continue)", colour: "amber", values: past.map((one) => one.q_continue) });
  const end = history.findIndex((_, k) => halts(at("rule").value, k)), events = past.map((_, k) => (k === end ? "halts" : ""));
  at("q").replaceChildren(legend(curves, place), timeline(curves, slots, { threshold: model.alone ? 0.5 : null, events, now: place }));
  at("words").textContent = words(place - 1) || "\u00a0";
  at("words").className = `words ${end >= 0 && place === end + 1 ? "halts" : ""}`;
  const moved = model.states.map((name, k) => ({ name: `state ${name.at(-1).toUpperCase()} moved by`, colour: k ? "grey" : "ink", values: past.map((one, n) => (n ? one.moved[k] : null)) }));
  at("moved").replaceChildren(legend(moved, place, 3), timeline(moved, slots, { marks: [0.001, 0.03, 1], log: [0.001, 1], now: place, height: 62 }));
  at("rules").replaceChildren(...Object.entries(RULES).map(([rule, [name]]) => {
    const k = history.findIndex((_, number) => halts(rule, number));
    return node("tr", { class: rule === at("rule").value ? "now" : "" }, node("th", { scope: "row" }, name),
      node("td", {}, k < 0 ? "not yet" : `segment ${k + 1}`), node("td", {}, k < 0 ? "–" : history[k].keeps ? "keeps the rules" : "breaks a rule"));
  }));
  at("count").textContent = `segment ${place} of ${history.length} thought` + (count ? `; ${(1000 * count / spent).toFixed(0)} segments a second` : "");
  at("back").disabled = place === 0;
}

at("board").addEventListener("click", (event) => {
  const cell = event.target.closest("button")?.dataset.cell;
  if (cell === undefined) return;
  cursor = Number(cell);
  if (sudoku()) { at("board").focus(); show(); } else write(cursor, brush === clues[cursor] ? OPEN : brush);
});
at("board").addEventListener("keydown", (event) => {
  const moves = { ArrowUp: -side(), ArrowDown: side(), ArrowLeft: -1, ArrowRight: 1 };
  const digit = Number(event.key), maze = { "#": WALL, " ": OPEN, s: START, g: GOAL };
  if (moves[event.key]) cursor = (cursor + moves[event.key] + clues.length) % clues.length;
  else if (sudoku() && (["Backspace", "Delete", "0"].includes(event.key))) write(cursor, 1);
  else if (sudoku() && digit >= 1 && digit <= side()) write(cursor, digit + 1);
  else if (!sudoku() && maze[event.key.toLowerCase()]) write(cursor, maze[event.key.toLowerCase()]);
  else return;
  event.preventDefault();
  show();
});
document.addEventListener("paste", (event) => {
  const signs = event.clipboardData.getData("text").replace(/[\s|+-]/g, "");
  if (!sudoku() || signs.length !== clues.length || [...signs].some((sign) => sign !== "." && !(Number(sign) <= side()))) return;
  stop();
  load([...signs].map((sign) => (sign === "." ? 1 : Number(sign) + 1)));
});
at("think").onclick = think;
at("step").onclick = () => { stop(); step(); };
at("back").onclick = () => { stop(); place = Math.max(0, place - 1); show(); };
at("again").onclick = () => { stop(); again(); };
at("example").onclick = () => { stop(); load(model.puzzles[++example % model.puzzles.length]); };
at("clear").onclick = () => { stop(); load(Array.from(clues, (clue) => (sudoku() ? 1 : clue === WALL ? OPEN : clue))); };
for (const id of ["rule", "budget"]) at(id).onchange = show;
data.models.forEach((one, k) => at("model").append(node("option", { value: k }, one.name)));
at("model").onchange = () => choose(Number(at("model").value));
await choose(0);
at("said").textContent = "Type or draw a puzzle, and watch it think.";
window.playground = { choose, load, segment, step, think, state: () => ({ history, place, model }) };
