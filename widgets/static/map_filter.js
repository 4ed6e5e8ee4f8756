// Menus to choose which points are shown: one button a column, its values behind it. What is open lives here only.

const SEARCH_FROM = 12; // lists with more values than this get a search field

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

function button(name, text) {
  const node = element("button", name, text);
  node.type = "button";
  return node;
}

function render({ model, el }) {
  el.classList.add("obdb-filter");
  let open = null; // name of the column whose menu is open
  let word = "";

  const choose = (name, numbers, size) => {
    const chosen = { ...model.get("chosen") };
    if (numbers.length === size) delete chosen[name];
    else chosen[name] = numbers;
    model.set("chosen", chosen);
    model.save_changes();
    draw();
  };

  const menu = (column) => {
    const all = column.labels.map((_, number) => number);
    const picked = new Set(model.get("chosen")[column.name] ?? all);
    const box = element("div", "obdb-filter-menu");
    const head = element("div", "obdb-filter-head");
    for (const [text, numbers] of [["all", all], ["none", []]]) {
      const one = button("obdb-filter-link", text);
      one.addEventListener("click", () => choose(column.name, numbers, all.length));
      head.append(one);
    }
    box.append(head);
    const list = element("div", "obdb-filter-list");
    const fill = () => {
      list.replaceChildren();
      column.labels.forEach((label, number) => {
        if (word && !label.toLowerCase().includes(word)) return;
        const row = element("label", "obdb-filter-row");
        row.title = label;
        const box = element("input");
        box.type = "checkbox";
        box.checked = picked.has(number);
        box.addEventListener("change", () => {
          if (box.checked) picked.add(number);
          else picked.delete(number);
          choose(column.name, all.filter((one) => picked.has(one)), all.length);
        });
        const only = button("obdb-filter-link obdb-filter-only", "only");
        only.addEventListener("click", (event) => {
          event.preventDefault();
          choose(column.name, [number], all.length);
        });
        row.append(box, name_node(label, column.short[number]), only,
          element("span", "obdb-count", column.counts[number].toLocaleString("en")));
        list.append(row);
      });
    };
    if (all.length > SEARCH_FROM) {
      const search = element("input", "obdb-filter-search");
      search.placeholder = "search";
      search.value = word;
      search.addEventListener("input", () => {
        word = search.value.trim().toLowerCase();
        fill();
      });
      head.append(search);
    }
    fill();
    box.append(list);
    return box;
  };

  const draw = () => {
    const scrolled = el.querySelector(".obdb-filter-list")?.scrollTop ?? 0;
    const chosen = model.get("chosen");
    el.replaceChildren(element("span", "obdb-filter-title", "Show"));
    for (const column of model.get("columns")) {
      const holder = element("span", "obdb-filter-column");
      const active = column.name in chosen;
      const count = active ? chosen[column.name].length : 0;
      const number = active && count === 1 ? chosen[column.name][0] : -1;
      const one = number >= 0 ? column.labels[number] : `${count} of ${column.labels.length}`;
      const top = button(`obdb-filter-button${active ? " obdb-filter-active" : ""}`, active ? `${column.title}: ` : column.title);
      if (active) top.append(name_node(one, number >= 0 ? column.short[number] : one));
      top.title = active ? `${column.title}: ${one}` : `choose which values of ${column.title} are shown`;
      top.addEventListener("click", () => {
        open = open === column.name ? null : column.name;
        word = "";
        draw();
      });
      holder.append(top);
      if (open === column.name) holder.append(menu(column));
      el.append(holder);
    }
    if (Object.keys(chosen).length) {
      const clear = button("obdb-filter-link obdb-filter-clear", "show all");
      clear.addEventListener("click", () => {
        model.set("chosen", {});
        model.save_changes();
        draw();
      });
      const count = element("span", "obdb-filter-shown");
      el.append(clear, count);
      tell(count);
    }
    const list = el.querySelector(".obdb-filter-list");
    if (list) list.scrollTop = scrolled;
  };
  const tell = (node = el.querySelector(".obdb-filter-shown")) => {
    if (!node) return;
    node.textContent = `${model.get("shown").toLocaleString("en")} of ${model.get("total").toLocaleString("en")} shown`;
  };
  const outside = (event) => {
    if (open !== null && !el.contains(event.target)) {
      open = null;
      draw();
    }
  };
  // Esc closes an open menu and does nothing else: caught before the explorer, where it clears the selection.
  const escape = (event) => {
    if (open === null || event.key !== "Escape") return;
    event.stopPropagation();
    event.preventDefault();
    open = null;
    draw();
    el.closest(".obdb-split-explorer")?.focus({ preventScroll: true }); // keys go on working
  };
  document.addEventListener("pointerdown", outside, true);
  document.addEventListener("keydown", escape, true);
  const shown = () => tell();
  model.on("change:columns change:chosen", draw);
  model.on("change:shown", shown);
  draw();
  return () => {
    document.removeEventListener("pointerdown", outside, true);
    document.removeEventListener("keydown", escape, true);
    model.off(null, draw);
    model.off(null, shown);
  };
}

export default { render };
