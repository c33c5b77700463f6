// Heatmaps of the space: one axis against another, the mean over the seeds in each cell.

const CELL = [62, 40];
const LEAST_CELL = 44;

function heatmapView(spec, number_) {
  const view = section(`heatmap-${number_}`, spec.title, "Bright is better. Point at a cell, or step through them with the tab key.");
  const notes = spec.left_out ? [make("p", {}, `${spec.left_out} grid points without ${spec.x.label} or ${spec.y.label} are not shown.`)] : [];
  let log = null;
  const draw = () => {
    const seen = new Set();
    const tables = make("div", { class: "tables" });
    for (const table of spec.tables) {
      const panels = make("div", { class: "panels" });
      const logScale = log === null ? table.metric.positive && spans(table) : log && table.metric.positive;
      for (const panel of table.panels) panels.append(wide(heatmapPanel(spec, table, panel, logScale, seen)));
      tables.append(make("div", {}, make("h3", {}, table.metric.label), panels));
    }
    view.body.replaceChildren(tables, stateLegend([...seen].filter((state) => state !== "OK")), ...notes);
  };
  view.controls.append(toggle("logarithmic colours", spec.tables.some(spans), (on) => ((log = on), draw())));
  keepDrawn(draw);
  return view.element;
}

const valuesOf = (table) => table.panels.flatMap((panel) => panel.mean.flat().map(number)).filter(Number.isFinite);

function spans(table) {
  const values = valuesOf(table);
  return table.metric.positive && values.length > 1 && Math.min(...values) > 0 && Math.max(...values) / Math.min(...values) > 10;
}

function heatmapPanel(spec, table, panel, log, seen) {
  const [columns, rows] = [spec.x.texts.length, spec.y.texts.length];
  const left = Math.ceil(Math.min(widest(spec.y.texts), MOST_LABEL, room() * 0.3)) + 30;
  const scale = metricScale(table.metric, valuesOf(table), log);
  const beside = barRoom(scale);
  const across = Math.max(LEAST_CELL, Math.min(CELL[0], (room() - left - beside) / columns));
  // Beyond some columns values are left to the pointer, so that the whole can be seen.
  const cell = [columns > 20 ? Math.max(14, 900 / columns) : across, Math.max(12, Math.min(CELL[1], 700 / rows))];
  const [width, height] = [columns * cell[0], rows * cell[1]];
  const drawn = sheet(left + width + beside, height + 66, `${table.metric.label} ${panel.title}`);
  drawn.append(label(left, 12, panel.title, width + beside, { "font-weight": 600 }));
  const group = svg("g", { transform: `translate(${left} 20)` });
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++)
      // The first value of the vertical axis stands at the bottom, as in the figures.
      group.append(heatCell(spec, table, panel, [row, column], [column * cell[0], (rows - 1 - row) * cell[1]], cell, scale, seen));
  const everyX = Math.ceil(40 / cell[0]), everyY = Math.ceil(14 / cell[1]);
  spec.x.texts.forEach((name, at) => at % everyX || group.append(label((at + 0.5) * cell[0], height + 15, name, everyX * cell[0] - 6, { "text-anchor": "middle" })));
  spec.y.texts.forEach((name, at) => at % everyY || group.append(label(-6, height - (at + 0.5) * cell[1] + 4, name, left - 24, { "text-anchor": "end" })));
  group.append(
    text(width / 2, height + 34, spec.x.label, { "text-anchor": "middle", class: "faint" }),
    text(0, 0, spec.y.label, { "text-anchor": "middle", class: "faint", transform: `translate(${12 - left} ${height / 2}) rotate(-90)` }),
  );
  const bar = colourBar(scale, table.metric.lower ? [...VIRIDIS].reverse() : VIRIDIS, table.metric.label, height);
  bar.setAttribute("transform", `translate(${width + 12} 0)`);
  group.append(bar);
  drawn.append(group);
  return drawn;
}

function heatCell(spec, table, panel, [row, column], [x, y], cell, scale, seen) {
  const state = panel.states[row][column];
  const value = number(panel.mean[row][column]);
  const spread = panel.std[row][column];
  const { metric } = table;
  seen.add(state);
  const group = svg("g", { "data-state": state });
  const where = `${spec.x.label} = ${spec.x.texts[column]}, ${spec.y.label} = ${spec.y.texts[row]}`;
  const told = [panel.title, where, stateText[state]].filter(Boolean);
  let box;
  if (hasValue(state) && value !== null) {
    const share = scale(value);
    const fill = ramp(VIRIDIS, metric.lower ? 1 - share : share);
    box = svg("rect", { x, y, width: cell[0], height: cell[1], fill, stroke: "var(--paper)" });
    group.append(box);
    const written = [3, 2].map((digits) => shown(value, metric, digits)).find((content) => textWidth(content) <= cell[0] - 4);
    if (written) group.append(text(x + cell[0] / 2, y + cell[1] / 2 + 4, written, { "text-anchor": "middle", style: `fill:${inkOn(fill)};pointer-events:none` }));
    if (state !== "OK") group.append(text(x + cell[0] - 9, y + cell[1] - 4, STATE_GLYPH[state], { style: `fill:${inkOn(fill)};pointer-events:none` }));
    told.push(`${metric.label}: ${pairText([value, spread], metric)}`, `mean over ${panel.seeds[row][column]} ${panel.seeds[row][column] === 1 ? "seed" : "seeds"}`);
  } else {
    box = stateBox(state, x + 0.5, y + 0.5, cell[0] - 1, cell[1] - 1);
    group.append(box, text(x + cell[0] / 2, y + cell[1] / 2 + 4, STATE_GLYPH[state], { "text-anchor": "middle", style: "pointer-events:none" }));
  }
  explains(box, told.join("\n"));
  return group;
}
