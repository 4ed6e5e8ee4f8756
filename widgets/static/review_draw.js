// Review of suggested boxes, part 1 of 7 (joined by Python into one module): drawing boxes on a canvas.

// Told apart by line as well as by colour (Okabe and Ito's).
const STYLES = {
  annotation: { colour: "#56B4E9", width: 2, dash: [] },
  concerned: { colour: "#0072B2", width: 4, dash: [12, 4, 3, 4], light: true },
  other: { colour: "#F0E442", width: 2, dash: [7, 5] },
  detection: { colour: "#CC79A7", width: 2, dash: [4, 3] },
  proposed: { colour: "#E69F00", width: 2, dash: [3, 4] },
  candidate: { colour: "#E69F00", width: 4, dash: [] },
};
const LEGEND = [
  ["candidate", "suggested box"], ["concerned", "the annotation it is about"], ["annotation", "annotated already"],
  ["other", "other suggestions"], ["detection", "the model sees, with score"],
];
const HANDLE = 9; // side of a handle, CSS px

function element(tag, name, text) {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (text !== undefined) node.textContent = text;
  return node;
}

// What a suggestion is now: what the person is making of it (`draft`), else what was accepted, else what was proposed.
// An annotation to be removed stays what it is.
function made_of(item, draft) {
  const accepted = item.verdict === "accepted" && item.kind !== "spurious";
  return {
    points: accepted && item.decided_points.length ? item.decided_points : item.points,
    object_class: (accepted && item.decided_class) || item.object_class,
    ...draft,
  };
}

// What accepting it leads to, with the class that it has now.
function leads_to(item, object_class) {
  const { accept_does, accept_as } = item;
  return object_class === item.object_class ? accept_does : accept_as.replace("{name}", () => object_class);
}

function same_box(one, other) {
  return one.every((value, at) => value === other[at]);
}

// Whether somebody accepted it with another box or class than proposed.
function accepted_changed(item) {
  const { points, object_class } = made_of(item, {});
  return object_class !== item.object_class || !same_box(points, item.points);
}

async function bitmap(bytes) {
  return bytes && bytes.byteLength ? createImageBitmap(new Blob([bytes])) : null;
}

// A new size empties a canvas and costs time: only when it differs.
function size_canvas(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  const wide = Math.max(1, Math.round(width * ratio)), high = Math.max(1, Math.round(height * ratio));
  if (canvas.width !== wide || canvas.height !== high) {
    canvas.width = wide;
    canvas.height = high;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
  }
  const context = canvas.getContext("2d", { alpha: false });
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return context;
}

// The part of `image` (it shows `rect` of the frame) that is inside the view.
function draw_layer(context, view, image, [x1, y1, x2, y2]) {
  const left = Math.max(x1, view.x), right = Math.min(x2, view.x + view.width / view.scale);
  const top = Math.max(y1, view.y), bottom = Math.min(y2, view.y + view.height / view.scale);
  if (left >= right || top >= bottom) return;
  const across = image.width / (x2 - x1), down = image.height / (y2 - y1);
  context.drawImage(
    image, (left - x1) * across, (top - y1) * down, (right - left) * across, (bottom - top) * down,
    (left - view.x) * view.scale, (top - view.y) * view.scale, (right - left) * view.scale, (bottom - top) * view.scale,
  );
}

function on_screen(view, [x1, y1, x2, y2]) {
  return [(x1 - view.x) * view.scale, (y1 - view.y) * view.scale, (x2 - view.x) * view.scale, (y2 - view.y) * view.scale];
}

function draw_box(context, view, box, style, label, below = false) {
  const [left, top, right, bottom] = on_screen(view, box);
  const width = right - left, height = bottom - top;
  if (left > view.width || top > view.height || right < 0 || bottom < 0) return;
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
  const over = top - 18 >= 0 ? top - 18 : Math.min(bottom + 2, view.height - 17);
  const under = bottom + 19 <= view.height ? bottom + 2 : Math.max(top - 18, 0);
  const start = Math.max(0, Math.min(left - 1, view.width - text_width));
  context.fillStyle = style.colour;
  context.fillRect(start, below ? under : over, text_width, 17);
  context.fillStyle = style.light ? "#fff" : "#111";
  context.fillText(label, start + 4, (below ? under : over) + 13);
}

// Three ticks that point at the candidate: it is known by shape as well as by colour and width.
function draw_ticks(context, view, box) {
  const [left, top, right, bottom] = on_screen(view, box);
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

// What is to be removed is crossed out.
function draw_cross(context, view, box) {
  const [left, top, right, bottom] = on_screen(view, box);
  for (const [width, colour] of [[4, "rgba(0, 0, 0, 0.55)"], [2, STYLES.candidate.colour]]) {
    context.lineWidth = width;
    context.strokeStyle = colour;
    context.beginPath();
    context.moveTo(left, top);
    context.lineTo(right, bottom);
    context.moveTo(right, top);
    context.lineTo(left, bottom);
    context.stroke();
  }
}

// Name and place of each handle; a name says which edges it moves.
function handles(view, box) {
  const [left, top, right, bottom] = on_screen(view, box);
  const middle_x = (left + right) / 2, middle_y = (top + bottom) / 2;
  return [
    ["nw", left, top], ["n", middle_x, top], ["ne", right, top], ["e", right, middle_y],
    ["se", right, bottom], ["s", middle_x, bottom], ["sw", left, bottom], ["w", left, middle_y],
  ];
}

function draw_handles(context, view, box) {
  for (const [, x, y] of handles(view, box)) {
    context.fillStyle = "#111";
    context.fillRect(x - HANDLE / 2 - 1, y - HANDLE / 2 - 1, HANDLE + 2, HANDLE + 2);
    context.fillStyle = "#fff";
    context.fillRect(x - HANDLE / 2, y - HANDLE / 2, HANDLE, HANDLE);
  }
}
