// Review of suggested boxes, part 7 of 7: keys, mouse and the way from and to Python. Zoom, pan, cursor and changes that
// are not decided on yet live in the page only.

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
const EDIT_STEP = 2; // of a box, CSS px
const PAN_STEP = 60; // of the picture, CSS px
const SILENT_MS = 5000; // no answer for this long is told; verdicts wait until there is one

function render({ model, el }) {
  const parts = build(el);
  const { root } = parts;
  const select = element("select", "obdb-class");
  const drafts = new Map(); // id -> { points, object_class } as far as changed
  const local = { shown: null, run: 0, waiting: null, pending: false, sent: 0, from_grid: false, confirm: null, silent: false };
  const draft_of = (id) => drafts.get(id) || {};
  const set_draft = (id, change) => {
    const draft = { ...draft_of(id), ...change };
    for (const name of Object.keys(draft)) if (!draft[name]) delete draft[name];
    if (Object.keys(draft).length) drafts.set(id, draft);
    else drafts.delete(id);
  };
  const in_grid = () => model.get("view") === "grid";
  const focus = () => root.focus({ preventScroll: true });

  const page = { model, parts, root, select, drafts, local, draft_of, set_draft, in_grid };
  const viewer = frame_view(parts.canvas, {
    region: (rect, width) => model.send({ act: "region", id: local.shown, rect, width }),
    edited: (points) => {
      set_draft(local.shown, { points });
      page.draw_item();
    },
  });
  const grid = grid_view(parts.grid, {
    draft: draft_of,
    ask: (ids, soon) => model.send({ act: "tiles", ids, soon }),
    select: (id) => { grid.point(id, false); page.draw_cursor(); },
    open: (id) => { grid.point(id); page.act("frame"); },
    decide: (verdict, id) => { grid.point(id, false); page.act(verdict); },
  });

  const send = (name, content = {}) => {
    local.sent = Math.max(local.sent, model.get("answered")) + 1;
    try {
      model.send({ act: name, tag: local.sent, ...content });
    } catch (error) { // a kernel that was restarted does not know this page
      console.error(error);
      page.fall_silent();
    }
    if (!local.clock) local.clock = setTimeout(page.fall_silent, SILENT_MS);
  };
  const outstanding = () => model.get("answered") < local.sent;
  const change_of = (record) => {
    const { points, object_class } = made_of(record, draft_of(record.id));
    return { id: record.id, seen: record.entry, object_class, points: same_box(points, record.points) ? null : points };
  };
  Object.assign(page, { viewer, grid, send, outstanding, change_of });
  Object.assign(page, make_screen(page));
  Object.assign(page, make_acts(page));
  const { act, unlock, relabel, answered, update, say, fit } = page;

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
    if (event.target.tagName === "SELECT" && event.key === "Escape") focus();
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "SELECT") return;
    // Letters by Shift, not by their case: with Caps Lock on, u is still u.
    const lower = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const key = /^[a-z]$/.test(lower) && event.shiftKey ? lower.toUpperCase() : lower;
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
  page.schedule = schedule;
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
    clearTimeout(local.clock);
    grid.end();
    model.off(null, schedule);
    model.off(null, say);
    model.off(null, unlock);
    model.off("msg:custom", on_custom);
  };
}

export default { render };
