// A confusion matrix whose cells are buttons: a click or Enter puts (row, column) into the trait `cell`.

const RIGHT = [0, 114, 178]; // blue
const WRONG = [230, 159, 0]; // orange
const WHITE_TEXT_FROM = 0.8; // strength of the blue from which white reads better than black

function element(tag, name, text) {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (text !== undefined) node.textContent = text;
  return node;
}

function render({ model, el }) {
  const root = element("div", "obdb-confusion");
  el.append(root);

  const choose = (row, column) => {
    model.set("cell", [row, column]);
    model.save_changes();
  };

  const draw = () => {
    const names = model.get("names");
    const counts = model.get("counts");
    const [chosen_row, chosen_column] = model.get("cell");
    const table = element("table");
    const head = element("tr");
    head.append(element("th", "obdb-cm-corner", "annotated \\ detected"));
    for (const name of names) {
      const cell = element("th", "obdb-cm-column");
      cell.append(element("span", "", name));
      head.append(cell);
    }
    head.append(element("th", "obdb-cm-column obdb-cm-sum", "sum"));
    table.append(head);
    counts.forEach((row, r) => {
      const line = element("tr");
      line.append(element("th", "obdb-cm-row", names[r]));
      const sum = row.reduce((total, count) => total + count, 0);
      row.forEach((count, c) => {
        const cell = element("td");
        const corner = r === names.length - 1 && c === names.length - 1;
        if (!corner) {
          const button = element("button", "obdb-cm-cell", String(count));
          const share = sum ? count / sum : 0;
          button.type = "button";
          if (count) {
            // Mixed with white, not with what lies behind: the number stays readable in a dark theme.
            const strength = 0.12 + 0.75 * share;
            const colour = (r === c ? RIGHT : WRONG).map((part) => Math.round(255 + strength * (part - 255)));
            button.style.background = `rgb(${colour.join(", ")})`;
            button.style.color = r === c && strength > WHITE_TEXT_FROM ? "#fff" : "#222";
          }
          button.disabled = !count;
          button.dataset.row = r;
          button.dataset.column = c;
          button.title = `${count} annotated as ${names[r]}, detected as ${names[c]} (${(100 * share).toFixed(0)} % of the row)`;
          button.classList.toggle("obdb-cm-chosen", r === chosen_row && c === chosen_column);
          button.addEventListener("click", () => choose(r, c));
          cell.append(button);
        }
        line.append(cell);
      });
      line.append(element("td", "obdb-cm-sum", String(sum)));
      table.append(line);
    });
    root.replaceChildren(table);
  };

  model.on("change:names change:counts change:cell", draw);
  draw();
  return () => model.off(null, draw);
}

export default { render };
