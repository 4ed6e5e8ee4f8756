// The live numbers of a split: frames, leaks, and the share of each class and cluster that is in val.

const MANY = { Classes: 30, Clusters: 12 }; // more rows than this become columns of a small chart
const SCALE_TARGETS = 2.5; // a bar's full width is this many times the wanted share, so that both misses can be seen
const SMALL = 0.0005; // a change below this is none

function element(tag, name, text) {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (text !== undefined) node.textContent = text;
  return node;
}

const percent = (value) => `${(100 * value).toFixed(value && value < 0.0995 ? 1 : 0)} %`;
const number = (value) => value.toLocaleString("en");

function change(now, before, places = 1) {
  const points = 100 * (now - before);
  if (Math.abs(now - before) < SMALL) return "";
  return `${points > 0 ? "+" : "−"}${Math.abs(points).toFixed(places)}`;
}

function heading(text, note) {
  const node = element("div", "obdb-panel-head");
  node.append(element("b", "", text), element("span", "obdb-note", note));
  return node;
}

function draw_frames(model, box) {
  const frames = model.get("frames");
  const total = frames.reduce((sum, one) => sum + one.count, 0) || 1;
  const bar = element("div", "obdb-frames-bar");
  const words = element("div", "obdb-frames-words");
  for (const one of frames) {
    if (!one.count && !one.before) continue;
    const piece = element("span");
    piece.style.width = `${(100 * one.count) / total}%`;
    piece.style.background = one.colour;
    bar.append(piece);
    const word = element("span", "obdb-frames-word");
    const dot = element("span", "obdb-swatch");
    dot.style.background = one.colour;
    const moved = one.count - one.before;
    word.append(dot, element("span", "", `${one.part} ${number(one.count)}`), element("span", "obdb-share", percent(one.count / total)));
    if (moved) word.append(element("span", "obdb-delta", `${moved > 0 ? "+" : "−"}${number(Math.abs(moved))}`));
    words.append(word);
  }
  box.replaceChildren(heading("Frames", ""), bar, words);
}

function leak_cell(value, before) {
  const cell = element("span", `obdb-leak-cell ${value === null ? "" : value > 0 ? "obdb-bad" : "obdb-good"}`);
  const delta = value !== null && before !== null ? change(value, before) : "";
  cell.append(element("span", "obdb-delta", delta), element("span", "obdb-leak-value", value === null ? "not known" : percent(value)));
  return cell;
}

function draw_leaks(model, box) {
  const leaks = model.get("leaks");
  const tested = model.get("frames").some((one) => one.part === "test" && one.count);
  const head = heading("Leaks", tested ? "" : "share of val frames");
  if (tested) {
    const columns = element("span", "obdb-leak-columns");
    columns.append(element("span", "obdb-note", "of val"), element("span", "obdb-note", "of test"));
    head.lastChild.replaceWith(columns);
  }
  box.replaceChildren(head);
  for (const one of leaks) {
    const bad = one.value > 0 || one.test > 0;
    const row = element("div", `obdb-leak${bad ? " obdb-bad" : one.value === null ? "" : " obdb-good"}`);
    row.title = `${one.help}${tested ? " (for test: in train or val)" : ""}`;
    row.append(
      element("span", "obdb-leak-sign", bad ? "▲" : one.value === null ? "–" : "✓"),
      element("span", "obdb-label", one.title),
      leak_cell(one.value, one.before),
    );
    if (tested) row.append(leak_cell(one.test, one.test_before));
    box.append(row);
  }
}

const NOTES = { none: "none in val", low: "too few in val", high: "too many in val" };

function describe(row, target) {
  const [train, val, test, excluded] = row.boxes.map(number);
  const note = row.note ? `\n${NOTES[row.note]}` : "";
  return `${row.label}: ${percent(row.share)} in val (wanted ${percent(target)})${note}\nboxes: train ${train}, val ${val}, test ${test}, excluded ${excluded}`;
}

function scale_of(balance) {
  const most = Math.max(...balance.rows.map((row) => row.share), 0);
  const wide = Math.min(1, SCALE_TARGETS * balance.target);
  return balance.target && most <= wide ? wide : 1;
}

function draw_rows(balance, box) {
  const scale = scale_of(balance);
  const list = element("div", "obdb-balance-rows");
  for (const row of balance.rows) {
    const line = element("div", `obdb-balance-row${row.note ? " obdb-odd" : ""}`);
    line.title = describe(row, balance.target);
    const track = element("span", "obdb-track");
    const ghost = element("span", "obdb-ghost");
    ghost.style.left = `${(100 * Math.min(row.before, scale)) / scale}%`;
    const fill = element("span", "obdb-fill");
    fill.style.width = `${(100 * Math.min(row.share, scale)) / scale}%`;
    track.append(fill);
    if (balance.test_target || row.test) {
      const test = element("span", "obdb-fill-test");
      test.style.width = `${(100 * Math.min(row.test, scale)) / scale}%`;
      track.append(test);
    }
    if (change(row.share, row.before)) track.append(ghost);
    const tick = element("span", "obdb-target");
    tick.style.left = `${(100 * balance.target) / scale}%`;
    track.append(tick);
    line.append(
      element("span", "obdb-label", row.label), track,
      element("span", "obdb-share", percent(row.share)), element("span", "obdb-delta", change(row.share, row.before)),
    );
    list.append(line);
  }
  box.append(list);
}

function draw_columns(balance, box) {
  const scale = scale_of(balance);
  const chart = element("div", "obdb-columns");
  const tick = element("span", "obdb-target-line");
  tick.style.bottom = `${(100 * balance.target) / scale}%`;
  for (const row of balance.rows) {
    const column = element("span", `obdb-column${row.note ? " obdb-odd" : ""}`);
    column.title = describe(row, balance.target);
    const fill = element("span", "obdb-column-fill");
    fill.style.height = `${(100 * Math.min(row.share, scale)) / scale}%`;
    column.append(fill);
    if (change(row.share, row.before)) {
      const ghost = element("span", "obdb-column-ghost");
      ghost.style.bottom = `${(100 * Math.min(row.before, scale)) / scale}%`;
      column.append(ghost);
    }
    chart.append(column);
  }
  chart.append(tick);
  const odd = balance.rows.filter((row) => row.note);
  const off = (row) => Math.abs(row.share - balance.target);
  const worst = [...balance.rows].sort((a, b) => off(b) - off(a))[0];
  const text = odd.length
    ? `${odd.length} of ${balance.rows.length} far from the line; furthest: ${worst.label} (${percent(worst.share)})`
    : `all ${balance.rows.length} near the line`;
  box.append(chart, element("div", "obdb-note obdb-columns-note", text));
}

function draw_balance(balance, title, box) {
  box.replaceChildren();
  if (!balance.rows) return;
  const delta = Math.abs(balance.jsd - balance.before) >= 0.00005
    ? ` (${balance.jsd > balance.before ? "+" : "−"}${Math.abs(balance.jsd - balance.before).toFixed(4)})` : "";
  const head = heading(title, `mix off by ${balance.jsd.toFixed(4)} bit${delta}`);
  head.title = "Jensen-Shannon divergence of val's mix from that of train: 0 is the same mix, 1 nothing in common";
  box.append(head);
  if (balance.rows.length > MANY[title]) draw_columns(balance, box);
  else draw_rows(balance, box);
}

function render({ model, el }) {
  el.classList.add("obdb-split-panel");
  const boxes = ["frames", "leaks", "classes", "clusters"].map((name) => element("div", `obdb-panel-${name}`));
  const [frames, leaks, classes, clusters] = boxes;
  const key = element("div", "obdb-panel-key");
  const fill = element("span", "obdb-key-fill");
  const tick = element("span", "obdb-key-tick");
  const ghost = element("span", "obdb-key-ghost");
  key.append(fill, element("span", "", "share in val"), tick, element("span", "", "wanted"), ghost, element("span", "", "before"));
  el.append(frames, leaks, key, classes, clusters);
  const draw = () => {
    draw_frames(model, frames);
    draw_leaks(model, leaks);
    const scrolled = classes.querySelector(".obdb-balance-rows")?.scrollTop ?? 0;
    draw_balance(model.get("classes"), "Classes", classes);
    draw_balance(model.get("clusters"), "Clusters", clusters);
    const list = classes.querySelector(".obdb-balance-rows");
    if (list) list.scrollTop = scrolled;
    el.dataset.turn = model.get("turn"); // for tests: whose numbers are on the screen
  };
  draw();
  model.on("change:turn", draw);
  return () => model.off(null, draw);
}

export default { render };
