// Legend of the point map, and a guard for its mouse.

const DRAG_PX = 6; // a mouse that went further than this between down and up was dragging, not clicking

function element(tag, name, text) {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (text !== undefined) node.textContent = text;
  return node;
}

const TAIL = 11; // characters at the end of a name that stay when its middle has to be cut

// Long names often differ at their end: where room is short, the middle goes. The whole name is in the tooltip.
function name_node(full, short = full) {
  const node = element("span", "obdb-label obdb-name");
  node.title = full;
  if (short.length > TAIL) node.append(element("span", "obdb-name-head", short.slice(0, -TAIL)));
  node.append(element("span", "obdb-name-tail", short.slice(-TAIL)));
  return node;
}

// jupyter-scatter takes a lasso that ends where it began for a click and then selects one point only.
// The click is stopped before it gets there; nothing else in the page is touched.
function guard_clicks(el) {
  let start = null;
  let travelled = 0;
  const on_map = (event) => {
    const map = el.closest(".obdb-cluster-map")?.querySelector(".obdb-map-canvas");
    return Boolean(map && map.contains(event.target) && event.target.tagName === "CANVAS");
  };
  const down = (event) => {
    start = on_map(event) ? [event.clientX, event.clientY] : null;
    travelled = 0;
  };
  const move = (event) => {
    if (!start) return;
    travelled = Math.max(travelled, Math.hypot(event.clientX - start[0], event.clientY - start[1]));
  };
  const click = (event) => {
    if (start && travelled > DRAG_PX && on_map(event)) event.stopPropagation();
    start = null;
  };
  document.addEventListener("mousedown", down, true);
  document.addEventListener("mousemove", move, true);
  document.addEventListener("click", click, true);
  return () => {
    document.removeEventListener("mousedown", down, true);
    document.removeEventListener("mousemove", move, true);
    document.removeEventListener("click", click, true);
  };
}

// jupyter-scatter drops colours that arrive while it is still drawing earlier ones. When several came close together,
// the last ones are given to it again once it is idle.
function redraw_guard(model, el) {
  let arrived = 0;
  const canvas = () => el.closest(".obdb-cluster-map")?.querySelector(".obdb-map-canvas canvas");
  const plot = () => {
    for (let node = canvas(); node; node = node.parentElement) if (node.api) return node.api;
    return null;
  };
  const frames = (count) => new Promise((done) => {
    const step = () => (count-- > 0 ? requestAnimationFrame(step) : done());
    step();
  });
  const idle = async () => {
    await frames(3);
    while (plot()?.get("isDrawing")) await frames(1);
  };
  const settle = async () => {
    await idle();
    while (arrived > 1) {
      arrived = 1;
      const map = await model.widget_manager.get_model(model.get("map_model"));
      map.trigger("change:points", map, map.get("points"));
      await idle();
    }
    arrived = 0;
    el.dataset.drawn = model.get("redrawn"); // for tests: whose colours are on the screen
  };
  return () => {
    arrived += 1;
    if (arrived === 1) settle();
  };
}

function draw_entries(model, list) {
  const entries = model.get("entries");
  const chosen = model.get("chosen");
  list.replaceChildren();
  if (model.get("continuous")) {
    const scale = element("div", "obdb-scale");
    scale.style.background = `linear-gradient(to right, ${entries.map((entry) => entry.colour).join(",")})`;
    const ends = element("div", "obdb-scale-ends");
    for (const entry of entries) ends.append(element("span", "", entry.label));
    list.append(scale, ends);
    return;
  }
  const head = element("div", "obdb-row obdb-head");
  head.append(element("span", "obdb-swatch-gap"), element("span", "obdb-label", ""));
  if (chosen.length) head.append(element("span", "obdb-count", "selected"));
  head.append(element("span", "obdb-count", model.get("filtered") ? "shown" : "all"));
  list.append(head);
  entries.forEach((entry, index) => {
    const row = element("div", "obdb-row");
    const swatch = element("span", "obdb-swatch");
    swatch.style.background = entry.colour;
    row.append(swatch, name_node(entry.label, entry.short));
    if (chosen.length) row.append(element("span", "obdb-count obdb-chosen", (chosen[index] || 0).toLocaleString("en")));
    row.append(element("span", "obdb-count", entry.count.toLocaleString("en")));
    list.append(row);
  });
}

function render({ model, el }) {
  el.classList.add("obdb-legend");
  const title = element("div", "obdb-title");
  const list = element("div", "obdb-entries");
  const note = element("div", "obdb-note");
  const hover = element("div", "obdb-hover");
  const picture = element("img");
  picture.alt = "";
  const text = element("div", "obdb-hover-text");
  hover.append(picture, text);
  el.append(title, list, note, hover);
  let url = null;

  const draw = () => {
    title.textContent = model.get("title");
    note.textContent = model.get("note");
    draw_entries(model, list);
  };
  const draw_hover = () => {
    if (url) URL.revokeObjectURL(url);
    const bytes = model.get("hover_picture");
    url = bytes && bytes.byteLength ? URL.createObjectURL(new Blob([bytes])) : null;
    picture.hidden = !url;
    if (url) picture.src = url;
    text.textContent = model.get("hover_text") || "Point at a dot to see it here.";
  };
  draw();
  draw_hover();
  model.on("change:title change:entries change:continuous change:note change:chosen change:filtered", draw);
  model.on("change:hover_picture change:hover_text", draw_hover);
  const release = guard_clicks(el);
  const redrawn = redraw_guard(model, el);
  model.on("change:redrawn", redrawn);
  return () => {
    release();
    model.off(null, redrawn);
    model.off(null, draw);
    model.off(null, draw_hover);
    if (url) URL.revokeObjectURL(url);
  };
}

export default { render };
