// Curves over segments with axis, legend, threshold and marked events, as `paint_timeline` draws them; for all pages.
"use strict";
function node(name, attributes = {}, ...children) {
  const svg = ["svg", "rect", "polyline", "line", "circle", "text"].includes(name);
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// Segments that the axis has room for: 16, 32, 64, … or the budget.
function slotsFor(count, budget) {
  let slots = 16;
  while (slots < count) slots *= 2;
  return count <= budget ? Math.min(slots, budget) : slots;
}

const known = (value) => value !== null && value !== undefined;
const EVENTS = { halts: "green", restarts: "red" };

// curves: [{name, colour, values}], values[k] after segment k + 1; marks: values with a line; options: threshold, events, now
// (the segment that is shown, a dot), log: [low, high] for a logarithmic axis.
function timeline(curves, slots, { threshold = null, events = [], now = 0, marks = [0, 0.5, 1], log = null, height = 96, kind = "values" } = {}) {
  const width = 300, left = 34, bottom = height - 16, top = 5;
  const share = (v) => Math.min(1, Math.max(0, log ? Math.log(Math.max(v, log[0]) / log[0]) / Math.log(log[1] / log[0]) : v));
  const y = (v) => bottom - 3 - share(v) * (bottom - top - 6), x = (k) => left + ((k - 0.5) / slots) * (width - left);
  const drawn = node("svg", { class: `timeline ${kind}`, viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-label": `${curves.map((curve) => curve.name).join(" and ")} over ${slots} segments` });
  drawn.append(node("rect", { x: left, y: top, width: width - left, height: bottom - top, fill: "var(--ground)" }));
  for (const v of marks) {
    drawn.append(node("line", { x1: left, x2: width, y1: y(v), y2: y(v), stroke: "var(--line)" }),
      node("text", { x: left - 4, y: y(v) + 3.5, "text-anchor": "end" }, String(v)));
  }
  const every = [1, 2, 4, 8, 16, 32, 64, 128, 256, 1e9].find((step) => slots / step <= 8);
  for (let k = every; k <= slots; k += every) drawn.append(node("text", { x: x(k), y: height - 3, "text-anchor": "middle" }, String(k)));
  if (known(threshold)) {
    drawn.append(node("line", { x1: left, x2: width, y1: y(threshold), y2: y(threshold), stroke: "var(--dim)", "stroke-dasharray": "4 4" }));
  }
  events.forEach((event, k) => {
    if (!EVENTS[event]) return;
    const colour = `var(--${EVENTS[event]})`, at = x(k + 1), right = at < width - 45;
    drawn.append(node("line", { x1: at, x2: at, y1: top, y2: bottom, stroke: colour, "stroke-width": 2 }),
      node("text", { x: right ? at + 4 : at - 4, y: top + 14, "text-anchor": right ? "start" : "end", style: `fill:${colour}` }, event));
  });
  for (const curve of [...curves].reverse()) {
    const points = curve.values.map((v, k) => [k + 1, v]).filter(([, v]) => known(v));
    drawn.append(node("polyline", { points: points.map(([k, v]) => `${x(k).toFixed(1)},${y(v).toFixed(1)}`).join(" "),
      fill: "none", stroke: `var(--${curve.colour})`, "stroke-width": 2 }));
    for (const [k, v] of points) {
      if (slots <= 32 || k === now) drawn.append(node("circle", { cx: x(k), cy: y(v), r: k === now ? 4 : 2.2, fill: `var(--${curve.colour})` }));
    }
  }
  return drawn;
}

// The legend with the values after segment `now`.
function legend(curves, now, digits = 2) {
  const line = node("p", { class: "legend" });
  for (const curve of curves) {
    const value = curve.values[now - 1];
    const dot = node("i", { style: `background:var(--${curve.colour})` });
    line.append(node("span", {}, dot, `${curve.name} ${known(value) ? value.toFixed(digits) : "–"}`));
  }
  return line;
}
