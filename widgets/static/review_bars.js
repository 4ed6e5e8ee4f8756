// Review of suggested boxes, part 4 of 7: what stands around the pictures - progress, menus, facts, buttons, help.

const BUTTONS = [
  ["accept", "✓", "Accept", "a"], ["reject", "✕", "Reject", "r"], ["skip", "○", "Skip", "s"],
  ["undo", "↶", "Undo", "u"], ["redo", "↷", "Redo", "U"], ["previous", "←", "Prev", "p"], ["next", "→", "Next", "n"],
  ["zoom", "⌕", "Zoom", "z"], ["edit", "✎", "Edit", "e"], ["reset", "⟲", "Reset", "x"],
  ["accept_page", "✓✓", "Accept the page", "⇧⏎"], ["grid", "▦", "Crops", "g"], ["frame", "▣", "Frame", "⏎"], ["help", "?", "", "?"],
];
const HELP = [
  ["Everywhere", [
    ["a", "accept: the suggestion is right"], ["r", "reject: it is wrong"], ["s", "skip: I cannot tell"],
    ["u", "undo my latest decision, or the page accepted at once"], ["U", "redo what I took back"], ["1 … 9", "give it another class"],
    ["x", "reset box and class"], ["Tab", "the menus; Esc leaves them"], ["g", "crops or frame"], ["?", "this help; Esc closes it"],
  ]],
  ["Crops", [
    ["← → ↑ ↓", "move the cursor"], ["n p", "next, previous page"], ["Home End", "first, last of the page"],
    ["Enter", "look at it on its frame; Esc comes back"], ["⇧ Enter", "accept all on the page not yet decided"],
    ["mouse", "click chooses, double click opens, buttons decide"],
  ]],
  ["Frame", [
    ["n → p ←", "next, previous, without deciding"], ["z", "zoom to the box and back"], ["+ − 0", "zoom in, out, whole frame"],
    ["⇧ arrows", "move the picture"], ["e", "edit the box; e or Esc ends it"], ["arrows", "in edit: move the box"],
    ["⇧ arrows", "in edit: resize it"], ["mouse", "wheel zooms, drag moves the picture; in edit: box and handles"],
  ]],
];

function build(el) {
  const root = element("div", "obdb-review");
  root.tabIndex = 0;
  root.dataset.lmSuppressShortcuts = "true"; // JupyterLab leaves the keys alone inside
  const head = element("div", "obdb-review-head");
  const place = element("b", "obdb-place"), bar = element("div", "obdb-bar");
  const counts = element("span", "obdb-counts"), focus = element("span", "obdb-focus");
  head.append(place, bar, counts, focus);
  const second = element("div", "obdb-review-second");
  const outlook = element("span", "obdb-outlook");
  const menus = {};
  for (const [name, text] of [["order", "Order"], ["only_kind", "Kind"], ["only_class", "Class"]]) {
    const label = element("label", "obdb-menu", text);
    menus[name] = element("select", `obdb-menu-${name}`);
    label.append(menus[name]);
    second.append(label);
  }
  second.append(outlook);
  const grid = element("div", "obdb-grid");
  const main = element("div", "obdb-review-main");
  const stage = element("div", "obdb-stage");
  const canvas = element("canvas");
  const broken = element("div", "obdb-broken");
  stage.append(canvas, broken);
  const side = element("div", "obdb-side");
  const crop = element("canvas", "obdb-crop"), facts = element("div", "obdb-facts"), key = element("div", "obdb-key");
  for (const [kind, text] of LEGEND) {
    const row = element("div", `obdb-key-${kind}`);
    row.append(element("span", `obdb-line obdb-line-${kind}`), element("span", "", text));
    key.append(row);
  }
  stage.append(key);
  side.append(crop, facts);
  main.append(stage, side);
  const buttons = element("div", "obdb-buttons");
  const confirm = element("div", "obdb-confirm");
  confirm.hidden = true;
  const message = element("div", "obdb-message");
  message.setAttribute("role", "status");
  root.append(head, second, grid, main, buttons, confirm, message, build_help());
  el.append(root);
  const help = root.querySelector(".obdb-help");
  return { root, place, bar, counts, focus, outlook, menus, grid, main, stage, canvas, broken, crop, facts, key, buttons, confirm, message, help };
}

function build_help() {
  const help = element("div", "obdb-help");
  help.hidden = true;
  for (const [title, rows] of HELP) {
    const part = element("div", "obdb-help-part");
    part.append(element("b", "", title));
    for (const [keys, text] of rows) {
      const row = element("div");
      row.append(element("kbd", "", keys), element("span", "", text));
      part.append(row);
    }
    help.append(part);
  }
  return help;
}

// `draft` is what the person changed and has not decided on yet.
function draw_facts(model, facts, select, draft) {
  const item = model.get("item");
  const class_row = element("div");
  class_row.append(element("span", "obdb-fact", "Class"), select);
  const changes = [draft.points ? "box" : "", draft.object_class ? "class" : ""].filter(Boolean).join(" and ");
  const became = [
    item.decided_class && item.decided_class !== item.object_class && item.verdict === "accepted" ? `as ${item.decided_class}` : "",
    item.decided_points.length ? "with another box" : "", item.by ? `by ${item.by}` : "",
  ].filter(Boolean).join(" ");
  const rows = [
    ["Score", percent(item.score)], ["Likely", item.probability === null ? "" : `${Math.round(100 * item.probability)} % to be accepted`],
    ["Also", item.evidence.join("; ")], ["Task", item.task], ["Frame", item.frame === null ? "" : String(item.frame)],
    ["Verdict", item.verdict ? `${item.verdict} ${became}`.trim() : "none yet"],
    ["Edited", changes ? `${changes}; x resets` : ""],
  ];
  const words = element("div", "obdb-words", `${item.words[0].toUpperCase()}${item.words.slice(1)}.`);
  const leads = element("div", "obdb-leads", `Accept: ${leads_to(item, made_of(item, draft).object_class)}.`);
  facts.replaceChildren(words, leads, class_row);
  for (const [name, value] of rows) {
    if (!value) continue;
    const row = element("div", `obdb-fact-${name.toLowerCase().replaceAll(" ", "-")}`);
    const text = element("span", "", value);
    text.title = name === "Task" || name === "Frame" ? item.path : "";
    row.append(element("span", "obdb-fact", name), text);
    facts.append(row);
  }
  select.replaceChildren(...model.get("classes").map((name, at) => new Option(at < 9 ? `${at + 1} ${name}` : name, name)));
  select.disabled = item.kind === "spurious"; // it is removed, whatever its class
  select.value = made_of(item, draft).object_class;
}

function draw_head(model, parts) {
  const { total = 0, decided = 0, accepted = 0, rejected = 0, skipped = 0 } = model.get("progress");
  const shown = model.get("outlook").shown ?? total;
  const grid = model.get("view") === "grid";
  const where = grid ? `Page ${Math.min(model.get("page") + 1, model.get("pages"))} of ${model.get("pages")}` : `Suggestion ${model.get("item").number} of ${shown}`;
  parts.place.textContent = !total ? "No suggestions" : shown ? where : "No suggestion of this kind and class";
  parts.bar.replaceChildren();
  for (const [name, count] of [["accepted", accepted], ["rejected", rejected], ["skipped", skipped]]) {
    const piece = element("span", `obdb-bar-${name}`);
    piece.style.width = `${total ? (100 * count) / total : 0}%`;
    parts.bar.append(piece);
  }
  const words = [`${accepted} accepted`, `${rejected} rejected`];
  if (skipped) words.push(`${skipped} skipped`);
  parts.counts.textContent = `${decided} of ${total} decided: ${words.join(", ")}`;
  draw_outlook(model.get("outlook"), parts.outlook);
}

function draw_outlook(outlook, node) {
  const cent = (value) => `${Math.round(100 * value)} %`;
  const words = [];
  if (outlook.rest_precision !== null && outlook.rest_precision !== undefined) {
    words.push(`Of the ${outlook.left} left, about ${cent(outlook.rest_precision)} would be accepted (${Math.round(outlook.expected)})`);
  }
  if (outlook.judged) {
    words.push(`you accepted ${cent(outlook.accepted_rate)} of ${outlook.judged}, ${cent(outlook.predicted_rate)} was predicted`);
  }
  node.textContent = words.length ? `${words.join("; ")}.` : "";
}

function draw_menus(model, menus) {
  const { orders = [], kinds = [], classes = [] } = model.get("menus");
  const options = {
    order: orders, only_kind: [["", "all"], ...kinds], only_class: [["", "all"], ...classes.map((name) => [name, name])],
  };
  for (const [name, menu] of Object.entries(menus)) {
    menu.replaceChildren(...options[name].map(([value, text]) => new Option(text, value)));
    menu.value = model.get(name);
  }
}
