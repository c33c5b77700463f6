// A series against the training step: a line per place, its mean over the seeds and one standard deviation.

function curvesView() {
  const { series, lines, left_out: leftOut } = data.curves;
  if (!lines.length) return null;
  const note = leftOut ? ` Shown: the ${lines.length} places with the lowest training loss; ${leftOut} more are left out.` : "";
  const some = (kind) => lines.some((line) => Object.values(line.series).some((drawn) => drawn[kind]));
  const unfinished = some("unfinished") ? " Means leave out seeds that have not finished, where others have." : "";
  const provisional = some("provisional") ? " Where no seed of a place has finished, its mean is over those that have begun." : "";
  const switched = ({ switches, diverged }) => switches.length || diverged.some((run) => run.switches.length);
  const switches = lines.some((line) => Object.values(line.series).some(switched)) ? " A circle is a switch point; where a condition decides, one a seed." : "";
  const bands = "Bands: one standard deviation over the seeds; what of one is not positive has no place on a logarithmic scale, and one far wider than the others leaves the frame.";
  const view = section("curves", "Curves", `${bands} A cross ends what diverged.${switches}${unfinished}${provisional}${note}`);
  const axes = varying();
  const chosen = { series: series[0].name, colour: tellingAxis(axes)?.name ?? "", logY: true, logX: false };
  const draw = () => view.body.replaceChildren(curvesPlot(byName(series, chosen.series), byName(axes, chosen.colour), chosen));
  const pick = (name) => (value) => ((chosen[name] = value), draw());
  view.controls.append(choice("series", choices(series), chosen.series, pick("series")));
  if (axes.length) view.controls.append(choice("colour", choices(axes), chosen.colour, pick("colour")));
  view.controls.append(toggle("logarithmic values", chosen.logY, pick("logY")), toggle("logarithmic steps", chosen.logX, pick("logX")));
  keepDrawn(draw);
  return view.element;
}

// The axis that explains most of the loss among those that leave several places to each value.
function tellingAxis(axes) {
  const [metric] = data.metrics;
  const ended = data.places.filter((place) => hasValue(place.state) && Number.isFinite(meanOf(place, metric)));
  const log = ended.every((place) => meanOf(place, metric) > 0);
  const values = ended.map((place) => (log ? Math.log(meanOf(place, metric)) : meanOf(place, metric)));
  const squares = (some) => {
    const mean = some.reduce((sum, value) => sum + value, 0) / some.length;
    return some.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  };
  const unexplained = (axis) => {
    const groups = Map.groupBy ? Map.groupBy(values.keys(), (index) => ended[index].axes[axis.name]) : new Map();
    const left = values.length - groups.size;
    // Each value of an axis explains something by chance alone.
    return groups.size && left > 0 ? [...groups.values()].reduce((sum, group) => sum + squares(group.map((index) => values[index])), 0) / left : Infinity;
  };
  return [...axes].sort((a, b) => unexplained(a) - unexplained(b) || 0)[0];
}

function curvesPlot(metric, axis, { logX, logY }) {
  const found = data.curves.lines.filter((line) => line.series[metric.name]).map((line) => ({ place: data.places[line.place], drawn: line.series[metric.name] }));
  if (!found.length) return make("p", {}, `Nothing of ${metric.label} was recorded.`);
  const finite = found.flatMap(({ drawn }) => drawn.mean.map(number)).filter(Number.isFinite);
  const lost = found.flatMap(({ drawn }) => drawn.diverged.flatMap((run) => run.values.map(number))).filter(Number.isFinite);
  const canLog = (finite.length ? finite : lost).some((value) => value > 0);
  const y = metricScale(metric, limited(finite, lost, found.map(({ drawn }) => drawn), logY && canLog), logY && canLog);
  const steps = found.flatMap(({ drawn }) => [...drawn.steps, ...drawn.diverged.flatMap((run) => [...run.steps, run.end])]);
  const x = logX ? logarithmic(1, Math.max(...steps, 2)) : linear(0, Math.max(...steps, 1));
  const whole = Math.min(980, Math.max(room(), 300));
  const left = leftOf(y, whole);
  const box = [left, 14, whole - left - 20, 380];
  const [, top, width, height] = box;
  const drawn = sheet(whole, top + height + FOOT, `${metric.label} against the training step`);
  drawn.dataset.scale = logY && canLog ? "log" : "linear";
  const clip = svg("clipPath", { id: "inside" }, svg("rect", { x: left, y: top - 2, width, height: height + 4 }));
  drawn.append(svg("defs", {}, clip));
  frame(drawn, box, x, y, "training step", metric.label);
  const inside = svg("g", { "clip-path": "url(#inside)" });
  const px = (step) => left + width * x(Math.max(step, logX ? 1 : 0));
  const py = (value) => top + height * (1 - y(value));
  const looks = lineLooks(found, axis);
  for (const entry of found) drawCurve(inside, entry, metric, looks(entry.place), px, py, top + height);
  drawn.append(inside);
  return make("div", {}, wide(drawn), lineKey(looks, axis));
}

// What the colours and dashes mean, below a plot: long names have room there.
function lineKey(looks, axis) {
  const key = make("div", { class: "legend" });
  if (axis) key.append(make("span", {}, `${axis.label}:`));
  for (const [content, look] of looks.key) {
    const sample = svg("svg", { width: 24, height: 10, viewBox: "0 0 24 10", "aria-hidden": "true" });
    sample.append(svg("path", { d: "M1 5h22", stroke: look.stroke, "stroke-width": 2.4, "stroke-dasharray": look.dash }));
    key.append(make("span", {}, sample, content));
  }
  return key;
}

// The range of what ended well, with its bands; what diverges leaves it upwards.
function limited(finite, lost, lines, log) {
  if (!finite.length) return lost;
  const top = Math.max(...finite);
  return [...finite, ...bandEnds(finite, lines, log), ...lost.filter((value) => value <= (log ? top * 8 : top * 1.3))];
}

const bandEdge = ({ mean, std }, index, sign) => (mean[index] === null ? NaN : number(mean[index]) + sign * (std[index] || 0));

// As far as the bands reach, but no further beyond the means and the usual edges than half of what these take (as figures do).
function bandEnds(finite, lines, log) {
  const [to, back] = log ? [Math.log, Math.exp] : [(value) => value, (value) => value];
  const scaled = (values) => values.filter((value) => Number.isFinite(value) && (!log || value > 0)).map(to);
  const edges = (sign) => scaled(lines.flatMap((line) => line.std.map((_, index) => bandEdge(line, index, sign)))).sort((a, b) => a - b);
  const [lower, upper, means] = [edges(-1), edges(1), scaled(finite)];
  if (!upper.length || !means.length) return [];
  const [low, high] = [Math.min(...means), Math.max(...means)];
  const least = lower.length ? lower[0] : low;
  const quarter = Math.min(low, lower.length ? lower[Math.floor((lower.length - 1) / 4)] : low);
  const threeQuarters = Math.max(high, upper[Math.ceil(((upper.length - 1) * 3) / 4)]);
  const room = 0.5 * Math.max(threeQuarters - quarter, log ? Math.log(8) : 0.2 * Math.abs(high));
  return [Math.max(least, quarter - room), Math.min(upper[upper.length - 1], threeQuarters + room)].map(back);
}

function lineLooks(found, axis) {
  if (!axis) return Object.assign(() => ({ stroke: KINDS[0], dash: "" }), { key: [] });
  const values = axis.values.filter((value) => found.some(({ place }) => place.axes[axis.name] === value));
  const kinds = values.length <= KINDS.length && values.some((value) => typeof value === "string" && !["inf", "-inf"].includes(value));
  const look = (index) =>
    index < 0
      ? { stroke: "var(--ink)", dash: "" }
      : { stroke: kinds ? KINDS[index] : lineRamp(index / Math.max(values.length - 1, 1)), dash: kinds ? "" : DASHES[index % DASHES.length] };
  const every = Math.ceil(values.length / 20);
  const key = values.map((value, index) => [axis.texts[axis.values.indexOf(value)], look(index)]).filter((_, index) => index % every === 0);
  if (found.some(({ place }) => !values.includes(place.axes[axis.name]))) key.push([`without ${axis.label}`, look(-1)]);
  return Object.assign((place) => look(values.indexOf(place.axes[axis.name])), { key });
}

function drawCurve(group, { place, drawn }, metric, look, px, py, floor) {
  const leftOut = drawn.unfinished ? `\n${drawn.unfinished} ${drawn.unfinished === 1 ? "seed" : "seeds"} not finished, left out of the mean` : "";
  const only = drawn.provisional ? `\nover ${drawn.provisional} ${drawn.provisional === 1 ? "seed" : "seeds"}, not finished` : "";
  const content = placeTip(place, [metric, ...data.metrics.slice(0, 2)]) + leftOut + only;
  const parts = svg("g", { class: "curve" });
  const path = (steps, values) => {
    let pen = "M";
    return steps.map((step, index) => {
      const at = py(number(values[index]));
      if (values[index] === null || !Number.isFinite(at)) return ((pen = "M"), "");
      const part = `${pen}${px(step).toFixed(1)} ${at.toFixed(1)}`;
      return ((pen = "L"), part);
    }).join("");
  };
  const add = (steps, values, attributes) => {
    const d = path(steps, values);
    if (!d) return;
    const stroke = svg("path", { class: "line", d, stroke: look.stroke, "stroke-dasharray": look.dash, ...attributes });
    const hit = explains(svg("path", { class: "hit", d }), content, { enter: () => stroke.classList.add("strong"), leave: () => stroke.classList.remove("strong") });
    hit.classList.remove("mark");
    parts.append(stroke, hit);
  };
  if (drawn.std.length) parts.append(svg("path", { d: bandPath(drawn, px, py, floor), fill: look.stroke, opacity: 0.14 }));
  if (drawn.steps.length) add(drawn.steps, drawn.mean, {});
  for (const run of drawn.diverged) {
    add(run.steps, run.values, { "stroke-width": 1, opacity: 0.8 });
    // Where it leaves the frame, which may be before its end.
    const heights = run.values.map((value) => py(number(value)));
    const out = heights.findIndex((height) => height < 14);
    const last = out < 0 ? heights.length - 1 : out;
    if (!Number.isFinite(heights[last])) continue;
    // Inside the frame to its last finite value: dotted from there to its end.
    const end = out < 0 ? Math.max(run.end, run.steps[last]) : run.steps[last];
    const [from, to, at] = [px(run.steps[last]), px(end), heights[last]];
    if (to > from) parts.append(svg("path", { class: "line", d: `M${from.toFixed(1)} ${at.toFixed(1)}H${to.toFixed(1)}`, stroke: look.stroke, "stroke-dasharray": "1 3" }));
    parts.append(text(to, Math.max(20, at) + 4, "✕", { "text-anchor": "middle", style: `fill:${look.stroke}` }));
  }
  const mark = (switches, steps, values) => {
    for (const step of switches) {
      const next = steps.findIndex((at) => at >= step);
      if (next < 0) continue;
      // On the line as it is drawn, which is straight between recorded steps.
      const [a, b] = [Math.max(next - 1, 0), next].map((index) => [px(steps[index]), py(number(values[index]))]);
      const share = b[0] > a[0] ? (px(step) - a[0]) / (b[0] - a[0]) : 1;
      const cy = a[1] + share * (b[1] - a[1]);
      if (Number.isFinite(cy)) parts.append(svg("circle", { class: "switch", cx: px(step), cy, r: 3.4, fill: "var(--paper)", stroke: look.stroke }));
    }
  };
  mark(drawn.switches, drawn.steps, drawn.mean);
  for (const run of drawn.diverged) mark(run.switches, run.steps, run.values);
  group.append(parts);
}

function bandPath(drawn, px, py, floor) {
  const edge = (sign) => drawn.steps.map((step, index) => [px(step), py(bandEdge(drawn, index, sign)), index]);
  const upper = edge(1);
  // What is not positive has no place on a logarithmic scale: the band ends at the axis.
  const lower = edge(-1).map(([at, value, index]) => [at, Number.isFinite(value) || !Number.isFinite(upper[index][1]) ? value : floor]);
  return `M${[...upper, ...lower.reverse()].filter(([, value]) => Number.isFinite(value)).map(([at, value]) => `${at.toFixed(1)} ${value.toFixed(1)}`).join("L")}Z`;
}
