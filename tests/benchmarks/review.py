"""The box review: a page of crops shown, a key until its decision is in MongoDB, and panning a 4K frame.

``python -m tests.benchmarks.review --json`` opens a JupyterLab in headless Chromium (software rendering) with 1,000
candidates on 100 frames (JPEG, of 1920 x 1080 and of 3840 x 2160) and a journal of 10,000 earlier entries. A page of
crops stands beside decoding its frames and nothing else; panning beside a bare canvas of the same size on which nothing
but the same picture is drawn. ``--quick`` presses fewer keys.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from obdb_lib import mongod, paths
from tests.benchmarks._bars import Bar, arguments, bar, report
from tests.browser.harness import CHROMIUM, CHROMIUM_FLAGS, LabPage, LabServer, save_notebook

CANDIDATES, FRAMES, PICTURES, EARLIER = 1000, 100, 10, 10_000
WIDTH, HEIGHT = 3840, 2160
SHOWN_S, SAVED_MS, PAN_FPS = 2.0, 50.0, 20.0
OF_BARE = 0.9
"""Where a bare canvas itself is slower than PAN_FPS, this share of its frames is asked for."""
OF_DECODING = 1.5
"""Where a machine is slow to decode the 4K frames of a page, the page may take this many times as long as that."""
VIEWPORT = (1600, 1000)
ROOT = ".obdb-review"
PAN_MS = 3000
TIMES = ("shown", "first", "decoding")

SETUP = """
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
import numpy as np
from obdb_lib.boxes import BoxSet
from obdb_lib.frames import decode
from obdb_lib.review import Journal
from obdb_lib.store import open_store
from widgets import BoxReview

rng = np.random.default_rng(0)
folder = Path({folder!r})
def load_frame(path):
    return decode((folder / f"{{path[0]}}{{int(path[1:-4]) % {pictures}}}.jpg").read_bytes())
corners = rng.uniform((0, 0), ({width} - 160, {height} - 160), size=({candidates}, 2)).round(1)
chances = rng.uniform(0, 1, {candidates}).round(3)
def queue_of(size, part):
    return [
        dict(_id=f"{{size}}{{i}}", img_path=f"{{size}}{{i % {frames}}}.jpg", object_class="sesame", kind="missing",
             snapshot_id="s", run_id="r", points=[x / part, y / part, (x + 150) / part, (y + 150) / part],
             score=float(chance), probability=float(chance))
        for i, ((x, y), chance) in enumerate(zip(corners.tolist(), chances))
    ]
queues = dict(h=queue_of("h", 2), k=queue_of("k", 1))
store = open_store()
old = datetime.now(UTC) - timedelta(hours=2)
store._db.decisions.insert_many(
    dict(suggestion_id=f"k{{i % 100}}", verdict="accept" if i % 2 else "reject", who="bob",
         when=old + timedelta(milliseconds=i)) for i in range({earlier})
)
saved = []
append = store.append_decision
def timed(document):
    entry = append(document)
    saved.append(time.time())
    return entry
store.append_decision = timed

def decoding():
    while review._tiles._running:
        time.sleep(0.05)
    paths = sorted({{one["path"] for one in review.tiles}})
    started = time.perf_counter()
    with ThreadPoolExecutor(2) as workers:
        for _ in workers.map(load_frame, paths): pass
    return time.perf_counter() - started
"""
SHOW = """
started = time.perf_counter()
review = BoxReview(queues["{size}"], annotations=lambda path: BoxSet(np.empty((0, 4))), load_frame=load_frame,
                   journal=Journal(store, who="ann", queue=queues["{size}"]), view="grid")
made = time.perf_counter() - started
review
"""
# Runs a cell; answers the milliseconds until a page of crops is there, and until the first of them is.
GRID = """(index) => new Promise((resolve, reject) => {
    const notebook = window.jupyterapp.shell.currentWidget.content;
    notebook.activeCellIndex = index;
    const node = notebook.widgets[index].node;
    const start = performance.now();
    let first = 0;
    window.jupyterapp.commands.execute('notebook:run-cell');
    const look = () => {
        const tiles = [...node.querySelectorAll('.obdb-tile')];
        const pictures = tiles.map((tile) => tile.querySelector('img'));
        const there = pictures.filter((image) => image.complete && image.naturalWidth);
        const spent = performance.now() - start;
        if (there.length && !first) first = spent;
        if (tiles.length && there.length === tiles.length) {
            tiles[0].scrollIntoView({ block: 'center' });
            return resolve([spent, first, tiles.length]);
        }
        if (spent > 120000) return reject(`${there.length} of ${tiles.length} crops in 120 s`);
        requestAnimationFrame(look);
    };
    look();
})"""
WATCH_KEYS = """() => {
    window.obdb_keys = [];
    document.addEventListener('keydown', (event) => {
        window.obdb_keys.push((performance.timeOrigin + event.timeStamp) / 1000);
    }, true);
}"""
# Moves the pressed mouse round a circle, one step a frame; answers how often the view was drawn a second.
PAN = """(ms) => new Promise((resolve) => {
    const canvas = [...document.querySelectorAll('.obdb-stage canvas')].at(-1);
    const stats = canvas.closest('.obdb-review').obdb.viewer.stats;
    const box = canvas.getBoundingClientRect(), start = performance.now(), before = stats.draws;
    const step = () => {
        const spent = performance.now() - start;
        const place = { clientX: box.x + box.width / 2 + 200 * Math.cos(spent / 300),
                        clientY: box.y + box.height / 2 + 120 * Math.sin(spent / 300), bubbles: true };
        canvas.dispatchEvent(new PointerEvent('pointermove', place));
        if (spent < ms) return requestAnimationFrame(step);
        resolve(1000 * (stats.draws - before) / spent);
    };
    requestAnimationFrame(step);
})"""
# The same moves of the same picture on a canvas of the same size with nothing else.
BARE = """(ms) => new Promise((resolve) => {
    const canvas = [...document.querySelectorAll('.obdb-stage canvas')].at(-1);
    const layers = canvas.closest('.obdb-review').obdb.viewer.state.layers;
    const picture = layers[layers.length - 1][0];
    const bare = canvas.cloneNode();
    canvas.replaceWith(bare);
    const context = bare.getContext('2d', { alpha: false }), start = performance.now();
    const [wide, high] = [picture.width / 2, picture.height / 2];
    let draws = 0;
    const step = () => {
        const spent = performance.now() - start;
        const x = wide / 2 + wide / 4 * Math.cos(spent / 300), y = high / 2 + high / 4 * Math.sin(spent / 300);
        context.drawImage(picture, x, y, wide, high, 0, 0, bare.width, bare.height);
        draws += 1;
        if (spent < ms) return requestAnimationFrame(step);
        bare.replaceWith(canvas);
        resolve(1000 * draws / spent);
    };
    requestAnimationFrame(step);
})"""


def write_frames(folder: Path) -> None:
    """4K pictures with leaves on noisy soil: as much to decode as a photograph."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(PICTURES):
        soil = rng.normal((118, 94, 70), 14, size=(HEIGHT // 2, WIDTH // 2, 3)).clip(0, 255).astype(np.uint8)
        picture = Image.fromarray(soil).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        picture.save(folder / f"k{number}.jpg", quality=90)
        picture.resize((WIDTH // 2, HEIGHT // 2)).save(folder / f"h{number}.jpg", quality=90)


def press(lab: LabPage, keys: str, pause_ms: int) -> list[float]:
    """Milliseconds from each key until its entry was acknowledged by MongoDB."""
    before = lab.eval_in_kernel("len(saved)")  # a page has more open crops than keys are pressed
    lab.page.evaluate("() => { window.obdb_keys = []; }")
    for key in keys:
        lab.page.keyboard.press(key)
        lab.page.wait_for_timeout(pause_ms)
    lab.wait_for(lambda: lab.eval_in_kernel("len(saved)") == before + len(keys), "an entry for each key")
    times = lab.eval_in_kernel(f"saved[{before}:]")
    return [
        1000 * (done - pressed)
        for pressed, done in zip(lab.page.evaluate("() => window.obdb_keys"), times, strict=True)
    ]


def pan(lab: LabPage, rounds: int) -> dict[str, list[float]]:
    """Frames a second of the review and of a bare canvas, in turn."""
    canvas = lab.page.locator(f"{ROOT} .obdb-stage canvas").last
    box = canvas.bounding_box()
    assert box is not None
    for _ in range(6):
        lab.page.keyboard.press("+")
    lab.page.wait_for_timeout(1500)  # the view rests, and its part in full resolution comes
    lab.screenshot("pan")
    found: dict[str, list[float]] = {"pan": [], "bare": []}
    for _ in range(rounds):
        lab.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        lab.page.mouse.down()
        found["pan"].append(float(lab.page.evaluate(PAN, PAN_MS)))
        lab.page.mouse.up()
        found["bare"].append(float(lab.page.evaluate(BARE, PAN_MS)))
    return found


def measure(work: Path, rounds: int, keys: int) -> dict[str, Any]:
    from playwright.sync_api import sync_playwright

    root = work / "notebooks"
    root.mkdir()
    write_frames(work / "frames")
    setup = SETUP.format(
        folder=str(work / "frames"), pictures=PICTURES, width=WIDTH, height=HEIGHT, candidates=CANDIDATES,
        frames=FRAMES, earlier=EARLIER,
    )  # fmt: skip
    save_notebook(root / "review.ipynb", [setup, SHOW.format(size="h"), SHOW.format(size="k")])
    server = LabServer(root, work, {"OBDB_DATA_CACHE": str(work / "cache"), "OBDB_DATABASE": "review_benchmark"})
    found: dict[str, Any] = {f"{size}_{name}": [] for size in "hk" for name in TIMES}
    try:
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(CHROMIUM_FLAGS))
            lab = LabPage(server, chromium, work, VIEWPORT)
            lab.open_notebook("review.ipynb")
            lab.run_all()  # once before anything is timed: modules and fonts are loaded then
            lab.page.evaluate(WATCH_KEYS)
            for index, size in [(1, "h"), (2, "k")] * rounds:
                # The page before goes on making the crops of its next pages for a while.
                lab.wait_for(lambda: lab.eval_in_kernel("review._tiles._running") == 0, "the crops of the page before")
                shown, first, count = lab.page.evaluate(GRID, index)
                times = {"shown": shown / 1000, "first": first / 1000, "decoding": lab.eval_in_kernel("decoding()")}
                for name, value in times.items():
                    found[f"{size}_{name}"].append(value)
                print(size, {name: round(value, 2) for name, value in times.items()}, file=sys.stderr)
            found["count"] = count
            lab.screenshot("grid")
            lab.page.locator(f"{ROOT} .obdb-place").last.click()
            lab.page.wait_for_timeout(2000)  # the crops of the next page are made ready
            found["grid"] = press(lab, ("aras" * keys)[:keys], 150)
            lab.page.keyboard.press("Enter")
            lab.page.locator(f"{ROOT} .obdb-stage canvas").last.wait_for(state="visible")
            lab.page.wait_for_timeout(1500)
            found["frame"] = press(lab, ("ar" * keys)[: max(keys // 4, 5)], 700)
            found |= pan(lab, rounds)
            lab.close()
            chromium.close()
    finally:
        server.stop()
        os.environ["OBDB_DATA_CACHE"] = str(work / "cache")
        mongod.stop()
    return found


def judge(found: dict[str, Any]) -> list[Bar]:
    def page(title: str, size: str) -> Bar:
        shown, first, decoding = (median(found[f"{size}_{name}"]) for name in TIMES)
        note = f"{found['count']} crops, first after {first:.2f} s; decoding their frames alone {decoding:.2f} s"
        most = SHOWN_S if size == "h" else max(SHOWN_S, OF_DECODING * decoding)
        return bar(f"{CANDIDATES:,} candidates on {title} frames: page shown, s", shown, f"<= {most:.2f}", note)

    ours, bare = median(found["pan"]), median(found["bare"])
    least = min(PAN_FPS, OF_BARE * bare)
    return [
        page("full-HD", "h"),
        page("4K", "k"),
        bar("key in the crops to saved in MongoDB, median ms", median(found["grid"]), f"< {SAVED_MS}"),
        bar("key on a frame to saved in MongoDB, median ms", median(found["frame"]), f"< {SAVED_MS}"),
        bar("4K frame panned, frames/s", ours, f">= {least:.1f}", f"a bare canvas: {bare:.1f}"),
    ]


def main() -> int:
    options = arguments(__doc__)
    paths.share_cores()
    rounds, keys = (1, 20) if options.quick else (5, 30)
    with tempfile.TemporaryDirectory(prefix="obdb_review_") as name:
        found = measure(Path(name), rounds, keys)
        if not options.json:
            for key, value in found.items():
                print(key, value, file=sys.stderr)
        report("review", judge(found), only_json=options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
