// Review of suggested boxes, part 6 of 7: what a person does, here (cursor, zoom, changes) or by way of Python.

const VERDICTS = ["accept", "reject", "skip"];
const WRITES = [...VERDICTS, "accept_page", "undo", "redo"];

function make_acts(page) {
  const { model, parts, root, drafts, local, set_draft, in_grid, send, outstanding, change_of, viewer, grid } = page;
  const { draw_item, draw_cursor, tell } = page;

  // Nothing came back for a while: the person is told at once, not after a hundred verdicts into the void.
  const fall_silent = () => {
    local.clock = null;
    if (!outstanding()) return;
    local.silent = true;
    local.waiting = null;
    tell("What you did last is not saved yet: is the kernel alive? No verdicts are taken until it answers; after a restart, run the cell again.", "error");
  };
  const unlock = () => {
    clearTimeout(local.clock);
    local.clock = outstanding() ? setTimeout(fall_silent, SILENT_MS) : null;
    if (local.silent) {
      local.silent = false;
      page.say(); // what Python said last stands again
    }
    if (outstanding()) return;
    local.pending = false;
    root.classList.remove("obdb-busy");
    page.schedule();
    const waiting = local.waiting;
    local.waiting = null;
    // A key pressed while Python was still busy counts if the box it was pressed on is still the one on the screen.
    if (waiting && waiting.id === local.shown) act(waiting.name);
  };
  const ask = (question, then) => {
    local.confirm = then;
    const yes = element("button", "obdb-button obdb-yes", "Yes (Enter)"), no = element("button", "obdb-button obdb-no", "No (Esc)");
    for (const [button, answer] of [[yes, true], [no, false]]) {
      button.type = "button";
      button.tabIndex = -1;
      button.addEventListener("click", () => answered(answer));
    }
    parts.confirm.replaceChildren(element("span", "", question), yes, no);
    parts.confirm.hidden = false;
  };
  const answered = (yes) => {
    const then = local.confirm;
    local.confirm = null;
    parts.confirm.hidden = true;
    if (yes && local.silent) fall_silent();
    else if (yes && then) then();
  };
  const accept_page = () => {
    const open = grid.open();
    const ready = open.filter((record) => grid.seen(record.id));
    if (!open.length) tell("Everything on this page is decided.");
    else if (ready.length < open.length) tell("Not all crops of this page are here yet; wait a moment.");
    else {
      ask(`Accept all ${open.length} on this page that are not decided?`, () => {
        const still = grid.open().filter((record) => open.some((one) => one.id === record.id)); // of those asked about
        send("accept_page", { items: still.map(change_of) });
        for (const record of still) grid.mark(record.id);
      });
    }
  };
  const grid_verdict = (name) => {
    const record = grid.records[grid.position()];
    if (!record) return;
    if (!grid.seen(record.id)) {
      tell("The crop is not here yet; nobody can judge it unseen.");
      return;
    }
    send(name, change_of(record));
    grid.mark(record.id);
    const following = grid.next_open();
    if (following) grid.point(following);
    draw_cursor();
  };
  const move = (name) => {
    const count = grid.records.length, at = grid.position(), wide = grid.columns();
    const steps = { right: 1, left: -1, down: wide, up: -wide, first: -at, last: count - 1 - at };
    const to = at + steps[name];
    if (to >= 0 && to < count) grid.point(grid.records[to].id);
    else if (to >= count && name !== "last") act("next_page");
    else if (to < 0 && model.get("page") > 0) act("previous_page");
    draw_cursor();
  };
  const in_frame = {
    zoom: () => {
      viewer.toggle_zoom();
      root.classList.toggle("obdb-zoomed", viewer.state.zoomed);
    },
    closer: () => viewer.zoom(viewer.ZOOM_STEP),
    farther: () => viewer.zoom(1 / viewer.ZOOM_STEP),
    whole: () => {
      viewer.state.zoomed = false;
      root.classList.remove("obdb-zoomed");
      viewer.home();
    },
    edit: () => {
      if (!local.shown || model.get("frame_error")) return;
      if (model.get("item").kind === "spurious") {
        tell("There is no box to change here: accept removes the annotation, reject keeps it.");
        return;
      }
      viewer.state.editing = !viewer.state.editing;
      draw_item();
      tell(viewer.state.editing ? "Editing the box: drag it or its handles; arrows move it, with Shift they resize it; e ends." : "");
    },
  };
  const redraw_change = () => {
    if (in_grid()) {
      grid.draw();
      draw_cursor();
    } else draw_item();
  };
  const relabel = (name) => {
    const item = in_grid() ? grid.records[grid.position()] : model.get("item");
    if (!item?.id || !name) return;
    if (item.kind === "spurious") {
      tell("There is no class to change here: accept removes the annotation, reject keeps it.");
      redraw_change(); // the menu shows the class that it is again
      return;
    }
    set_draft(item.id, { object_class: name === made_of(item, {}).object_class ? null : name });
    redraw_change();
  };
  // Back to what was accepted or proposed; from there, what was accepted with changes goes back to what was proposed.
  const reset = () => {
    const item = in_grid() ? grid.records[grid.position()] : model.get("item");
    if (!item?.id) return;
    if (drafts.has(item.id)) drafts.delete(item.id);
    else if (accepted_changed(item)) set_draft(item.id, { points: item.points, object_class: item.object_class });
    redraw_change();
  };
  const close = () => {
    if (!parts.help.hidden) parts.help.hidden = true;
    else if (local.confirm) answered(false);
    else if (!in_grid() && viewer.state.editing) in_frame.edit();
    else if (!in_grid() && local.from_grid) act("grid");
  };
  const act = (name) => {
    if (name === "help") parts.help.hidden = !parts.help.hidden;
    else if (name === "close") close();
    else if (local.silent && WRITES.includes(name)) fall_silent();
    else if (local.confirm) tell("Answer first: Enter for yes, Esc for no.");
    else if (name === "toggle") act(in_grid() ? "frame" : "grid");
    else if (name === "reset") reset();
    else if (in_grid()) act_grid(name);
    else act_frame(name);
  };
  const act_grid = (name) => {
    if (VERDICTS.includes(name)) grid_verdict(name);
    else if (name === "accept_page") accept_page();
    else if (name === "next_page" || name === "previous_page") {
      const page = model.get("page") + (name === "next_page" ? 1 : -1);
      if (page >= 0 && page < model.get("pages")) send("page", { page });
    } else if (name === "frame") {
      local.from_grid = true;
      if (grid.records.length) send("frame", { id: grid.cursor });
    } else if (name === "undo" || name === "redo") send(name);
    else if (name in { right: 1, left: 1, down: 1, up: 1, first: 1, last: 1 }) move(name);
  };
  const act_frame = (name) => {
    if (name in in_frame) in_frame[name]();
    else if (!model.get("item").id) { // nothing passes the filter; the person's latest decision can be taken back still
      if (name === "undo" || name === "redo") send(name);
    } else if (local.pending) local.waiting = { name, id: local.shown };
    else if (local.shown) {
      const item = model.get("item");
      // A verdict on a box that is not on the screen yet is dropped: nobody has seen it.
      if (VERDICTS.includes(name) && local.shown !== item.id) return;
      local.pending = true;
      root.classList.add("obdb-busy");
      send(name, VERDICTS.includes(name) ? change_of(item) : { id: local.shown });
    }
  };
  return { act, unlock, relabel, answered, fall_silent };
}
