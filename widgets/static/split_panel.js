// The live numbers of a split: frames, leaks, and the share of each class and cluster that is in val.

const MANY = { Classes: 30, Clusters: 12 }; // more rows than this become columns of a small chart
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

const NOTES = { none: "none", low: "too few", high: "too many" };

function draw_frames(model, box) {
  const frames = model.get("frames");
  const used = frames.reduce((sum, one) => sum + one.share, 0); // 1, or 0 when all are excluded
  const bar = element("div", "obdb-frames-bar");
  const words = element("div", "obdb-frames-words");
  let wanted = 0;
  for (const one of frames) {
    const piece = element("span");
    piece.style.width = `${100 * one.share}%`;
    piece.style.background = one.colour;
    bar.append(piece);
    wanted += one.target;
    if (one.target && wanted < 0.9995) {
      const tick = element("span", "obdb-target");
      tick.style.left = `${100 * wanted}%`;
      tick.title = "where one part should end and the next begin";
      bar.append(tick);
    }
    if (!one.count && !one.before && !one.target) continue;
    const word = element("div", `obdb-frames-word${one.note ? " obdb-odd" : ""}`);
    const dot = element("span", "obdb-swatch");
    dot.style.background = one.colour;
    const moved = one.count - one.before;
    const judged = one.part !== "excluded" && used;
    if (one.note) word.title = `${one.note === "none" ? "no" : NOTES[one.note]} frames in ${one.part}: ${percent(one.share)}, wanted ${percent(one.target)}`;
    word.append(
      dot, element("span", "obdb-frames-count", `${one.part} ${number(one.count)}`),
      element("span", "obdb-delta", moved ? `${moved > 0 ? "+" : "−"}${number(Math.abs(moved))}` : ""),
      element("span", "obdb-share", judged ? percent(one.share) : ""),
      element("span", "obdb-note", judged && one.target ? `wanted ${percent(one.target)}` : ""),
    );
    words.append(word);
  }
  box.replaceChildren(heading("Frames", "share of those in use"), bar, words);
}

function leak_cell(value, before, why) {
  const cell = element("span", `obdb-leak-cell ${value === null ? "" : value > 0 ? "obdb-bad" : "obdb-good"}`);
  const delta = value !== null && before !== null ? change(value, before) : "";
  cell.append(element("span", "obdb-leak-value", value === null ? why : percent(value)));
  if (value !== null) cell.append(element("span", "obdb-delta", delta));
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
    // A tick only where every side has been looked at: 0 % of no frames is no good news.
    const unknown = one.value === null || (tested && one.test === null);
    const row = element("div", `obdb-leak${bad ? " obdb-bad" : unknown ? "" : " obdb-good"}`);
    row.title = `${one.help}${tested ? " (for test: in train or val)" : ""}`;
    row.append(
      element("span", "obdb-leak-sign", bad ? "▲" : unknown ? "–" : "✓"),
      element("span", "obdb-label", one.title),
      leak_cell(one.value, one.before, one.why),
    );
    if (tested) row.append(leak_cell(one.test, one.test_before, one.test_why));
    box.append(row);
  }
}

function describe(row, balance) {
  const [train, val, test, excluded] = row.boxes.map(number);
  const lines = [`${row.label}: ${percent(row.share)} in val (wanted ${percent(balance.target)})`];
  if (has_test(balance)) lines.push(`${percent(row.test)} in test (wanted ${percent(balance.test_target)})`);
  if (row.note) lines.push(`${NOTES[row.note]} in val`);
  if (row.test_note) lines.push(`${NOTES[row.test_note]} in test`);
  if (Math.max(row.share, row.test) > balance.scale) lines.push(`» beyond the end of the bar (${percent(balance.scale)})`);
  return `${lines.join("\n")}\nboxes: train ${train}, val ${val}, test ${test}, excluded ${excluded}`;
}

const has_test = (balance) => Boolean(balance.test_target || balance.rows?.some((row) => row.test));
const part_of = (share, balance) => `${(100 * Math.min(share, balance.scale)) / balance.scale}%`;

function placed(name, side, share, balance) {
  const node = element("span", name);
  node.style[side] = part_of(share, balance);
  return node;
}

function draw_track(row, balance) {
  const track = element("span", "obdb-track");
  track.append(placed("obdb-fill", "width", row.share, balance));
  if (has_test(balance)) track.append(placed("obdb-fill-test", "width", row.test, balance));
  if (change(row.share, row.before)) track.append(placed("obdb-ghost", "left", row.before, balance));
  track.append(placed("obdb-target", "left", balance.target, balance));
  if (balance.test_target) track.append(placed("obdb-target-test", "left", balance.test_target, balance));
  if (Math.max(row.share, row.test) > balance.scale) track.append(element("span", "obdb-beyond", "»"));
  return track;
}

function draw_rows(balance, box, titled) {
  const list = element("div", "obdb-balance-rows");
  for (const row of balance.rows) {
    const line = element("div", `obdb-balance-row${row.note ? " obdb-odd" : ""}`);
    line.title = describe(row, balance);
    line.append(
      element("span", "obdb-label", row.label), draw_track(row, balance),
      element("span", "obdb-share", percent(row.share)), element("span", "obdb-delta", change(row.share, row.before)),
    );
    if (has_test(balance)) {
      line.append(element("span", `obdb-test-share${row.test_note ? " obdb-test-odd" : ""}`, percent(row.test)));
    }
    list.append(line);
  }
  if (has_test(balance) && titled) {
    const head = element("div", "obdb-balance-row obdb-columns-head");
    head.append(
      element("span", "obdb-label", ""), element("span", "obdb-track-gap", ""), element("span", "obdb-share", "val"),
      element("span", "obdb-delta", ""), element("span", "obdb-test-share", "test"),
    );
    box.append(head);
  }
  box.append(list);
}

function draw_columns(balance, box) {
  const chart = element("div", "obdb-columns");
  for (const row of balance.rows) {
    const column = element("span", `obdb-column${row.note ? " obdb-odd" : ""}`);
    column.title = describe(row, balance);
    column.append(placed("obdb-column-fill", "height", row.share, balance));
    if (has_test(balance)) column.append(placed("obdb-column-test", "height", row.test, balance));
    if (Math.max(row.share, row.test) > balance.scale) column.append(element("span", "obdb-column-beyond"));
    if (change(row.share, row.before)) column.append(placed("obdb-column-ghost", "bottom", row.before, balance));
    chart.append(column);
  }
  chart.append(placed("obdb-target-line", "bottom", balance.target, balance));
  if (balance.test_target) chart.append(placed("obdb-target-line obdb-target-line-test", "bottom", balance.test_target, balance));
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
  const head = heading(title, balance.empty ? `no boxes in ${balance.empty}` : `mix off by ${balance.jsd.toFixed(4)} bit${delta}`);
  head.title = "Jensen-Shannon divergence of val's mix from that of train: 0 is the same mix, 1 nothing in common";
  box.append(head);
  if (balance.rows.length > MANY[title]) draw_columns(balance, box);
  else draw_rows(balance, box, title === "Classes"); // the first list names the columns
}

function draw_key(balance, key) {
  const entries = [["fill", "share in val"], ["tick", "wanted"], ["ghost", "before"]];
  if (has_test(balance)) entries.push(["fill-test", "in test"]);
  if (balance.test_target) entries.push(["tick-test", "wanted"]);
  key.replaceChildren(...entries.flatMap(([name, text]) => [element("span", `obdb-key-${name}`), element("span", "", text)]));
  key.append(element("span", "obdb-key-scale", `bars end at ${percent(balance.scale)}`));
  key.title = "All bars have this one scale, and no edit changes it; » marks what goes beyond its end.";
}

function render({ model, el }) {
  el.classList.add("obdb-split-panel");
  const boxes = ["frames", "leaks", "classes", "clusters"].map((name) => element("div", `obdb-panel-${name}`));
  const [frames, leaks, classes, clusters] = boxes;
  const key = element("div", "obdb-panel-key");
  el.append(frames, leaks, key, classes, clusters);
  const draw = () => {
    draw_frames(model, frames);
    draw_leaks(model, leaks);
    draw_key(model.get("classes"), key);
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
