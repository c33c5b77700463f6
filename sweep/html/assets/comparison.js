// Two sweeps side by side: each place of both, the difference, and its spread over the seeds.

const TABLE_COLUMNS = 3;

function comparisonViews() {
  const parts = data.metrics.map((metric, index) => comparisonSection(metric, index));
  const lonely = [...new Set(data.places.map((place) => place.only).filter(Boolean))];
  const notes = lonely.map((name) => make("p", {}, `${data.places.filter((place) => place.only === name).length} places are only in ${name}; they are in the tables without a difference.`));
  return [...notes, ...parts];
}

function comparisonSection(metric, index) {
  const view = section(`metric-${index}`, metric.label, `Difference: ${data.second} minus ${data.first}. Each bar is one place, with one standard deviation over the seeds; blue is better in ${data.second}, orange worse.`);
  const entries = data.places.map((place) => ({ place, values: place.values[metric.name] })).filter(({ values }) => values);
  const both = entries.filter(({ values }) => values.difference !== null);
  view.body.append(both.length ? differenceBars(metric, both) : make("p", {}, "No place has a value in both sweeps."));
  const axes = data.axes;
  const head = [...axes.map((axis) => axis.label), data.first, data.second, "difference", "pairs"];
  const cell = (pair) => (pair[0] === null ? "–" : shown(number(pair[0]), metric) + (pair[1] === null ? "" : ` ± ${shown(pair[1], metric)}`));
  const rows = entries.map(({ place, values }) => [
    ...axes.map((axis) => [axisText(axis, place) ?? "–", place.axes[axis.name] === null ? null : axis.values.indexOf(place.axes[axis.name])]),
    [place.states[0] === "OK" ? cell(values.first) : `${cell(values.first)} (${stateText[place.states[0]]})`, number(values.first[0])],
    [place.states[1] === "OK" ? cell(values.second) : `${cell(values.second)} (${stateText[place.states[1]]})`, number(values.second[0])],
    [values.difference === null ? "–" : cell([values.difference, values.spread]), values.difference === null ? null : number(values.difference)],
    [values.pairs ? String(values.pairs) : values.difference === null ? "–" : "unpaired", values.pairs],
  ]);
  view.body.append(sortableTable(head, rows));
  return view.element;
}

function differenceBars(metric, entries) {
  const sorted = [...entries].sort((a, b) => better(metric)(number(a.values.difference), number(b.values.difference)));
  const rowHeight = sorted.length > 60 ? 7 : 18;
  const [left, width, height] = [sorted.length > 60 ? 40 : 330, 560, sorted.length * rowHeight];
  const spread = ({ values }) => Math.abs(number(values.difference)) + (values.spread || 0);
  const most = Math.max(...sorted.map(spread), 1e-12) * metric.scale;
  const scale = linear(-most, most);
  const px = (value) => left + width * scale(value * metric.scale);
  const drawn = sheet(left + width + 40, height + 60, `difference of ${metric.label}`);
  const group = svg("g", { transform: "translate(0 10)" });
  for (const [share, content] of scale.ticks) group.append(svg("path", { class: "rule", d: `M${left + width * share} 0V${height}` }), text(left + width * share, height + 16, content, { "text-anchor": "middle" }));
  group.append(text(left + width / 2, height + 36, `difference of ${metric.label}`, { "text-anchor": "middle", class: "faint" }));
  sorted.forEach(({ place, values }, index) => {
    const value = number(values.difference);
    const good = better(metric)(value, 0) < 0;
    const [from, to] = [px(Math.min(0, value)), px(Math.max(0, value))];
    const y = index * rowHeight + 1;
    const content = [placeText(place), `${data.first}: ${pairText(values.first, metric)}`, `${data.second}: ${pairText(values.second, metric)}`, `difference: ${pairText([values.difference, values.spread], metric)}`, values.pairs ? `over ${values.pairs} pairs of equal seeds` : "over different seeds"].join("\n");
    group.append(explains(svg("rect", { class: "difference", x: from, y, width: Math.max(to - from, 1), height: rowHeight - 3, fill: good ? KINDS[0] : KINDS[1] }), content));
    if (values.spread) group.append(svg("path", { stroke: "var(--ink)", d: `M${px(value - values.spread)} ${y + (rowHeight - 3) / 2}H${px(value + values.spread)}` }));
    if (rowHeight > 10) group.append(text(left - 8, y + 11, placeText(place), { "text-anchor": "end" }));
  });
  drawn.append(group);
  return drawn;
}

const pairText = (pair, metric) => (pair[0] === null ? "–" : shown(number(pair[0]), metric) + (pair[1] === null ? "" : ` ± ${shown(pair[1], metric)}`));
