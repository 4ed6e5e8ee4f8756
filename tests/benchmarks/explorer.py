"""The split explorer beside a bare jupyter-scatter: shown, a lasso that reaches Python, balance updated after an edit.

``python -m tests.benchmarks.explorer --json`` opens a JupyterLab in headless Chromium (software GL) with 100,000 points
on 10,000 frames and shows both maps in turn: same points, same colours, same lasso around 30 % of them; medians of
five. ``--quick`` does the same with 20,000 points, twice.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from statistics import median

from obdb_lib import paths
from tests.benchmarks._bars import Bar, arguments, bar, report
from tests.browser.harness import CHROMIUM, CHROMIUM_FLAGS, LabPage, LabServer, save_notebook

SAME = 1.3
"""Most times as long as the bare map that the explorer may take."""
UPDATE_S = 1.0
"""Most seconds from a key to the new balance on the screen: longer, and a person presses the key again."""
RECOLOUR_S = 3.0
"""Most seconds from a key to the points in the colours of their new parts; jupyter-scatter takes all points anew."""

# Clusters stand on a grid of step 10, four in a row: the lasso goes around the first three of ten.
CORNERS = ((-5.0, -5.0), (25.0, -5.0), (25.0, 5.0), (-5.0, 5.0), (-5.0, -4.0))
MOVES_A_SIDE = 12
LASSO_SHARE = (0.25, 0.35)

SETUP = """
import time
import jscatter
from obdb_lib.split_draft import SplitDraft
from obdb_lib.splits import every_nth
from tests.explorer_world import NAMES, explorer_world
from widgets import SplitExplorer

world = explorer_world({boxes}, {frames}, classes=NAMES, clusters=10)
built = every_nth(world.snapshot)
started = time.perf_counter()
drafts = [
    SplitDraft(built, world.snapshot, duplicates=world.duplicates, clusters=world.clusters) for _ in range({rounds} + 1)
]
laid_out = (time.perf_counter() - started) / len(drafts)
points = world.points.assign(object_class=world.points["object_class"].astype("category"))
arrived = []
"""
BARE = """
bare = jscatter.Scatter(data=points, x="x", y="y", color_by="object_class", size=2, mouse_mode="lasso",
                       width=552, height=480)  # as large as the map inside the explorer: software GL pays by the pixel
view = bare.widget
view.observe(lambda change: arrived.append([time.time(), len(change["new"])]), names="selection")
view
"""
OURS = """
explorer = SplitExplorer(world.points, drafts.pop(), crops=world.crops, colour_by="object_class")
view = explorer._scatter.widget
explorer.observe(lambda change: arrived.append([time.time(), len(change["new"])]), names="selected")
explorer
"""

# Runs a cell and answers the milliseconds until its map has coloured points.
SHOW = """(index) => new Promise((resolve, reject) => {
    const notebook = window.jupyterapp.shell.currentWidget.content;
    notebook.activeCellIndex = index;
    const node = notebook.widgets[index].node;
    node.querySelectorAll('canvas').forEach((old) => { old.dataset.old = '1'; });
    const start = performance.now();
    window.jupyterapp.commands.execute('notebook:run-cell');
    const painted = (canvas) => {
        if (canvas.dataset.old || canvas.width < 100) return false;
        const pixels = canvas.getContext('2d')?.getImageData(0, 0, canvas.width, canvas.height).data ?? [];
        for (let at = 0; at < pixels.length; at += 4) {
            const most = Math.max(pixels[at], pixels[at + 1], pixels[at + 2]);
            if (pixels[at + 3] && most - Math.min(pixels[at], pixels[at + 1], pixels[at + 2]) > 60) return true;
        }
        return false;
    };
    const look = () => {
        const canvas = [...node.querySelectorAll('canvas')].find(painted);
        if (!canvas && performance.now() - start > 120000) return reject('no points in 120 s');
        if (!canvas) return requestAnimationFrame(look);
        const spent = performance.now() - start;
        canvas.scrollIntoView({ block: 'center' });
        window.obdb_map = canvas;
        resolve(spent);
    };
    look();
})"""
WHERE = "() => { const b = window.obdb_map.getBoundingClientRect(); return [b.x, b.y, b.width, b.height]; }"
WATCH_MOUSE = """() => {
    for (const name of ['mousedown', 'mouseup']) {
        document.addEventListener(name, () => { window[`obdb_${name}`] = Date.now(); }, true);
    }
}"""
# Notes the time of the next key, and when an attribute of a view changes after it.
WATCH_KEY = """([selector, attribute]) => {
    const view = document.querySelector(selector);
    const was = view.getAttribute(attribute);
    window.obdb_update = null;
    document.addEventListener('keydown', () => {
        const pressed = performance.now();
        const look = () => {
            if (view.getAttribute(attribute) !== was) window.obdb_update = performance.now() - pressed;
            else requestAnimationFrame(look);
        };
        requestAnimationFrame(look);
    }, { capture: true, once: true });
}"""


def lasso(lab: LabPage) -> dict[str, float]:
    """Draw the ring; seconds from mouse-down and from mouse-up until Python has the selection, and its share."""
    box = lab.page.evaluate(WHERE)
    (x_low, x_high), (y_low, y_high) = lab.eval_in_kernel(
        "[[float(v) for v in d] for d in (view.x_scale_domain, view.y_scale_domain)]"
    )
    side = min(box[2], box[3])
    left, top = box[0] + (box[2] - side) / 2, box[1] + (box[3] - side) / 2
    corners = [
        (left + side * (x - x_low) / (x_high - x_low), top + side * (1 - (y - y_low) / (y_high - y_low)))
        for x, y in CORNERS
    ]
    before = lab.eval_in_kernel("len(arrived)")
    lab.page.mouse.move(*corners[0])
    lab.page.mouse.down()
    for corner in corners[1:]:
        lab.page.mouse.move(*corner, steps=MOVES_A_SIDE)
    lab.page.mouse.up()
    lab.wait_for(lambda: lab.eval_in_kernel("len(arrived)") > before, "the selection in Python", 120)
    when, count = lab.eval_in_kernel("arrived[-1]")
    down, up = (lab.page.evaluate(f"() => window.obdb_{name} / 1000") for name in ("mousedown", "mouseup"))
    return {"drag": when - down, "reach": when - up, "share": count / lab.eval_in_kernel("len(points)")}


def after_key(lab: LabPage, key: str, selector: str, attribute: str) -> float:
    """Seconds from a key to the change of an attribute that says what is on the screen."""
    lab.page.evaluate(WATCH_KEY, [selector, attribute])
    lab.page.keyboard.press(key)
    spent = lab.wait_for(lambda: lab.page.evaluate("() => window.obdb_update"), f"{selector} to follow {key}", 120)
    return float(spent) / 1000


def one_round(lab: LabPage, index: int) -> dict[str, float]:
    shown = lab.page.evaluate(SHOW, index) / 1000
    # The first drawing may still be under way in the page's other threads (the index that a lasso needs).
    lab.page.wait_for_timeout(1500)
    return {"shown": shown, **lasso(lab)}


def edits(lab: LabPage) -> dict[str, float]:
    """The explorer's own part: a key, then the same in the colours of the parts."""
    update = after_key(lab, "v", ".obdb-split-panel", "data-turn")
    undo = after_key(lab, "u", ".obdb-split-panel", "data-turn")
    lab.page.locator(".obdb-map-bar select").select_option(label="split")
    drawn = lab.page.locator(".obdb-legend")
    lab.wait_for(
        lambda: drawn.get_attribute("data-drawn") == str(lab.eval_in_kernel("explorer._legend.redrawn")), "the colours"
    )
    recolour = after_key(lab, "y", ".obdb-legend", "data-drawn")
    return {"update": update, "undo": undo, "recolour": recolour}


def measure(work: Path, boxes: int, frames: int, rounds: int) -> dict[str, list[dict[str, float]]]:
    """Both maps in turn, ``rounds`` times."""
    from playwright.sync_api import sync_playwright

    root = work / "notebooks"
    root.mkdir()
    save_notebook(root / "explorer.ipynb", [SETUP.format(boxes=boxes, frames=frames, rounds=rounds), BARE, OURS])
    server = LabServer(root, work, {"OBDB_DATA_CACHE": str(work / "cache")})
    found: dict[str, list[dict[str, float]]] = {"bare": [], "ours": []}
    try:
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(CHROMIUM_FLAGS))
            lab = LabPage(server, chromium, work)
            lab.open_notebook("explorer.ipynb")
            lab.run_all()  # both once before anything is timed: modules, shaders and fonts are loaded then
            lab.page.evaluate(WATCH_MOUSE)
            found["draft"] = [{"laid_out": lab.eval_in_kernel("laid_out")}]
            for number in range(rounds):
                for name, index in (("bare", 1), ("ours", 2)) if number % 2 == 0 else (("ours", 2), ("bare", 1)):
                    times = one_round(lab, index)
                    found[name].append(times | (edits(lab) if name == "ours" else {}))
                    print(name, {key: round(value, 3) for key, value in found[name][-1].items()}, file=sys.stderr)
            lab.close()
            chromium.close()
    finally:
        server.stop()
    return found


def judge(found: dict[str, list[dict[str, float]]], boxes: int) -> list[Bar]:
    def middle(name: str, key: str) -> float:
        return median(one[key] for one in found[name])

    def ratio(title: str, key: str) -> Bar:
        ours, bare = middle("ours", key), middle("bare", key)
        return bar(f"{title}, times a bare map's", ours / bare, f"<= {SAME}", f"{ours:.2f} s beside {bare:.2f} s")

    shares = [one["share"] for name in ("bare", "ours") for one in found[name]]
    return [
        ratio(f"{boxes:,} points shown", "shown"),
        ratio("lasso, mouse-down to Python", "drag"),
        ratio("lasso, mouse-up to Python", "reach"),
        bar("smallest share of the points in the lasso", min(shares), f">= {LASSO_SHARE[0]}"),
        bar("largest share of the points in the lasso", max(shares), f"<= {LASSO_SHARE[1]}"),
        bar("arrays of the draft laid out, s", middle("draft", "laid_out"), f"<= {UPDATE_S}"),
        bar("balance updated after an edit, s", middle("ours", "update"), f"<= {UPDATE_S}"),
        bar("balance updated after an undo, s", middle("ours", "undo"), f"<= {UPDATE_S}"),
        bar("points in their new colours, s", middle("ours", "recolour"), f"<= {RECOLOUR_S}"),
    ]


def main() -> int:
    options = arguments(__doc__)
    paths.share_cores()
    boxes, frames, rounds = (20_000, 2_000, 2) if options.quick else (100_000, 10_000, 5)
    with tempfile.TemporaryDirectory(prefix="obdb_explorer_") as name:
        bars = judge(measure(Path(name), boxes, frames, rounds), boxes)
    report("explorer", bars, only_json=options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
