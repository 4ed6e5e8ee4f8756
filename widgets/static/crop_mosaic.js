// Counts and pictures of the selection.

function element(tag, name, text) {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (text !== undefined) node.textContent = text;
  return node;
}

function render({ model, el }) {
  el.classList.add("obdb-mosaic");
  const head = element("div", "obdb-mosaic-head");
  const grid = element("div", "obdb-grid");
  el.append(head, grid);
  let urls = [];

  const draw_head = () => {
    head.replaceChildren(element("b", "", model.get("headline")));
    for (const part of model.get("parts")) {
      const chip = element("span", "obdb-chip");
      const swatch = element("span", "obdb-swatch");
      swatch.style.background = part.colour;
      chip.append(swatch, element("span", "", `${part.label} ${part.count.toLocaleString("en")}`));
      head.append(chip);
    }
    if (model.get("note")) head.append(element("span", "obdb-note", model.get("note")));
  };
  const draw_grid = () => {
    urls.forEach((url) => URL.revokeObjectURL(url));
    const titles = model.get("titles");
    urls = model.get("pictures").map((bytes) => URL.createObjectURL(new Blob([bytes])));
    grid.replaceChildren(
      ...urls.map((url, index) => {
        const image = element("img");
        image.src = url;
        image.title = titles[index] || "";
        image.alt = titles[index] || "crop";
        return image;
      }),
    );
  };
  draw_head();
  draw_grid();
  model.on("change:headline change:parts change:note", draw_head);
  model.on("change:pictures", draw_grid);
  return () => {
    model.off(null, draw_head);
    model.off(null, draw_grid);
    urls.forEach((url) => URL.revokeObjectURL(url));
  };
}

export default { render };
