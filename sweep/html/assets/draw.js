// What all views share: elements, numbers as text, colours, the tip, how places are told apart.

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

// What may be wider than the page scrolls by itself, so that nothing gets too small to be read.
const wide = (drawing) => make("div", { class: "wide" }, drawing);

const text = (x, y, content, attributes = {}) => svg("text", { x, y, ...attributes }, content);

// Numbers.

const significant = (value, digits = 3, { zeros = false } = {}) => {
  const size = Math.abs(value);
  if (value === 0) return "0";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : value < 0 ? "−∞" : "–";
  if (size >= 1e5 || size < 1e-3) return value.toExponential(digits - 1).replace("e+", "e");
  // Measured values keep their last zeros, or 0.3 beside 0.303 looks less well known.
  return zeros && size < 10 ** (digits - 1) && !Number.isInteger(value) ? value.toPrecision(digits) : String(Number(value.toPrecision(digits)));
};

const shown = (value, metric, digits = 3) =>
  metric.decimals === null || !Number.isFinite(value)
    ? significant(value * metric.scale, digits, { zeros: true })
    : (value * metric.scale).toFixed(metric.decimals);

// A mean and its standard deviation over the seeds, which is known less well.
const pairText = ([mean, spread], metric) =>
  mean === null ? "–" : shown(number(mean), metric) + (spread === null ? "" : ` ± ${shown(spread, metric, 2)}`);

const better = (metric) => (metric.lower ? (a, b) => a - b : (a, b) => b - a);
const meanOf = (place, metric) => (place.values[metric.name] ? number(place.values[metric.name][0]) : null);

const valueText = (place, metric) => pairText(place.values[metric.name] || [null, null], metric);

// States.

const stateText = Object.fromEntries((data.states || []).map((state) => [state.name, state.text]));
const STATE_COLOUR = {
  DIVERGED: "var(--diverged)", FAILED: "var(--failed)", RUNNING: "var(--running)",
  INTERRUPTED: "var(--interrupted)", PENDING: "var(--pending)", MISSING: "var(--rule)",
  ABSENT: "transparent",
};
const STATE_GLYPH = {
  DIVERGED: "✕", FAILED: "!", RUNNING: "▸", INTERRUPTED: "‖", PENDING: "·", MISSING: "?", ABSENT: "",
  PARTLY_DIVERGED: "◢", PARTIAL: "◪", STOPPED: "◣", PARTLY_STOPPED: "◺",
};
const hasValue = (state) => ["OK", "STOPPED", "PARTLY_STOPPED", "PARTLY_DIVERGED", "PARTIAL"].includes(state);

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

// Thin lines: the end of the colours that the paper swallows is left out.
const lineRamp = (share) => ramp(VIRIDIS, isDark() ? 0.2 + 0.8 * share : 0.75 * share);

function isDark() {
  const { theme } = document.documentElement.dataset;
  return theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

const inkOn = (colour) => {
  const [red, green, blue] = colour.match(/\d+/g).map(Number);
  return 0.299 * red + 0.587 * green + 0.114 * blue > 140 ? "#111111" : "#ffffff";
};

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
