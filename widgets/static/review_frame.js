// Review of suggested boxes, part 2 of 7: one suggestion on its frame, with zoom, pan and a box that can be changed.

const ZOOM_SCALE = 3; // the zoomed picture shows this many box sides
const ZOOM_STEP = 1.3;
const MOST_SCALE = 16; // CSS px of one pixel of the frame
const REST_MS = 150; // a view that rests this long is worth its full resolution
const REACH = 11; // a handle is caught from this far, CSS px
const LEAST_SIDE = 2; // of a box, frame px
const BELOW = { detection: 1, concerned: 1 }; // their labels stand under the box
const CURSORS = { n: "ns-resize", s: "ns-resize", e: "ew-resize", w: "ew-resize", nw: "nwse-resize", se: "nwse-resize", ne: "nesw-resize", sw: "nesw-resize", move: "move" };

// `hooks`: region(rect, width) asks for a part in full resolution, edited(points) tells of a changed box.
function frame_view(canvas, hooks) {
  const view = { x: 0, y: 0, scale: 1, width: 1, height: 1 };
  const state = { zoomed: false, editing: false, frame: [0, 0], layers: [], boxes: [], item: null, points: null };
  let wanted = false, rest = 0, drag = null;
  const stats = { draws: 0 }; // for the benchmark

  const smallest = () => Math.min(view.width / state.frame[0], view.height / state.frame[1]);
  const clamp = () => {
    view.scale = Math.min(Math.max(view.scale, smallest()), MOST_SCALE);
    for (const [axis, side, whole] of [["x", view.width, state.frame[0]], ["y", view.height, state.frame[1]]]) {
      const most = whole - side / view.scale;
      view[axis] = most <= 0 ? most / 2 : Math.min(Math.max(view[axis], 0), most);
    }
  };
  const candidate = () => state.points || state.item.points;

  const draw = () => {
    wanted = false;
    if (!state.item || !state.layers.length) return;
    const context = size_canvas(canvas, view.width, view.height);
    const [wide, high] = state.frame;
    if (wide * view.scale < view.width - 1 || high * view.scale < view.height - 1) {
      context.fillStyle = "#2b2b2b";
      context.fillRect(0, 0, view.width, view.height);
    }
    for (const [image, rect] of state.layers) draw_layer(context, view, image, rect);
    for (const box of state.boxes) {
      draw_box(context, view, box.points, STYLES[box.kind], box.label, box.kind in BELOW);
    }
    if (state.points) draw_box(context, view, state.item.points, STYLES.proposed, "");
    const shown = candidate();
    draw_box(context, view, shown, STYLES.candidate, state.label);
    draw_ticks(context, view, shown);
    if (state.item.kind === "spurious") draw_cross(context, view, shown);
    if (state.editing) draw_handles(context, view, shown);
    stats.draws += 1;
    canvas.dataset.view = [view.x, view.y, view.scale].map((value) => value.toFixed(3)).join(" "); // for tests
  };
  const redraw = () => {
    if (!wanted) requestAnimationFrame(draw);
    wanted = true;
    clearTimeout(rest);
    rest = setTimeout(sharpen, REST_MS);
  };
  // Full resolution of what is on the screen, when the pictures that are here have less and do not cover it.
  const sharpen = () => {
    if (!state.item || !state.layers.length || canvas.hidden || !canvas.isConnected) return;
    const [wide, high] = state.frame, ratio = window.devicePixelRatio || 1;
    const rect = [
      Math.max(view.x, 0), Math.max(view.y, 0),
      Math.min(view.x + view.width / view.scale, wide), Math.min(view.y + view.height / view.scale, high),
    ];
    const needed = Math.min(view.scale * ratio, 1) * 0.95;
    const enough = state.layers.some(([image, [x1, y1, x2, y2]]) => (
      image.width / (x2 - x1) >= needed && x1 <= rect[0] + 1 && y1 <= rect[1] + 1 && x2 >= rect[2] - 1 && y2 >= rect[3] - 1
    ));
    if (!enough) hooks.region(rect, Math.ceil((rect[2] - rect[0]) * view.scale * ratio));
  };

  const centre_on = ([x1, y1, x2, y2], scale) => {
    view.scale = scale;
    clamp();
    view.x = (x1 + x2) / 2 - view.width / 2 / view.scale;
    view.y = (y1 + y2) / 2 - view.height / 2 / view.scale;
    clamp();
    redraw();
  };
  const home = () => {
    if (!state.item) return;
    const [x1, y1, x2, y2] = candidate();
    if (state.zoomed) centre_on([x1, y1, x2, y2], view.height / (Math.max(x2 - x1, y2 - y1, 16) * ZOOM_SCALE));
    else centre_on([0, 0, ...state.frame], 0);
  };
  const zoom = (factor, x = view.width / 2, y = view.height / 2) => {
    const at = [view.x + x / view.scale, view.y + y / view.scale];
    view.scale *= factor;
    clamp();
    view.x = at[0] - x / view.scale;
    view.y = at[1] - y / view.scale;
    clamp();
    redraw();
  };
  const pan = (dx, dy) => {
    view.x -= dx / view.scale;
    view.y -= dy / view.scale;
    clamp();
    redraw();
  };

  // Moves the edges that `part` names ("move" for all) by frame pixels, inside the frame and never inside out.
  const changed = (box, part, dx, dy) => {
    let [x1, y1, x2, y2] = box;
    const [wide, high] = state.frame;
    if (part === "move") {
      const right = Math.min(Math.max(dx, -x1), wide - x2), down = Math.min(Math.max(dy, -y1), high - y2);
      return [x1 + right, y1 + down, x2 + right, y2 + down];
    }
    if (part.includes("w")) x1 = Math.min(Math.max(x1 + dx, 0), x2 - LEAST_SIDE);
    if (part.includes("e")) x2 = Math.max(Math.min(x2 + dx, wide), x1 + LEAST_SIDE);
    if (part.includes("n")) y1 = Math.min(Math.max(y1 + dy, 0), y2 - LEAST_SIDE);
    if (part.includes("s")) y2 = Math.max(Math.min(y2 + dy, high), y1 + LEAST_SIDE);
    return [x1, y1, x2, y2];
  };
  const rounded = (box) => box.map((value) => Math.round(value * 100) / 100);
  // A box that a detector let hang over the border is cut there once a person takes it in hand.
  const inside = ([x1, y1, x2, y2]) => [
    Math.max(x1, 0), Math.max(y1, 0), Math.min(x2, state.frame[0]), Math.min(y2, state.frame[1]),
  ];
  const change = (part, dx, dy) => {
    state.points = rounded(changed(inside(candidate()), part, dx / view.scale, dy / view.scale));
    hooks.edited(state.points);
    redraw();
  };

  const place_of = (event) => {
    const bounds = canvas.getBoundingClientRect();
    return [event.clientX - bounds.left, event.clientY - bounds.top];
  };
  const part_at = ([x, y]) => {
    if (!state.editing || !state.item) return null;
    const near = handles(view, candidate()).find(([, hx, hy]) => Math.hypot(x - hx, y - hy) <= REACH);
    if (near) return near[0];
    const [left, top, right, bottom] = on_screen(view, candidate());
    return x >= left && x <= right && y >= top && y <= bottom ? "move" : null;
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !state.item) return;
    const at = place_of(event), part = part_at(at);
    drag = { at, part, box: part ? inside(candidate()) : null, from: { x: view.x, y: view.y } };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    const at = place_of(event);
    if (!drag) {
      canvas.style.cursor = CURSORS[part_at(at)] || "grab";
      return;
    }
    const dx = (at[0] - drag.at[0]) / view.scale, dy = (at[1] - drag.at[1]) / view.scale;
    if (drag.part) {
      state.points = rounded(changed(drag.box, drag.part, dx, dy));
    } else {
      view.x = drag.from.x - dx;
      view.y = drag.from.y - dy;
      clamp();
      canvas.style.cursor = "grabbing";
    }
    redraw();
  });
  const drop = () => {
    if (drag?.part && state.points) hooks.edited(state.points);
    drag = null;
  };
  canvas.addEventListener("pointerup", drop);
  canvas.addEventListener("pointercancel", drop);

  return {
    state, stats, redraw, zoom, pan, home, change, ZOOM_STEP,
    // The size of the canvas in CSS px; the part that is shown keeps its middle.
    resize(width, height) {
      if (view.width === width && view.height === height) return;
      const middle = [view.x + view.width / 2 / view.scale, view.y + view.height / 2 / view.scale];
      const whole = view.width === 1 || view.scale <= smallest() * 1.001;
      Object.assign(view, { width, height });
      if (whole && !state.zoomed) view.scale = 0;
      clamp();
      view.x = middle[0] - width / 2 / view.scale;
      view.y = middle[1] - height / 2 / view.scale;
      clamp();
      redraw();
    },
    toggle_zoom() {
      state.zoomed = !state.zoomed;
      home();
    },
    // A part in full resolution has come; it replaces the one before.
    sharpened(image, rect) {
      state.layers = [...state.layers.slice(0, 2), [image, rect]];
      if (!wanted) requestAnimationFrame(draw);
      wanted = true;
    },
  };
}
