// Two sweeps side by side: each place of both, the difference, and its spread over the seeds.

function comparisonViews() {
  const parts = data.metrics.map((metric, index) => comparisonSection(metric, index));
  const lonely = [...new Set(data.places.map((place) => place.only).filter(Boolean))];
  const notes = lonely.map((name) => make("p", {}, `${data.places.filter((place) => place.only === name).length} places are only in ${name}; they are in the tables without a difference.`));
  return [...notes, ...parts];
}

function comparisonSection(metric, index) {
  const view = section(
    `metric-${index}`,
    metric.label,
    `Difference: ${data.second} minus ${data.first}. Each bar is one place, with one standard deviation over the seeds; blue is better in ${data.second}, orange worse, and pale what is within one standard deviation.`,
  );
  const entries = data.places.map((place) => ({ place, values: place.values[metric.name] })).filter(({ values }) => values);
  const both = entries.filter(({ values }) => values.difference !== null);
  const bars = make("div");
  const chosen = { relative: metric.positive && relativeHelps(both) };
  const draw = () => bars.replaceChildren(both.length ? wide(differenceBars(metric, both, chosen.relative)) : make("p", {}, "No place has a value in both sweeps."));
  if (both.length && metric.positive) view.controls.append(toggle(`in % of ${data.first}`, chosen.relative, (on) => ((chosen.relative = on), draw())));
  keepDrawn(draw);
  const axes = data.axes;
  const head = [...axes.map((axis) => axis.label), data.first, data.second, "difference", ...(metric.positive ? ["in %"] : []), "pairs"];
  const side = (pair, state) => [pairText(pair, metric) + (state === "OK" ? "" : ` (${stateText[state]})`), number(pair[0])];
  const rows = entries.map(({ place, values }) => {
    const share = values.difference === null || !(number(values.base) > 0) ? null : (100 * number(values.difference)) / number(values.base);
    return [
      ...axes.map((axis) => [axisText(axis, place) ?? "–", place.axes[axis.name] === null ? null : axis.values.indexOf(place.axes[axis.name])]),
      side(values.first, place.states[0]),
      side(values.second, place.states[1]),
      [values.difference === null ? "–" : pairText([values.difference, values.spread], metric), values.difference === null ? null : number(values.difference)],
      ...(metric.positive ? [[share === null ? "–" : `${share > 0 ? "+" : ""}${share.toFixed(1)}`, share]] : []),
      [values.pairs ? String(values.pairs) : values.difference === null ? "–" : "unpaired", values.pairs],
    ];
  });
  view.body.append(bars, sortableTable(head, rows));
  return view.element;
}

// Where values span orders of magnitude, the smallest of them would have no visible bar.
function relativeHelps(entries) {
  const firsts = entries.map(({ values }) => number(values.base)).filter((value) => value > 0);
  return firsts.length === entries.length && Math.max(...firsts) / Math.min(...firsts) > 10;
}

function differenceBars(metric, entries, relative) {
  const unit = ({ values }) => (relative ? 100 / number(values.base) : metric.scale);
  const sizes = entries
    .filter((entry) => Number.isFinite(unit(entry)))
    .map((entry) => ({ ...entry, size: number(entry.values.difference) * unit(entry), spread: (entry.values.spread || 0) * unit(entry) }))
    .sort((a, b) => better(metric)(a.size, b.size));
  const whole = Math.min(980, Math.max(room(), 320));
  // Names stand beside the bars, above them where there is little room, and are left out where there are many.
  const stacked = whole < 640;
  const rowHeight = sizes.length > 60 ? 7 : stacked ? 32 : 18;
  const named = rowHeight > 10;
  const barHeight = stacked && named ? 12 : rowHeight - 3;
  const left = stacked ? 16 : named ? Math.ceil(Math.min(widest(sizes.map(({ place }) => placeText(place))), whole * 0.42)) + 14 : 40;
  const [width, height] = [whole - left - 24, sizes.length * rowHeight];
  const scale = linear(Math.min(...sizes.map((one) => one.size - one.spread), 0), Math.max(...sizes.map((one) => one.size + one.spread), 0));
  const px = (value) => left + width * scale(value);
  const name = relative ? `difference of ${metric.label}, in % of ${data.first}` : `difference of ${metric.label}`;
  const drawn = sheet(whole, height + 60, name);
  const group = svg("g", { transform: "translate(0 10)" });
  for (const [share] of scale.ticks) group.append(svg("path", { class: "rule", d: `M${left + width * share} 0V${height}` }));
  horizontalTicks(group, left, height + 16, width, scale);
  group.append(
    svg("path", { class: "rule", style: "stroke:var(--ink)", d: `M${px(0)} 0V${height}` }),
    label(left + width / 2, height + 36, name, width + left, { "text-anchor": "middle", class: "faint" }),
  );
  sizes.forEach(({ place, values, size, spread }, index) => {
    const good = better(metric)(size, 0) < 0;
    const y = index * rowHeight + (stacked && named ? 16 : 1);
    const told = [placeText(place), `${data.first}: ${pairText(values.first, metric)}`, `${data.second}: ${pairText(values.second, metric)}`, `difference: ${pairText([values.difference, values.spread], metric)}`, values.pairs ? `over ${values.pairs} pairs of equal seeds` : "over different seeds"].join("\n");
    const [from, to] = [px(Math.min(0, size)), px(Math.max(0, size))];
    const look = { fill: good ? KINDS[0] : KINDS[1], opacity: spread && Math.abs(size) <= spread ? 0.4 : 1 };
    group.append(explains(svg("rect", { class: "difference", x: from, y, width: Math.max(to - from, 1), height: barHeight, ...look }), told));
    if (spread) group.append(svg("path", { stroke: "var(--ink)", "pointer-events": "none", d: `M${px(size - spread)} ${y + barHeight / 2}H${px(size + spread)}` }));
    if (named) group.append(stacked ? label(2, y - 4, placeText(place), whole - 4) : label(left - 8, y + 11, placeText(place), left - 12, { "text-anchor": "end" }));
  });
  drawn.append(group);
  return drawn;
}
