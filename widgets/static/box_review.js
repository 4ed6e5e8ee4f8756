// Review of suggested boxes, part 5 of 5: draws what Python put into the traits, sends acts back. Zoom, pan, cursor and
// changes that are not decided on yet live here only.

const KEYS = {
  a: "accept", r: "reject", s: "skip", u: "undo", U: "redo", x: "reset", g: "toggle", "?": "help", Escape: "close",
};
const FRAME_KEYS = {
  n: "next", ArrowRight: "next", p: "previous", ArrowLeft: "previous", z: "zoom", e: "edit",
  "+": "closer", "=": "closer", "-": "farther", 0: "whole",
};
const GRID_KEYS = {
  ArrowRight: "right", ArrowLeft: "left", ArrowDown: "down", ArrowUp: "up", Home: "first", End: "last",
  n: "next_page", PageDown: "next_page", p: "previous_page", PageUp: "previous_page", Enter: "frame",
};
const ARROWS = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };
const VERDICTS = ["accept", "reject", "skip"];
const ONLY = { frame: ["previous", "next", "zoom", "edit", "grid"], grid: ["accept_page", "frame"] };
const MAX_HEIGHT = 440; // CSS px, so that picture and buttons fit a screen of 800
const SIDE = 250; // width of the column beside the frame
const CROP = 190;
const GAP = 12;
const SIDE_SCALE = 2.2; // the picture beside shows this many box sides
const EDIT_STEP = 2; // of a box, CSS px
const PAN_STEP = 60; // of the picture, CSS px

function render({ model, el }) {
  const parts = build(el);
  const { root } = parts;
  const select = element("select", "obdb-class");
  const drafts = new Map(); // id -> { points, object_class } as far as changed
  const local = { shown: null, run: 0, waiting: null, pending: false, sent: 0, from_grid: false, confirm: null };
  const draft_of = (id) => drafts.get(id) || {};
  const set_draft = (id, change) => {
    const draft = { ...draft_of(id), ...change };
    for (const name of Object.keys(draft)) if (!draft[name]) delete draft[name];
    if (Object.keys(draft).length) drafts.set(id, draft);
    else drafts.delete(id);
  };
  const in_grid = () => model.get("view") === "grid";
  const focus = () => root.focus({ preventScroll: true });

  const viewer = frame_view(parts.canvas, {
    region: (rect, width) => model.send({ act: "region", id: local.shown, rect, width }),
    edited: (points) => {
      set_draft(local.shown, { points });
      draw_item();
    },
  });
  const grid = grid_view(parts.grid, {
    draft: draft_of,
    ask: (ids, soon) => model.send({ act: "tiles", ids, soon }),
    select: (id) => { grid.point(id, false); draw_cursor(); },
    open: (id) => { grid.point(id); act("frame"); },
    decide: (verdict, id) => { grid.point(id, false); act(verdict); },
  });

  const send = (name, content = {}) => {
    local.sent = Math.max(local.sent, model.get("answered")) + 1;
    model.send({ act: name, tag: local.sent, ...content });
  };
  const outstanding = () => model.get("answered") < local.sent;
  const change_of = (record) => {
    const draft = draft_of(record.id);
    return { id: record.id, seen: record.entry, object_class: draft.object_class || null, points: draft.points || null };
  };

  // -- drawing ------------------------------------------------------------------------------------------------------

  const draw_crop = () => {
    const item = model.get("item"), [image, rect] = viewer.state.layers[1] || [];
    if (!image) return;
    const points = draft_of(item.id).points || item.points, [x1, y1, x2, y2] = points;
    const scale = CROP / (Math.max(x2 - x1, y2 - y1, 16) * SIDE_SCALE);
    const view = { x: (x1 + x2) / 2 - CROP / 2 / scale, y: (y1 + y2) / 2 - CROP / 2 / scale, scale, width: CROP, height: CROP };
    const context = size_canvas(parts.crop, CROP, CROP);
    context.fillStyle = "#2b2b2b";
    context.fillRect(0, 0, CROP, CROP);
    draw_layer(context, view, image, rect);
    draw_box(context, view, points, STYLES.candidate, "");
    draw_ticks(context, view, points);
  };
  const draw_item = () => {
    const item = model.get("item"), draft = draft_of(item.id);
    draw_facts(model, parts.facts, select, draft);
    const name = draft.object_class || item.object_class;
    viewer.state.label = item.kind === "spurious" ? `${name}: to be removed` : `${name}${draft.points ? " (edited)" : ""}`;
    viewer.state.points = draft.points || null;
    root.classList.toggle("obdb-edited", Boolean(draft.points || draft.object_class));
    root.classList.toggle("obdb-editing", viewer.state.editing);
    show_buttons();
    const kinds = new Set(["candidate", "annotation", ...model.get("boxes").map((box) => box.kind)]);
    for (const [kind] of LEGEND) parts.key.querySelector(`.obdb-key-${kind}`).hidden = !kinds.has(kind);
    viewer.redraw();
    draw_crop();
  };
  const fit = () => {
    const [width, height] = model.get("frame_size");
    if (in_grid() || !width) return;
    const scale = Math.min(Math.max(200, parts.main.clientWidth - SIDE - GAP) / width, MAX_HEIGHT / height);
    viewer.resize(width * scale, height * scale);
  };
  const update_frame = async (item) => {
    const run = ++local.run, frame_bytes = model.get("picture");
    const [frame, crop] = await Promise.all([
      frame_bytes === local.frame_bytes ? local.frame : bitmap(frame_bytes), bitmap(model.get("crop")),
    ]);
    if (run !== local.run) return; // a newer state came while these pictures were decoded
    Object.assign(local, { frame, frame_bytes });
    const error = model.get("frame_error"), state = viewer.state;
    parts.broken.textContent = error;
    parts.broken.hidden = !error;
    root.classList.toggle("obdb-unseen", Boolean(error));
    parts.canvas.hidden = parts.crop.hidden = Boolean(error);
    const another = local.shown !== item.id, size = model.get("frame_size");
    if (another) state.editing = false;
    const region = !another || state.path === item.path ? state.layers.slice(2) : [];
    const layers = frame && crop ? [[frame, [0, 0, ...size]], [crop, model.get("crop_rect")], ...region] : [];
    Object.assign(state, { item, layers, boxes: model.get("boxes"), frame: size, path: item.path });
    local.shown = item.id;
    fit();
    draw_item();
    if (another) viewer.home();
    root.dataset.shown = item.id; // for tests: what a person can see now
  };
  const show_buttons = () => {
    for (const button of parts.buttons.children) {
      const name = button.dataset.act;
      button.hidden = name === "reset" ? !drafts.has(here()) : ONLY[in_grid() ? "frame" : "grid"].includes(name);
    }
  };
  const draw_cursor = () => {
    show_buttons();
    root.dataset.cursor = grid.cursor;
    const record = grid.records[grid.position()];
    parts.grid.title = "";
    if (!record) return;
    const edited = draft_of(record.id).object_class ? ` as ${draft_of(record.id).object_class}` : "";
    parts.focus.title = `${record.words}${edited}`;
  };
  const update = async () => {
    const item = model.get("item"), empty = !item.id;
    root.classList.toggle("obdb-empty", empty);
    root.dataset.view = model.get("view");
    draw_head(model, parts);
    draw_menus(model, parts.menus);
    if (empty) return;
    parts.grid.hidden = !in_grid();
    parts.main.hidden = in_grid();
    show_buttons();
    if (!in_grid()) {
      await update_frame(item);
      return;
    }
    local.run += 1;
    local.shown = null;
    root.dataset.shown = "";
    if (!outstanding()) grid.saved();
    grid.show(model.get("tiles"), model.get("soon"));
    const lost = grid.position() < 0;
    if (!outstanding() || lost) grid.point(item.id);
    draw_cursor();
  };
  const say = () => {
    const { kind = "info", text = "" } = model.get("message");
    parts.message.textContent = text;
    parts.message.className = `obdb-message obdb-message-${kind}`;
  };
  const tell = (text) => {
    parts.message.textContent = text;
    parts.message.className = "obdb-message obdb-message-info";
  };

  // -- acts ---------------------------------------------------------------------------------------------------------

  const unlock = () => {
    if (outstanding()) return;
    local.pending = false;
    root.classList.remove("obdb-busy");
    schedule();
    const waiting = local.waiting;
    local.waiting = null;
    // A key pressed while Python was still busy counts if the box it was pressed on is still the one on the screen.
    if (waiting && waiting.id === local.shown) act(waiting.name);
  };
  const ask = (question, then) => {
    local.confirm = then;
    const yes = element("button", "obdb-button obdb-yes", "Yes (Enter)"), no = element("button", "obdb-button obdb-no", "No (Esc)");
    for (const [button, answer] of [[yes, true], [no, false]]) {
      button.type = "button";
      button.tabIndex = -1;
      button.addEventListener("click", () => answered(answer));
    }
    parts.confirm.replaceChildren(element("span", "", question), yes, no);
    parts.confirm.hidden = false;
  };
  const answered = (yes) => {
    const then = local.confirm;
    local.confirm = null;
    parts.confirm.hidden = true;
    if (yes && then) then();
  };
  const accept_page = () => {
    const open = grid.records.filter((record) => !record.verdict);
    const ready = open.filter((record) => grid.seen(record.id));
    if (!open.length) tell("Everything on this page has a verdict.");
    else if (ready.length < open.length) tell("Not all crops of this page are here yet; wait a moment.");
    else {
      ask(`Accept all ${open.length} on this page that have no verdict?`, () => {
        for (const record of open) grid.mark(record.id);
        send("accept_page", { items: open.map(change_of) });
      });
    }
  };
  const grid_verdict = (name) => {
    const record = grid.records[grid.position()];
    if (!record) return;
    if (!grid.seen(record.id)) {
      tell("The crop is not here yet; nobody can judge it unseen.");
      return;
    }
    send(name, change_of(record));
    grid.mark(record.id);
    const following = grid.next_open();
    if (following) grid.point(following);
    draw_cursor();
  };
  const move = (name) => {
    const count = grid.records.length, at = grid.position(), wide = grid.columns();
    const steps = { right: 1, left: -1, down: wide, up: -wide, first: -at, last: count - 1 - at };
    const to = at + steps[name];
    if (to >= 0 && to < count) grid.point(grid.records[to].id);
    else if (to >= count && name !== "last") act("next_page");
    else if (to < 0 && model.get("page") > 0) act("previous_page");
    draw_cursor();
  };
  const in_frame = {
    zoom: () => {
      viewer.toggle_zoom();
      root.classList.toggle("obdb-zoomed", viewer.state.zoomed);
    },
    closer: () => viewer.zoom(viewer.ZOOM_STEP),
    farther: () => viewer.zoom(1 / viewer.ZOOM_STEP),
    whole: () => {
      viewer.state.zoomed = false;
      root.classList.remove("obdb-zoomed");
      viewer.home();
    },
    edit: () => {
      if (!local.shown || model.get("frame_error")) return;
      if (model.get("item").kind === "spurious") {
        tell("There is no box to change here: accept removes the annotation, reject keeps it.");
        return;
      }
      viewer.state.editing = !viewer.state.editing;
      draw_item();
      tell(viewer.state.editing ? "Editing the box: drag it or its handles; arrows move it, with Shift they resize it; e ends." : "");
    },
  };
  const here = () => (in_grid() ? grid.cursor : local.shown);
  const redraw_change = () => {
    if (in_grid()) {
      grid.draw();
      draw_cursor();
    } else draw_item();
  };
  const relabel = (name) => {
    const item = in_grid() ? grid.records[grid.position()] : model.get("item");
    if (!item || !name) return;
    set_draft(item.id, { object_class: name === item.object_class ? null : name });
    redraw_change();
  };
  const close = () => {
    if (!parts.help.hidden) parts.help.hidden = true;
    else if (local.confirm) answered(false);
    else if (!in_grid() && viewer.state.editing) in_frame.edit();
    else if (!in_grid() && local.from_grid) act("grid");
  };
  const act = (name) => {
    if (name === "help") parts.help.hidden = !parts.help.hidden;
    else if (name === "close") close();
    else if (local.confirm) tell("Answer first: Enter for yes, Esc for no.");
    else if (name === "toggle") act(in_grid() ? "frame" : "grid");
    else if (name === "reset") {
      drafts.delete(here());
      redraw_change();
    } else if (in_grid()) act_grid(name);
    else act_frame(name);
  };
  const act_grid = (name) => {
    if (VERDICTS.includes(name)) grid_verdict(name);
    else if (name === "accept_page") accept_page();
    else if (name === "next_page" || name === "previous_page") {
      const page = model.get("page") + (name === "next_page" ? 1 : -1);
      if (page >= 0 && page < model.get("pages")) send("page", { page });
    } else if (name === "frame") {
      local.from_grid = true;
      send("frame", { id: grid.cursor });
    } else if (name === "undo" || name === "redo") send(name);
    else if (name in { right: 1, left: 1, down: 1, up: 1, first: 1, last: 1 }) move(name);
  };
  const act_frame = (name) => {
    if (name in in_frame) in_frame[name]();
    else if (local.pending) local.waiting = { name, id: local.shown };
    else if (local.shown) {
      const item = model.get("item");
      // A verdict on a box that is not on the screen yet is dropped: nobody has seen it.
      if (VERDICTS.includes(name) && local.shown !== item.id) return;
      local.pending = true;
      root.classList.add("obdb-busy");
      send(name, VERDICTS.includes(name) ? change_of(item) : { id: local.shown });
    }
  };

  // -- keys and mouse -----------------------------------------------------------------------------------------------

  const arrow = (event) => {
    const direction = ARROWS[event.key];
    if (!direction || in_grid()) return false;
    const [dx, dy] = direction;
    if (viewer.state.editing) {
      const edges = dx ? "e" : "s";
      viewer.change(event.shiftKey ? edges : "move", dx * EDIT_STEP, dy * EDIT_STEP);
    } else if (event.shiftKey) viewer.pan(-dx * PAN_STEP, -dy * PAN_STEP);
    else return false;
    return true;
  };
  const on_key = (event) => {
    event.stopPropagation();
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "SELECT") return;
    const { key } = event, lower = key.length === 1 ? key.toLowerCase() : key;
    const table = { ...KEYS, ...(in_grid() ? GRID_KEYS : FRAME_KEYS) };
    const name = event.shiftKey && key === "Enter" ? (in_grid() ? "accept_page" : null) : table[key] || table[lower];
    const digit = /^[1-9]$/.test(key) ? model.get("classes")[Number(key) - 1] : null;
    if (!name && !digit && !ARROWS[key] && key !== "Enter") return;
    event.preventDefault();
    if (local.confirm && key === "Enter") {
      if (!event.repeat) answered(true);
    } else if (arrow(event)) return;
    else if (digit) relabel(digit);
    else if (name && (!event.repeat || ["right", "left", "down", "up"].includes(name))) act(name);
  };
  const on_click = (event) => {
    if (event.target.tagName !== "SELECT" && event.target.tagName !== "OPTION") focus();
  };
  const on_focus = () => {
    const inside = root.contains(document.activeElement);
    root.classList.toggle("obdb-focused", inside);
    parts.focus.textContent = inside ? "keys on" : "click the picture to use keys";
  };
  const on_wheel = (event) => {
    if (!root.classList.contains("obdb-focused")) return; // the page scrolls until the widget was clicked
    event.preventDefault();
    const bounds = parts.canvas.getBoundingClientRect();
    viewer.zoom(Math.exp(-event.deltaY / 400), event.clientX - bounds.left, event.clientY - bounds.top);
  };
  for (const [name, sign, text, key] of BUTTONS) {
    const button = element("button", `obdb-button obdb-button-${name}`);
    button.type = "button";
    button.dataset.act = name;
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
  parts.canvas.addEventListener("wheel", on_wheel, { passive: false });
  select.addEventListener("change", () => {
    relabel(select.value);
    focus();
  });
  for (const [name, menu] of Object.entries(parts.menus)) {
    menu.addEventListener("change", () => {
      model.set(name, menu.value);
      model.save_changes();
      focus();
    });
  }
  const watcher = new ResizeObserver(() => {
    fit();
    if (!in_grid() && viewer.state.item) viewer.redraw();
  });
  watcher.observe(parts.main);

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
  const on_custom = async (content, buffers) => {
    if (content.kind === "tiles") grid.arrived(content.tiles, buffers);
    else if (content.kind === "region" && content.path === viewer.state.path) {
      const image = await bitmap(buffers[0]);
      if (image && content.path === viewer.state.path && !in_grid()) viewer.sharpened(image, content.rect);
    }
  };
  const names = ["item", "boxes", "picture", "crop", "frame_error", "progress", "outlook", "view", "tiles", "page", "pages", "menus"];
  model.on(names.map((name) => `change:${name}`).join(" "), schedule);
  model.on("change:message", say);
  model.on("change:turn", unlock);
  model.on("msg:custom", on_custom);
  root.obdb = { viewer }; // for the benchmark: how often the frame was drawn
  schedule();
  say();
  on_focus();
  return () => {
    watcher.disconnect();
    grid.end();
    model.off(null, schedule);
    model.off(null, say);
    model.off(null, unlock);
    model.off("msg:custom", on_custom);
  };
}

export default { render };
