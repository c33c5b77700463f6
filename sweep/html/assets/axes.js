// Room and axes: how wide a drawing may be, labels that fit, scales, frames, bars of colours.

// Drawings are made for the width of the page, and made again when it changes, or the colours do.
const redraws = [];
let roomDrawn = 0;

function room() {
  const page = document.getElementById("page");
  const { paddingLeft, paddingRight } = getComputedStyle(page);
  return page.clientWidth - parseFloat(paddingLeft) - parseFloat(paddingRight);
}

function keepDrawn(draw) {
  redraws.push(draw);
  roomDrawn = room();
  draw();
}

function redrawAll() {
  roomDrawn = room();
  redraws.forEach((draw) => draw());
}

// Labels.

const ruler = document.createElement("canvas").getContext("2d");

function textWidth(content, weight = 400) {
  ruler.font = `${weight} 11px system-ui, sans-serif`;
  return ruler.measureText(content).width;
}

const widest = (contents) => Math.max(0, ...contents.map((content) => textWidth(content)));

function fitted(content, width, weight = 400) {
  if (textWidth(content, weight) <= width) return content;
  let length = content.length - 1;
  while (length > 1 && textWidth(`${content.slice(0, length)}…`, weight) > width) length--;
  return `${content.slice(0, length).trimEnd()}…`;
}

// A label that is cut short says all of itself to the pointer.
function label(x, y, content, width, attributes = {}) {
  const short = fitted(content, width, attributes["font-weight"]);
  const element = text(x, y, short, attributes);
  if (short !== content) element.append(svg("title", {}, content));
  return element;
}

// A scale takes a value to a share of its range; `ticks` are [share, text]; `named` ones are all shown.

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
  // Within a narrow range there may be none of these.
  if (scale.ticks.length < 2) scale.ticks = linear(low, high).ticks.map(([share, content]) => [scale(low + share * (high - low)), content]);
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
  scale.named = true;
  return scale;
}

function metricScale(metric, values, log) {
  const finite = values.filter((value) => Number.isFinite(value) && (!log || value > 0)).map((value) => value * metric.scale);
  if (!finite.length) return linear(0, 1);
  const [low, high] = [Math.min(...finite), Math.max(...finite)];
  const inner = log ? logarithmic(low, high) : linear(low, high);
  const scale = (value) => inner(value * metric.scale);
  scale.ticks = inner.ticks;
  return scale;
}

// Marks keep off the frame.
function padded(scale, by = 0.04) {
  const inner = (value) => by + (1 - 2 * by) * scale(value);
  inner.ticks = scale.ticks.map(([share, content]) => [by + (1 - 2 * by) * share, content]);
  inner.named = scale.named;
  return inner;
}

// Frames.

const FOOT = 48;
const MOST_LABEL = 190;

// The room that the labels of a vertical axis take beside a plot of so much width in all.
const leftOf = (y, width) => Math.ceil(Math.min(widest(y.ticks.map(([, content]) => content)), MOST_LABEL, width * 0.3)) + 34;

function frame(group, box, x, y, xLabel, yLabel) {
  const [left, top, width, height] = box;
  group.append(svg("path", { class: "rule", d: `M${left} ${top}v${height}h${width}` }));
  for (const [share, content] of y.ticks) {
    const at = top + height * (1 - share);
    group.append(svg("path", { class: "rule", d: `M${left} ${at}h${width}`, opacity: 0.55 }), label(left - 8, at + 4, content, left - 28, { "text-anchor": "end" }));
  }
  horizontalTicks(group, left, top + height + 16, width, x);
  group.append(
    text(left + width / 2, top + height + 36, xLabel, { "text-anchor": "middle", class: "faint" }),
    text(0, 0, yLabel, { "text-anchor": "middle", class: "faint", transform: `translate(12 ${top + height / 2}) rotate(-90)` }),
  );
}

// Names are cut to the room between two of them; of numbers those are left out that would touch the one before.
function horizontalTicks(group, left, y, width, scale) {
  const between = scale.ticks.length > 1 ? (width * (scale.ticks[scale.ticks.length - 1][0] - scale.ticks[0][0])) / (scale.ticks.length - 1) : width;
  const named = scale.named && between >= 30;
  let end = -Infinity;
  for (const [share, content] of scale.ticks) {
    const [x, half] = [left + width * share, textWidth(content) / 2];
    if (!named && x - half < end + 6) continue;
    group.append(named ? label(x, y, content, Math.min(between - 8, 2 * x, 2 * (left + width + 10 - x)), { "text-anchor": "middle" }) : text(x, y, content, { "text-anchor": "middle" }));
    end = x + half;
  }
}

// What a bar takes beside a drawing: a gap, the bar, its ticks and its name.
const barRoom = (scale) => 12 + 17 + widest(scale.ticks.map(([, tick]) => tick)) + 20;

function colourBar(scale, stops, content, height) {
  const group = svg("g");
  for (let step = 0; step < 40; step++)
    group.append(svg("rect", { x: 0, y: (height * (39 - step)) / 40, width: 12, height: height / 40 + 0.6, fill: ramp(stops, step / 39) }));
  let end = Infinity;
  for (const [share, tick] of scale.ticks) {
    const y = height * (1 - share) + 4;
    if (y > end - 12) continue;
    group.append(text(17, y, tick));
    end = y;
  }
  const right = 17 + widest(scale.ticks.map(([, tick]) => tick)) + 14;
  group.append(label(0, 0, content, height + 40, { "text-anchor": "middle", class: "faint", transform: `translate(${right} ${height / 2}) rotate(-90)` }));
  return group;
}
