// Buttons and keys that edit the split. The keys work anywhere in the explorer once it has the focus; help lives here only.

const HELP = [
  ["t", "put the selected frames and their groups into train"], ["v", "into val"], ["e", "into test"],
  ["x", "leave the selected frames out, alone: a bad frame says nothing about its group"],
  ["b", "back to where the builder had put them, with their groups"],
  ["u", "undo"], ["y", "redo (Shift+U does the same)"], ["Esc", "select nothing"], ["?", "this help"],
];
const STEPS = [
  "Colour the points by class, cluster or split; Show hides what you do not need.",
  "Drag around points. The crops below the map show what you caught.",
  "Press a key. Whole frames move, and what belongs together moves together; only x takes the selected frames alone.",
  "Read the panel: each bar is a class's share in val, the line is what you wanted. Leaks should stay 0 %.",
  "Save. Notebook 03 trains on the saved split.",
];
const FOCUS_TRIES = 600; // frames to wait for this view to stand in the page

function element(tag, name, text) {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (text !== undefined) node.textContent = text;
  return node;
}

function act_button(name, label, key, colour) {
  const node = element("button", `obdb-act obdb-act-${name}`);
  node.type = "button";
  node.tabIndex = -1; // the focus stays on the explorer, so that keys go on working
  if (colour) {
    const dot = element("span", "obdb-swatch");
    dot.style.background = colour;
    node.append(dot);
  }
  node.append(element("span", "", label));
  if (key) node.append(element("kbd", "", key));
  return node;
}

function build(model, el, act) {
  el.classList.add("obdb-split-bar");
  const buttons = element("div", "obdb-acts");
  const parts = { el, buttons, by_name: {} };
  const add = (name, label, key, colour = "", help = "") => {
    const node = act_button(name, label, key, colour);
    node.title = help;
    node.addEventListener("click", () => act(name));
    parts.by_name[name] = node;
    buttons.append(node);
  };
  buttons.append(element("span", "obdb-acts-title", "Put into"));
  for (const part of model.get("parts")) add(part.name, part.label, part.key, part.colour, part.help);
  buttons.append(element("span", "obdb-gap"));
  add("undo", "undo", "u");
  add("redo", "redo", "y");
  buttons.append(element("span", "obdb-gap"));
  parts.whole = element("label", "obdb-whole");
  parts.whole_box = element("input");
  parts.whole_box.type = "checkbox";
  parts.whole_box.tabIndex = -1;
  parts.whole.append(parts.whole_box, element("span", "", "keep groups whole"));
  parts.whole.title = "An edit of a frame takes its whole group (video, near duplicates ...) along, so that no edit can make a leak. Excluding takes none along.";
  parts.unsaved = element("span", "obdb-unsaved");
  buttons.append(parts.whole, element("span", "obdb-push"));
  add("save", "Save split", "");
  add("help", "?", "");
  const line = element("div", "obdb-split-line");
  parts.selection = element("span", "obdb-selection");
  parts.message = element("span", "obdb-split-message");
  parts.message.setAttribute("role", "status");
  parts.focus = element("span", "obdb-keys-on");
  const right = element("span", "obdb-line-right");
  right.append(parts.unsaved, parts.focus);
  line.append(parts.selection, right);
  const news = element("div", "obdb-split-news");
  news.append(parts.message);
  parts.help = element("div", "obdb-split-help");
  parts.help.hidden = true;
  const steps = element("ol");
  for (const text of STEPS) steps.append(element("li", "", text));
  const keys = element("div", "obdb-split-keys");
  for (const [key, text] of HELP) keys.append(element("kbd", "", key), element("span", "", text));
  parts.help.append(element("b", "", "How to choose a split here"), steps, keys, element("div", "obdb-note", "? or Esc closes this"));
  el.append(buttons, line, news, parts.help);
  return parts;
}

// The explorer as a whole takes the focus: its element stands around this view, but only once both are in the page.
async function explorer_of(el) {
  for (let tries = 0; tries < FOCUS_TRIES; tries += 1) {
    const root = el.closest(".obdb-split-explorer");
    if (root) return root;
    await new Promise((done) => requestAnimationFrame(done));
  }
  return null;
}

function take_focus(root, on_key, on_focus) {
  root.tabIndex = -1;
  root.dataset.lmSuppressShortcuts = "true"; // JupyterLab leaves the keys alone inside
  const typing = (target) => target.closest("select, textarea, .obdb-filter-search");
  let inside = false;
  const focus = () => {
    if (!root.contains(document.activeElement) || !typing(document.activeElement)) root.focus({ preventScroll: true });
  };
  const down = (event) => {
    inside = root.contains(event.target) && !typing(event.target);
  };
  // A lasso may end outside the map, and its click is kept from the map: the mouse-up is what both have.
  const up = () => {
    if (inside) requestAnimationFrame(focus);
    inside = false;
  };
  const change = (event) => {
    if (event.target.matches("select, input[type=checkbox]")) focus();
  };
  const key = (event) => {
    if (!typing(event.target)) on_key(event);
  };
  const moved = () => requestAnimationFrame(() => on_focus(root.contains(document.activeElement)));
  document.addEventListener("pointerdown", down, true);
  document.addEventListener("pointerup", up, true);
  const own = { keydown: key, change, focusin: moved, focusout: moved };
  for (const [name, handler] of Object.entries(own)) root.addEventListener(name, handler);
  return () => {
    document.removeEventListener("pointerdown", down, true);
    document.removeEventListener("pointerup", up, true);
    for (const [name, handler] of Object.entries(own)) root.removeEventListener(name, handler);
  };
}

function render({ model, el }) {
  let parts;
  let release = null;
  let gone = false;
  const waiting = []; // acts made while Python is at work on an earlier one
  let busy = false;

  const send = (name) => {
    busy = true;
    el.classList.add("obdb-busy");
    model.send({ act: name });
  };
  const act = (name) => {
    if (name === "help" || name === "close") {
      parts.help.hidden = name === "close" ? true : !parts.help.hidden;
    } else if (busy) {
      waiting.push(name);
    } else {
      send(name);
    }
  };
  const done = () => {
    busy = false;
    el.classList.remove("obdb-busy");
    if (waiting.length) send(waiting.shift());
  };

  const keys = { u: "undo", y: "redo", "?": "help" };
  for (const part of model.get("parts")) keys[part.key] = part.name;
  const on_key = (event) => {
    event.stopPropagation();
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    let name = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (event.shiftKey && name === "undo") name = "redo";
    if (event.key === "Escape") name = parts.help.hidden ? "clear" : "close";
    if (!name) return;
    event.preventDefault();
    if (!event.repeat) act(name);
  };
  const on_focus = (inside) => {
    parts.focus.textContent = inside ? "keys on" : "click the map to use keys";
    parts.focus.classList.toggle("obdb-on", inside);
  };

  const draw = () => {
    const ready = model.get("ready");
    for (const part of model.get("parts")) parts.by_name[part.name].disabled = !ready;
    parts.by_name.undo.disabled = !model.get("can_undo");
    parts.by_name.redo.disabled = !model.get("can_redo");
    parts.by_name.save.disabled = !model.get("can_save");
    parts.whole.hidden = !model.get("has_groups");
    parts.whole_box.checked = model.get("keep_whole");
    parts.selection.textContent = model.get("selection");
    parts.selection.title = model.get("selection"); // where it is too long for its line
    parts.unsaved.textContent = model.get("unsaved");
    const { kind = "info", text = "" } = model.get("message");
    parts.message.textContent = text;
    parts.message.title = text;
    parts.message.className = `obdb-split-message obdb-split-${kind}`;
    el.dataset.turn = model.get("turn"); // for tests
  };
  parts = build(model, el, act);
  parts.whole_box.addEventListener("change", () => {
    model.set("keep_whole", parts.whole_box.checked);
    model.save_changes();
  });
  on_focus(false);
  draw();
  explorer_of(el).then((root) => {
    if (root && !gone) release = take_focus(root, on_key, on_focus);
  });
  const traits = ["selection", "ready", "can_undo", "can_redo", "can_save", "has_groups", "keep_whole", "unsaved", "message", "turn"];
  model.on(traits.map((name) => `change:${name}`).join(" "), draw);
  model.on("change:turn", done);
  return () => {
    gone = true;
    if (release) release();
    model.off(null, draw);
    model.off(null, done);
  };
}

export default { render };
