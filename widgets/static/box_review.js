// Review of suggested boxes: draws what Python put into the traits, sends acts back. Zoom and help live here only.

const KEYS = {
  a: "accept", r: "reject", s: "skip", u: "undo",
  n: "next", ArrowRight: "next", p: "previous", ArrowLeft: "previous",
  z: "zoom", "?": "help", Escape: "close",
};
const VERDICTS = ["accept", "reject", "skip"];
const BUTTONS = [
  ["accept", "✓", "Accept", "a"], ["reject", "✕", "Reject", "r"], ["skip", "○", "Skip", "s"],
  ["undo", "↶", "Undo", "u"], ["previous", "←", "Previous", "p"], ["next", "→", "Next", "n"],
  ["zoom", "⌕", "Zoom", "z"], ["help", "?", "Help", "?"],
];
const HELP = [
  ["a", "accept: the box is right, it will be added"], ["r", "reject: there is no such plant here"],
  ["s", "skip: I cannot tell"], ["u", "undo my latest decision"], ["n →", "next, without deciding"],
  ["p ←", "previous"], ["z", "zoom to the box and back"], ["?", "this help; Esc closes it"],
];
const STYLES = {
  annotation: { colour: "#56B4E9", width: 2, dash: [] },
  other: { colour: "#F0E442", width: 2, dash: [7, 5] },
  candidate: { colour: "#E69F00", width: 4, dash: [] },
};
const MAX_HEIGHT = 440; // CSS px, so that picture and buttons fit a screen of 800
const SIDE = 250;
const GAP = 12;
const SIDE_SCALE = 2.2; // the picture beside shows this many box sides
const ZOOM_SCALE = 3; // the zoomed picture shows this many box sides

function element(tag, name, text) {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (text !== undefined) node.textContent = text;
  return node;
}

async function bitmap(bytes) {
  return bytes && bytes.byteLength ? createImageBitmap(new Blob([bytes])) : null;
}

function size_canvas(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.fillStyle = "#2b2b2b";
  context.fillRect(0, 0, width, height);
  return context;
}

function draw_box(context, view, box, style, label) {
  const [x1, y1, x2, y2] = box;
  const left = (x1 - view.x) * view.scale, top = (y1 - view.y) * view.scale;
  const width = (x2 - x1) * view.scale, height = (y2 - y1) * view.scale;
  if (left > view.width || top > view.height || left + width < 0 || top + height < 0) return;
  context.setLineDash([]);
  context.lineWidth = style.width + 2;
  context.strokeStyle = "rgba(0, 0, 0, 0.55)";
  context.strokeRect(left, top, width, height);
  context.setLineDash(style.dash);
  context.lineWidth = style.width;
  context.strokeStyle = style.colour;
  context.strokeRect(left, top, width, height);
  context.setLineDash([]);
  if (!label) return;
  context.font = "12px system-ui, sans-serif";
  const text_width = context.measureText(label).width + 8;
  const above = top - 18 >= 0 ? top - 18 : Math.min(top + height + 2, view.height - 17);
  const start = Math.max(0, Math.min(left - 1, view.width - text_width));
  context.fillStyle = style.colour;
  context.fillRect(start, above, text_width, 17);
  context.fillStyle = "#111";
  context.fillText(label, start + 4, above + 13);
}

// Four ticks that point at the candidate: it is known by shape as well as by colour and width.
function draw_ticks(context, view, [x1, y1, x2, y2]) {
  const left = (x1 - view.x) * view.scale, right = (x2 - view.x) * view.scale;
  const top = (y1 - view.y) * view.scale, bottom = (y2 - view.y) * view.scale;
  const middle_x = (left + right) / 2, middle_y = (top + bottom) / 2;
  for (const [width, colour] of [[5, "rgba(0, 0, 0, 0.55)"], [3, STYLES.candidate.colour]]) {
    context.lineWidth = width;
    context.strokeStyle = colour;
    context.beginPath();
    for (const [ax, ay, bx, by] of [
      [left - 14, middle_y, left - 3, middle_y], [right + 3, middle_y, right + 14, middle_y],
      [middle_x, bottom + 3, middle_x, bottom + 14],
    ]) {
      context.moveTo(ax, ay);
      context.lineTo(bx, by);
    }
    context.stroke();
  }
}

// `layers` are [image, its rectangle in frame pixels], the sharper one last.
function draw_scene(canvas, width, height, layers, centre, scale, model, labels) {
  const context = size_canvas(canvas, width, height);
  const view = { x: centre[0] - width / 2 / scale, y: centre[1] - height / 2 / scale, scale, width, height };
  for (const [image, [x1, y1, x2, y2]] of layers) {
    context.drawImage(image, (x1 - view.x) * scale, (y1 - view.y) * scale, (x2 - x1) * scale, (y2 - y1) * scale);
  }
  const item = model.get("item");
  for (const box of model.get("boxes")) draw_box(context, view, box.points, STYLES[box.kind], labels ? box.label : "");
  draw_box(context, view, item.points, STYLES.candidate, labels ? item.object_class : "");
  draw_ticks(context, view, item.points);
}

function build(el) {
  const root = element("div", "obdb-review");
  root.tabIndex = 0;
  root.dataset.lmSuppressShortcuts = "true"; // JupyterLab leaves the keys alone inside
  const head = element("div", "obdb-review-head");
  const place = element("b", "obdb-place");
  const bar = element("div", "obdb-bar");
  const counts = element("span", "obdb-counts");
  const focus = element("span", "obdb-focus");
  head.append(place, bar, counts, focus);
  const main = element("div", "obdb-review-main");
  const stage = element("div", "obdb-stage");
  const canvas = element("canvas");
  const broken = element("div", "obdb-broken");
  stage.append(canvas, broken);
  const side = element("div", "obdb-side");
  const crop = element("canvas", "obdb-crop");
  const facts = element("div", "obdb-facts");
  const key = element("div", "obdb-key");
  for (const [kind, text] of [["candidate", "suggested box"], ["other", "other suggestions"], ["annotation", "annotated already"]]) {
    const row = element("div");
    row.append(element("span", `obdb-line obdb-line-${kind}`), element("span", "", text));
    key.append(row);
  }
  side.append(crop, facts, key);
  main.append(stage, side);
  const buttons = element("div", "obdb-buttons");
  const message = element("div", "obdb-message");
  message.setAttribute("role", "status");
  const help = element("div", "obdb-help");
  help.hidden = true;
  help.append(element("b", "", "Keys"));
  for (const [keys, text] of HELP) {
    const row = element("div");
    row.append(element("kbd", "", keys), element("span", "", text));
    help.append(row);
  }
  root.append(head, main, buttons, message, help);
  el.append(root);
  return { root, place, bar, counts, focus, main, stage, canvas, broken, crop, facts, buttons, message, help };
}

function draw_facts(model, facts, select) {
  const item = model.get("item");
  const rows = [
    ["Score", item.score === null || item.score === undefined ? "" : item.score.toFixed(2)],
    ["Task", item.task],
    ["Frame", item.frame === null || item.frame === undefined ? "" : String(item.frame)],
    ["Verdict", item.verdict ? `${item.verdict}${item.decided_class && item.decided_class !== item.object_class ? ` as ${item.decided_class}` : ""}` : "none yet"],
  ];
  const class_row = element("div");
  class_row.append(element("span", "obdb-fact", "Class"), select);
  facts.replaceChildren(class_row);
  for (const [name, value] of rows) {
    if (!value) continue;
    const row = element("div", `obdb-fact-${name.toLowerCase()}`);
    const text = element("span", "", value);
    text.title = name === "Task" || name === "Frame" ? item.path : "";
    row.append(element("span", "obdb-fact", name), text);
    facts.append(row);
  }
  select.replaceChildren(...model.get("classes").map((name) => new Option(name, name)));
  select.value = item.object_class;
}

function draw_head(model, parts) {
  const { total = 0, decided = 0, accepted = 0, rejected = 0, skipped = 0 } = model.get("progress");
  parts.place.textContent = total ? `Suggestion ${model.get("item").number} of ${total}` : "No suggestions";
  parts.bar.replaceChildren();
  for (const [name, count] of [["accepted", accepted], ["rejected", rejected], ["skipped", skipped]]) {
    const piece = element("span", `obdb-bar-${name}`);
    piece.style.width = `${total ? (100 * count) / total : 0}%`;
    parts.bar.append(piece);
  }
  const words = [`${accepted} accepted`, `${rejected} rejected`];
  if (skipped) words.push(`${skipped} skipped`);
  parts.counts.textContent = `${decided} of ${total} decided: ${words.join(", ")}`;
}

function render({ model, el }) {
  const parts = build(el);
  const { root } = parts;
  const select = element("select", "obdb-class");
  const view = { zoomed: false, pending: false, shown: null, frame: null, crop: null, run: 0 };

  const redraw = () => {
    if (!view.frame || !view.crop) return;
    const item = model.get("item");
    const [frame_width, frame_height] = model.get("frame_size");
    const rect = model.get("crop_rect");
    const room = Math.max(200, parts.main.clientWidth - SIDE - GAP);
    const fit = Math.min(room / frame_width, MAX_HEIGHT / frame_height);
    const [width, height] = [frame_width * fit, frame_height * fit];
    const [x1, y1, x2, y2] = item.points;
    const middle = [(x1 + x2) / 2, (y1 + y2) / 2];
    const longer = Math.max(x2 - x1, y2 - y1, 16);
    const layers = [[view.frame, [0, 0, frame_width, frame_height]], [view.crop, rect]];
    if (view.zoomed) {
      draw_scene(parts.canvas, width, height, layers, middle, height / (longer * ZOOM_SCALE), model, true);
    } else {
      draw_scene(parts.canvas, width, height, layers.slice(0, 1), [frame_width / 2, frame_height / 2], fit, model, true);
    }
    draw_scene(parts.crop, SIDE, SIDE, layers.slice(1), middle, SIDE / (longer * SIDE_SCALE), model, false);
  };

  const update = async () => {
    const run = ++view.run;
    const item = model.get("item");
    const empty = !item.id;
    root.classList.toggle("obdb-empty", empty);
    draw_head(model, parts);
    if (empty) return;
    const frame_bytes = model.get("picture");
    const [frame, crop] = await Promise.all([
      frame_bytes === view.frame_bytes ? view.frame : bitmap(frame_bytes),
      bitmap(model.get("crop")),
    ]);
    if (run !== view.run) return; // a newer state came while these pictures were decoded
    Object.assign(view, { frame, crop, frame_bytes });
    const error = model.get("frame_error");
    parts.broken.textContent = error;
    parts.broken.hidden = !error;
    root.classList.toggle("obdb-unseen", Boolean(error));
    parts.canvas.hidden = parts.crop.hidden = Boolean(error);
    draw_facts(model, parts.facts, select);
    redraw();
    view.shown = item.id;
    root.dataset.shown = item.id; // for tests: what a person can see now
  };

  const say = () => {
    const { kind = "info", text = "" } = model.get("message");
    parts.message.textContent = text;
    parts.message.className = `obdb-message obdb-message-${kind}`;
  };

  const unlock = () => {
    view.pending = false;
    root.classList.remove("obdb-busy");
    const waiting = view.waiting;
    view.waiting = null;
    // A key pressed while Python was still busy counts if the box it was pressed on is still the one on the screen.
    if (waiting && waiting.id === view.shown) act(waiting.name);
  };

  const act = (name) => {
    if (name === "help" || name === "close") {
      parts.help.hidden = name === "close" ? true : !parts.help.hidden;
    } else if (name === "zoom") {
      view.zoomed = !view.zoomed;
      root.classList.toggle("obdb-zoomed", view.zoomed);
      redraw();
    } else if (view.pending) {
      view.waiting = { name, id: view.shown };
    } else if (view.shown) {
      // A verdict on a box that is not on the screen yet is dropped: nobody has seen it.
      if (VERDICTS.includes(name) && view.shown !== model.get("item").id) return;
      view.pending = true;
      root.classList.add("obdb-busy");
      model.send({ act: name, id: view.shown, object_class: name === "accept" ? select.value : null });
    }
  };

  const on_key = (event) => {
    event.stopPropagation();
    if (event.ctrlKey || event.metaKey || event.altKey || event.target === select) return;
    const name = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!name) return;
    event.preventDefault();
    if (!event.repeat) act(name);
  };
  const on_click = (event) => {
    if (event.target !== select) root.focus({ preventScroll: true });
  };
  const on_focus = () => {
    const inside = root.contains(document.activeElement);
    root.classList.toggle("obdb-focused", inside);
    parts.focus.textContent = inside ? "keys on" : "click the picture to use keys";
  };

  for (const [name, sign, text, key] of BUTTONS) {
    const button = element("button", `obdb-button obdb-button-${name}`);
    button.type = "button";
    button.tabIndex = -1; // the focus stays on the widget, so that keys go on working
    button.append(element("span", "obdb-sign", sign), element("span", "", text));
    if (key !== sign) button.append(element("kbd", "", key));
    button.addEventListener("click", () => act(name));
    parts.buttons.append(button);
  }
  root.addEventListener("keydown", on_key);
  root.addEventListener("click", on_click);
  root.addEventListener("focusin", on_focus);
  root.addEventListener("focusout", () => requestAnimationFrame(on_focus));
  select.addEventListener("change", () => root.focus({ preventScroll: true }));
  const watcher = new ResizeObserver(redraw);
  watcher.observe(parts.main);
  const changes = "change:item change:boxes change:picture change:crop change:frame_error change:progress";
  // Traits of one step arrive together and fire one event each: draw once.
  let queued = false;
  const schedule = () => {
    if (queued) return;
    queued = true;
    queueMicrotask(() => {
      queued = false;
      update().catch((error) => {
        parts.message.textContent = `The picture could not be drawn: ${error}`;
        parts.message.className = "obdb-message obdb-message-error";
      });
    });
  };
  model.on(changes, schedule);
  model.on("change:message", say);
  model.on("change:turn", unlock);
  schedule();
  say();
  on_focus();
  return () => {
    watcher.disconnect();
    model.off(null, schedule);
    model.off(null, say);
    model.off(null, unlock);
  };
}

export default { render };
