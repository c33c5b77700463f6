// A search: what each question came to against the cells trained before it, the best so far, and which axes matter.

function searchView() {
  const search = data.search;
  if (!search) return null;
  const view = section("search", "Search", `${search.about}. A dot is a configuration, the line the best so far; what diverged or failed is marked at the top.`);
  const chosen = { objective: search.objectives[0].name, log: true };
  const draw = () => view.body.replaceChildren(historyPlot(search, search.objectives.findIndex((metric) => metric.name === chosen.objective), chosen.log), importanceBars(search));
  if (search.objectives.length > 1) view.controls.append(choice("objective", choices(search.objectives), chosen.objective, (name) => ((chosen.objective = name), draw())));
  if (search.front.length) {
    const heading = search.objectives.length === 1 ? "Best" : "On the Pareto front";
    view.element.insertBefore(make("p", { class: "best" }, `${heading}: ${search.front.join("; ")}.`), view.controls);
  }
  view.controls.append(toggle("logarithmic loss", chosen.log, (on) => ((chosen.log = on), draw())));
  keepDrawn(draw);
  return view.element;
}

function historyPlot(search, index, log) {
  const metric = search.objectives[index];
  const good = search.trials.filter((trial) => !trial.diverged && trial.values.length);
  if (!good.length) return make("p", {}, "No configuration has completed yet.");
  const values = good.map((trial) => number(trial.values[index]));
  const y = padded(metricScale(metric, values, log && metric.positive && values.every((value) => value > 0)));
  const x = padded(linear(0, Math.max(search.cells, 1)));
  const whole = Math.min(760, Math.max(room(), 300));
  const left = leftOf(y, whole);
  const box = [left, 22, whole - left - 20, 300];
  const [, top, width, height] = box;
  const px = (cells) => left + width * x(cells);
  const py = (value) => top + height * (1 - y(value));
  const drawn = sheet(whole, top + height + FOOT, `${metric.label} against cells trained`);
  frame(drawn, box, x, y, "cells trained before", metric.label);
  const steps = search.trials.map((trial, at) => [trial.cells, search.best[index][at]]).filter(([, value]) => value !== null);
  if (steps.length) {
    const d = steps.map(([cells, value], at) => (at ? `H${px(cells).toFixed(1)}V${py(value).toFixed(1)}` : `M${px(cells).toFixed(1)} ${py(value).toFixed(1)}`));
    drawn.append(svg("path", { id: "best", class: "line", stroke: "var(--mark)", d: `${d.join("")}H${px(search.cells).toFixed(1)}` }));
  }
  for (const trial of search.trials) if (trial.state !== "open" && trial.state !== "excluded") drawn.append(explains(trialMark(trial, px(trial.cells), top, trial.values.length ? py(number(trial.values[index])) : null), trialTip(search, trial)));
  return wide(drawn);
}

function trialMark(trial, x, top, y) {
  if (trial.diverged || y === null)
    return svg("g", {}, svg("circle", { cx: x, cy: top - 8, r: 8, fill: "transparent" }), text(x, top - 4, trial.diverged ? STATE_GLYPH.DIVERGED : STATE_GLYPH.FAILED, { "text-anchor": "middle" }));
  const stopped = trial.state === "pruned";
  return svg("circle", { cx: x, cy: y, r: trial.front ? 6 : 4.5, fill: stopped ? "var(--paper)" : trial.front ? "var(--mark)" : "var(--faint)", stroke: "var(--ink)" });
}

function trialTip(search, trial) {
  const state = trial.state === "pruned" ? "stopped early" : trial.state === "failed" ? "failed" : trial.diverged === 1 ? "diverged" : trial.diverged ? "a seed diverged" : "completed";
  const values = trial.diverged ? [] : trial.values.map((value, index) => `${search.objectives[index].label}: ${shown(number(value), search.objectives[index])}`);
  const name = trial.number === null ? "known before" : `question ${trial.number}`;
  return [`${name}, ${state}${trial.front ? ", among the best" : ""}`, trial.at, ...values].join("\n");
}

function importanceBars(search) {
  const element = make("div", { class: "panels", id: "importances" });
  for (const { objective, axes } of search.importances) {
    const [left, row] = [Math.ceil(Math.min(widest(axes.map((axis) => axis.label)), MOST_LABEL)) + 12, 22];
    const width = Math.max(60, Math.min(260, room() - left - 60));
    const drawn = sheet(left + width + 60, row * axes.length + 6, `importance for ${objective}`);
    axes.forEach(({ label: name, share }, index) => {
      const y = index * row;
      drawn.append(
        text(left - 8, y + 15, fitted(name, MOST_LABEL), { "text-anchor": "end" }),
        svg("rect", { x: left, y: y + 3, width: Math.max(width * share, 1), height: row - 7, fill: "var(--mark)" }),
        text(left + width * share + 6, y + 15, `${(100 * share).toFixed(0)} %`),
      );
    });
    element.append(make("div", {}, make("h3", {}, `What sets the best apart: ${objective}`), drawn));
  }
  if (!search.importances.length) element.append(make("p", {}, "Which axes matter is said from 20 complete configurations of two axes on."));
  return element;
}
