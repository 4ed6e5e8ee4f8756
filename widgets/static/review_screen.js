// Review of suggested boxes, part 5 of 7: puts on the screen what Python wrote into the traits.

const ONLY = { frame: ["previous", "next", "zoom", "edit", "grid"], grid: ["accept_page", "frame"] };
const MAX_HEIGHT = 440; // CSS px, so that picture and buttons fit a screen of 800
const SIDE = 250; // width of the column beside the frame
const CROP = 190;
const GAP = 12;
const SIDE_SCALE = 2.2; // the picture beside shows this many box sides

// `page` is what the parts of one view share: model, nodes, changes not decided on yet, frame and grid.
function make_screen(page) {
  const { model, parts, root, select, drafts, local, draft_of, in_grid, outstanding, viewer, grid } = page;
  const here = () => (in_grid() ? grid.cursor : local.shown);
  const draw_crop = () => {
    const item = model.get("item"), [image, rect] = viewer.state.layers[1] || [];
    if (!image) return;
    const { points } = made_of(item, draft_of(item.id)), [x1, y1, x2, y2] = points;
    const scale = CROP / (Math.max(x2 - x1, y2 - y1, 16) * SIDE_SCALE);
    const view = { x: (x1 + x2) / 2 - CROP / 2 / scale, y: (y1 + y2) / 2 - CROP / 2 / scale, scale, width: CROP, height: CROP };
    const context = size_canvas(parts.crop, CROP, CROP);
    context.fillStyle = "#2b2b2b";
    context.fillRect(0, 0, CROP, CROP);
    draw_layer(context, view, image, rect);
    draw_box(context, view, points, STYLES.candidate, "");
    draw_ticks(context, view, points);
    if (item.kind === "spurious") draw_cross(context, view, points);
  };
  const draw_item = () => {
    const item = model.get("item"), draft = draft_of(item.id);
    draw_facts(model, parts.facts, select, draft);
    const { points, object_class: name } = made_of(item, draft), edited = !same_box(points, item.points);
    viewer.state.label = item.kind === "spurious" ? `${name}: to be removed` : `${name}${edited ? " (edited)" : ""}`;
    viewer.state.points = edited ? points : null;
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
  const resettable = () => {
    const item = in_grid() ? grid.records[grid.position()] : model.get("item");
    return drafts.has(here()) || Boolean(item?.id && accepted_changed(item));
  };
  const show_buttons = () => {
    for (const button of parts.buttons.children) {
      const name = button.dataset.act;
      button.hidden = name === "reset" ? !resettable() : ONLY[in_grid() ? "frame" : "grid"].includes(name);
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
  // The queue is empty, or nothing in it is of the kind and class chosen: nothing to see, nothing to decide.
  const nothing = () => {
    local.run += 1;
    local.shown = null;
    Object.assign(viewer.state, { editing: false, item: null });
    root.dataset.shown = root.dataset.cursor = "";
    parts.grid.hidden = parts.main.hidden = true;
    if (!outstanding()) grid.saved();
    grid.show([], []);
    show_buttons();
  };
  const update = async () => {
    const item = model.get("item"), { total = 0 } = model.get("progress");
    root.classList.toggle("obdb-empty", !total);
    root.classList.toggle("obdb-none", !item.id);
    root.dataset.view = model.get("view");
    draw_head(model, parts);
    draw_menus(model, parts.menus);
    if (!item.id) {
      nothing();
      return;
    }
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
  const tell = (text, kind = "info") => {
    parts.message.textContent = text;
    parts.message.className = `obdb-message obdb-message-${kind}`;
  };
  return { update, draw_item, draw_cursor, fit, say, tell, here };
}
