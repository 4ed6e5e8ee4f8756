// Review of suggested boxes, part 3 of 7: a page of many suggestions as crops.

const KEPT_PICTURES = 800;
const SIGNS = { accepted: "✓", rejected: "✕", skipped: "○" };

function percent(value) {
  return value === null || value === undefined ? "" : value.toFixed(2);
}

// `hooks`: ask(ids, soon) wants crops, select(id), open(id), decide(verdict, id).
function grid_view(node, hooks) {
  const pictures = new Map(); // id -> { url, rect } or { error }, the latest asked last
  const tiles = new Map(); // id -> its nodes
  let records = [], cursor = "", saving = new Set(), soon = [];

  const build = (id) => {
    const root = element("div", "obdb-tile");
    root.dataset.id = id;
    const picture = element("div", "obdb-tile-picture");
    const image = element("img");
    image.draggable = false;
    image.alt = "";
    const box = element("span", "obdb-tile-box"), was = element("span", "obdb-tile-was");
    const badge = element("span", "obdb-tile-badge"), text = element("span", "obdb-tile-wait", "…");
    const acts = element("span", "obdb-tile-acts");
    for (const [verdict, sign] of [["accept", "✓"], ["reject", "✕"], ["skip", "○"]]) {
      const button = element("button", `obdb-tile-${verdict}`, sign);
      button.type = "button";
      button.tabIndex = -1;
      button.title = verdict;
      button.addEventListener("click", (event) => {
        event.stopPropagation();
        hooks.decide(verdict, id);
      });
      acts.append(button);
    }
    picture.append(image, was, box, badge, text, acts);
    const name = element("div", "obdb-tile-name"), facts = element("div", "obdb-tile-facts");
    root.append(picture, name, facts);
    root.addEventListener("click", () => hooks.select(id));
    root.addEventListener("dblclick", () => hooks.open(id));
    return { root, image, box, was, badge, text, name, facts };
  };

  const place_box = (box, points, rect) => {
    box.hidden = !points.length || !rect;
    if (box.hidden) return;
    const side = rect[2] - rect[0];
    box.style.left = `${(100 * (points[0] - rect[0])) / side}%`;
    box.style.top = `${(100 * (points[1] - rect[1])) / side}%`;
    box.style.width = `${(100 * (points[2] - points[0])) / side}%`;
    box.style.height = `${(100 * (points[3] - points[1])) / side}%`;
  };

  const draw_tile = (record) => {
    const parts = tiles.get(record.id), made = pictures.get(record.id), draft = hooks.draft(record.id);
    const { root, image, box, was, badge, text, name, facts } = parts;
    if (made?.url && image.src !== made.url) image.src = made.url;
    image.hidden = !made?.url;
    text.hidden = Boolean(made?.url);
    text.textContent = made?.error ? "no picture" : "…";
    const { points, object_class } = made_of(record, draft);
    place_box(box, points, made?.rect);
    place_box(was, record.annotation_points, made?.rect);
    name.textContent = object_class === record.object_class ? object_class : `→ ${object_class}`;
    const chance = record.probability ?? record.score;
    facts.textContent = [record.kind === "missing" ? "" : record.kind_name, percent(chance)].filter(Boolean).join(" · ");
    const edited = !same_box(points, record.points);
    badge.textContent = [SIGNS[record.verdict] || "", edited ? "✎" : "", record.by].filter(Boolean).join(" ");
    badge.hidden = !badge.textContent;
    root.className = `obdb-tile obdb-tile-${record.kind}`;
    root.classList.toggle("obdb-tile-cursor", record.id === cursor);
    root.classList.toggle("obdb-tile-saving", saving.has(record.id));
    root.dataset.verdict = record.verdict;
    root.dataset.ready = made ? (made.error ? "error" : "yes") : "";
    root.title = made?.error || `${record.words}\nAccept: ${leads_to(record, object_class)}${record.by ? `\n${record.verdict} by ${record.by}` : ""}`;
  };

  const forget = () => {
    const here = new Set(records.map((record) => record.id));
    for (const [id, made] of pictures) {
      if (pictures.size <= KEPT_PICTURES) break;
      if (here.has(id)) continue;
      if (made.url) URL.revokeObjectURL(made.url);
      pictures.delete(id);
    }
  };

  const columns = () => {
    const nodes = [...node.children];
    const first = nodes.findIndex((one) => one.offsetTop > nodes[0].offsetTop);
    return first < 0 ? Math.max(nodes.length, 1) : first;
  };
  const waits = (record) => record.open && !saving.has(record.id);
  const position = () => records.findIndex((record) => record.id === cursor);

  const api = {
    get cursor() { return cursor; },
    get records() { return records; },
    columns, position,
    seen: (id) => Boolean(pictures.get(id)?.url || pictures.get(id)?.error),
    draw() { for (const record of records) draw_tile(record); },
    // Asks for what is missing of this page; what the next one needs is made ready meanwhile.
    show(new_records, new_soon) {
      const same = records.length === new_records.length && records.every((record, at) => record.id === new_records[at].id);
      records = new_records;
      soon = new_soon;
      if (!same) {
        for (const id of [...tiles.keys()]) if (!records.some((record) => record.id === id)) tiles.delete(id);
        for (const record of records) if (!tiles.has(record.id)) tiles.set(record.id, build(record.id));
        node.replaceChildren(...records.map((record) => tiles.get(record.id).root));
        const lacking = records.map((record) => record.id).filter((id) => !pictures.get(id)?.url);
        if (records.length) hooks.ask(lacking, soon);
      }
      api.draw();
    },
    point(id, scroll = true) {
      if (id === cursor && tiles.get(id)?.root.classList.contains("obdb-tile-cursor")) return;
      const before = records.find((record) => record.id === cursor);
      cursor = id;
      if (before) draw_tile(before);
      const now = records.find((record) => record.id === id);
      if (!now) return;
      draw_tile(now);
      if (scroll) {
        const tile = tiles.get(id).root;
        if (tile.offsetTop < node.scrollTop) node.scrollTop = tile.offsetTop;
        const low = tile.offsetTop + tile.offsetHeight - node.clientHeight;
        if (low > node.scrollTop) node.scrollTop = low;
      }
    },
    // Those without a verdict, given or on its way.
    open: () => records.filter(waits),
    // The next one on this page without a verdict after the cursor; "" when there is none.
    next_open: () => (records.slice(position() + 1).find(waits) || {}).id || "",
    mark(id) {
      saving.add(id);
      const record = records.find((one) => one.id === id);
      if (record) draw_tile(record);
    },
    saved() { saving = new Set(); },
    arrived(found, buffers) {
      found.forEach((one, at) => {
        const old = pictures.get(one.id);
        if (old?.url) URL.revokeObjectURL(old.url);
        pictures.delete(one.id);
        pictures.set(one.id, one.error ? { error: one.error } : {
          url: URL.createObjectURL(new Blob([buffers[at]], { type: "image/jpeg" })), rect: one.rect,
        });
        const record = records.find((other) => other.id === one.id);
        if (record) draw_tile(record);
      });
      forget();
    },
    end() { for (const made of pictures.values()) if (made.url) URL.revokeObjectURL(made.url); },
  };
  return api;
}
