// What all views share: elements, numbers as text, colours, scales, axes, the tip, how places are told apart.

const data = JSON.parse(document.getElementById("data").textContent);
const number = (value) => (value === "inf" ? Infinity : value === "-inf" ? -Infinity : value);

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const sheet = (width, height, label, ...children) =>
  svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": label }, ...children);

const text = (x, y, content, attributes = {}) => svg("text", { x, y, ...attributes }, content);

// Numbers.

const significant = (value, digits = 3) => {
  const size = Math.abs(value);
  if (value === 0) return "0";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : value < 0 ? "−∞" : "–";
  return size >= 1e5 || size < 1e-3 ? value.toExponential(digits - 1).replace("e+", "e") : String(Number(value.toPrecision(digits)));
};

const shown = (value, metric) =>
  metric.decimals === null || !Number.isFinite(value)
    ? significant(value * metric.scale)
    : (value * metric.scale).toFixed(metric.decimals);

const better = (metric) => (metric.lower ? (a, b) => a - b : (a, b) => b - a);
const meanOf = (place, metric) => (place.values[metric.name] ? number(place.values[metric.name][0]) : null);

function valueText(place, metric) {
  const found = place.values[metric.name];
  if (!found) return "–";
  const spread = found[1] === null ? "" : ` ± ${shown(found[1], metric)}`;
  return shown(number(found[0]), metric) + spread;
}

// States.

const stateText = Object.fromEntries((data.states || []).map((state) => [state.name, state.text]));
const STATE_COLOUR = {
  DIVERGED: "var(--diverged)", FAILED: "var(--failed)", RUNNING: "var(--running)",
  INTERRUPTED: "var(--interrupted)", PENDING: "var(--pending)", MISSING: "var(--rule)",
  ABSENT: "transparent",
};
const STATE_GLYPH = {
  DIVERGED: "✕", FAILED: "!", RUNNING: "▸", INTERRUPTED: "‖", PENDING: "·", MISSING: "?", ABSENT: "",
  PARTLY_DIVERGED: "◢", PARTIAL: "◪", STOPPED: "◣",
};
const hasValue = (state) => ["OK", "STOPPED", "PARTLY_DIVERGED", "PARTIAL"].includes(state);

// Colours: viridis, which keeps its order without colour vision; Okabe and Ito's colours for kinds.

const VIRIDIS = ["#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725"];
const DIVERGING = ["#2166ac", "#67a9cf", "#d1e5f0", "#f7f7f7", "#fddbc7", "#ef8a62", "#b2182b"];
const KINDS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8f8f8f"];
const DASHES = ["", "6 3", "2 3", "8 3 2 3"];

function ramp(stops, share) {
  const at = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
  const index = Math.min(Math.floor(at), stops.length - 2);
  const channels = [1, 3, 5].map((place) => {
    const [low, high] = [stops[index], stops[index + 1]].map((stop) => parseInt(stop.slice(place, place + 2), 16));
    return Math.round(low + (high - low) * (at - index));
  });
  return `rgb(${channels.join(",")})`;
}

const inkOn = (colour) => {
  const [red, green, blue] = colour.match(/\d+/g).map(Number);
  return 0.299 * red + 0.587 * green + 0.114 * blue > 140 ? "#111111" : "#ffffff";
};

// A scale takes a value to a share of its range; `ticks` are [share, text].

function linear(low, high, count = 5) {
  if (!(high > low)) [low, high] = [low - 0.5, high + 0.5];
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= raw);
  const scale = (value) => (value - low) / (high - low);
  scale.ticks = [];
  for (let tick = Math.ceil(low / step); tick * step <= high + step * 1e-9; tick++) scale.ticks.push([scale(tick * step), significant(tick * step, 4)]);
  scale.invert = (share) => low + share * (high - low);
  return scale;
}

function logarithmic(low, high) {
  if (!(high > low)) [low, high] = [low / 1.5, high * 1.5];
  const [a, b] = [Math.log10(low), Math.log10(high)];
  const scale = (value) => (Math.log10(value) - a) / (b - a);
  const factors = b - a > 3 ? [1] : b - a > 1 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 7];
  const every = Math.max(1, Math.ceil((b - a) / 8));
  scale.ticks = [];
  for (let power = Math.floor(a); power <= b; power += every)
    for (const factor of factors) {
      const value = factor * 10 ** power;
      if (value >= low * 0.9999 && value <= high * 1.0001) scale.ticks.push([scale(value), significant(value)]);
    }
  scale.invert = (share) => 10 ** (a + share * (b - a));
  return scale;
}

const MOST_STEPS = 12;

// A space's axis: evenly spaced values where they are few or not all numbers, else to scale; a range always is.
function axisScale(axis) {
  if (axis.range) return axis.log ? logarithmic(...axis.range) : linear(...axis.range);
  const values = axis.values.map(number);
  const numeric = values.every((value) => typeof value === "number" && Number.isFinite(value));
  if (numeric && values.length > MOST_STEPS) {
    const [low, high] = [values[0], values[values.length - 1]];
    return low > 0 && high / low > 30 ? logarithmic(low, high) : linear(low, high);
  }
  const last = Math.max(values.length - 1, 1);
  const scale = (value) => (values.length === 1 ? 0.5 : values.indexOf(value) / last);
  scale.ticks = axis.texts.map((content, index) => [values.length === 1 ? 0.5 : index / last, content]);
  return scale;
}

function metricScale(metric, values, log) {
  const finite = values.filter((value) => Number.isFinite(value) && (!log || value > 0)).map((value) => value * metric.scale);
  if (!finite.length) return linear(0, 1);
  const [low, high] = [Math.min(...finite), Math.max(...finite)];
  const inner = log ? logarithmic(low, high) : linear(low, high);
  const scale = (value) => inner(value * metric.scale);
  scale.ticks = inner.ticks;
  scale.text = (share) => significant(inner.invert(share));
  return scale;
}

function frame(group, box, x, y, xLabel, yLabel) {
  const [left, top, width, height] = box;
  group.append(svg("path", { class: "rule", d: `M${left} ${top}v${height}h${width}` }));
  for (const [share, content] of y.ticks) {
    const at = top + height * (1 - share);
    group.append(svg("path", { class: "rule", d: `M${left} ${at}h${width}`, opacity: 0.55 }), text(left - 6, at + 4, content, { "text-anchor": "end" }));
  }
  for (const [share, content] of x.ticks) group.append(text(left + width * share, top + height + 16, content, { "text-anchor": "middle" }));
  group.append(
    text(left + width / 2, top + height + 34, xLabel, { "text-anchor": "middle", class: "faint" }),
    text(0, 0, yLabel, { "text-anchor": "middle", class: "faint", transform: `translate(${left - 48} ${top + height / 2}) rotate(-90)` }),
  );
}

function colourBar(scale, stops, label, height) {
  const group = svg("g");
  for (let step = 0; step < 40; step++)
    group.append(svg("rect", { x: 0, y: (height * (39 - step)) / 40, width: 12, height: height / 40 + 0.6, fill: ramp(stops, step / 39) }));
  for (const [share, content] of scale.ticks) group.append(text(17, height * (1 - share) + 4, content));
  group.append(text(0, 0, label, { "text-anchor": "middle", class: "faint", transform: `translate(66 ${height / 2}) rotate(-90)` }));
  return group;
}

// The tip, for the pointer and for the keyboard.

const tip = make("div", { id: "tip", role: "status" });

function showTip(content, x, y) {
  tip.textContent = content;
  tip.style.visibility = "visible";
  const { width, height } = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - width - 8))}px`;
  tip.style.top = `${y + 18 + height > innerHeight ? y - height - 10 : y + 18}px`;
}

const hideTip = () => (tip.style.visibility = "hidden");

function explains(element, content, { enter = () => {}, leave = () => {} } = {}) {
  element.classList.add("mark");
  element.setAttribute("tabindex", "0");
  element.setAttribute("role", "img");
  element.setAttribute("aria-label", content.replaceAll("\n", ", "));
  element.addEventListener("pointermove", (event) => (showTip(content, event.clientX, event.clientY), enter()));
  element.addEventListener("pointerleave", () => (hideTip(), leave()));
  element.addEventListener("focus", () => {
    const box = element.getBoundingClientRect();
    showTip(content, box.left + box.width / 2, box.top + box.height / 2);
    enter();
  });
  element.addEventListener("blur", () => (hideTip(), leave()));
  return element;
}

// Places in words.

const axisText = (axis, place) => {
  const value = place.axes[axis.name];
  return value === null || value === undefined ? null : axis.texts[axis.values.indexOf(value)];
};
const varying = () => data.axes.filter((axis) => axis.values.length > 1);
const placeText = (place, axes = varying()) =>
  axes.map((axis) => [axis, axisText(axis, place)]).filter(([, value]) => value !== null).map(([axis, value]) => `${axis.label} = ${value}`).join(", ");

function placeTip(place, metrics) {
  const cells = place.cells.length > 2 ? `${place.cells.slice(0, 2).join(", ")}, …` : place.cells.join(", ");
  const values = metrics.filter((metric) => place.values[metric.name]).map((metric) => `${metric.label}: ${valueText(place, metric)}`);
  const seeds = place.seeds > 1 ? ` (${place.seeds} seeds)` : "";
  const why = place.why ? [place.why] : [];
  return [placeText(place), `${stateText[place.state]}${seeds}`, ...why, ...values, `cell ${cells}`].join("\n");
}

// Controls.

function choice(label, options, chosen, change) {
  const select = make("select", { "aria-label": label });
  for (const [value, content] of options) select.append(make("option", { value }, content));
  select.value = chosen;
  select.addEventListener("change", () => change(select.value));
  return make("label", {}, `${label} `, select);
}

function toggle(label, on, change) {
  const box = make("input", { type: "checkbox", "aria-label": label });
  box.checked = on;
  box.addEventListener("change", () => change(box.checked));
  return make("label", {}, box, ` ${label}`);
}

const choices = (entries) => entries.map((entry) => [entry.name, entry.label]);
const byName = (entries, name) => entries.find((entry) => entry.name === name);

function section(id, title, about) {
  const element = make("section", { id }, make("h2", {}, title), make("p", {}, about));
  const controls = make("div", { class: "controls" });
  const body = make("div");
  element.append(controls, body);
  return { element, controls, body };
}

function stateLegend(states) {
  const legend = make("div", { class: "legend" });
  for (const state of states) {
    const sample = svg("svg", { width: 14, height: 14, viewBox: "0 0 14 14", "aria-hidden": "true" });
    sample.append(stateBox(state, 0, 0, 14, 14), text(7, 11, STATE_GLYPH[state] || "", { "text-anchor": "middle" }));
    legend.append(make("span", {}, sample, stateText[state]));
  }
  return legend;
}

function stateBox(state, x, y, width, height) {
  const solid = state === "DIVERGED";
  const fill = solid ? "var(--diverged)" : "var(--raised)";
  return svg("rect", { x, y, width, height, fill, stroke: STATE_COLOUR[state] || "var(--rule)", "stroke-dasharray": solid ? "" : "3 2" });
}
