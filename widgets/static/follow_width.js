// Tells plotly that the place of a live figure has another width. A figure in a widget listens to the window only, but
// a cell also becomes wider or narrower when a sidebar is folded or the notebook comes to the front.

function render({ el }) {
  let known = 0;
  const observer = new ResizeObserver(([entry]) => {
    const width = Math.round(entry.contentRect.width);
    if (width === 0 || width === known) return; // hidden, or only the height is another
    known = width;
    window.dispatchEvent(new Event("resize"));
  });
  observer.observe(el);
  return () => observer.disconnect();
}

export default { render };
