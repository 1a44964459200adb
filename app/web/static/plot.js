// Reads the values of plots under the pointer or by the arrow keys, for all plots of a page at once, and
// zooms by dragging. The server has drawn everything; without this script the table says the same.
"use strict";
(() => {
  const plots = [];
  const SVG = "http://www.w3.org/2000/svg";
  let dragged = null;

  const make = (figure) => {
    const data = JSON.parse(figure.dataset.plot);
    const area = figure.querySelector("svg.area");
    const cursor = document.createElementNS(SVG, "path");
    cursor.setAttribute("class", "cursor");
    const brush = document.createElementNS(SVG, "rect");
    brush.setAttribute("class", "brush");
    brush.setAttribute("height", "100");
    area.append(brush, cursor);
    const dates = new Intl.DateTimeFormat("sv-SE", { timeZone: data.z, dateStyle: "short", timeStyle: "short" });
    const values = new Intl.NumberFormat("en", { minimumFractionDigits: data.d, maximumFractionDigits: data.d });
    return { figure, area, cursor, brush, data, dates, values, at: -1, text: figure.querySelector(".reading") };
  };

  const span = (plot) => plot.figure.closest("[data-from]")?.dataset ?? { from: plot.data.a, to: plot.data.a + 60 * plot.data.e.at(-1) };
  const ratioOf = (plot, seconds) => (seconds - span(plot).from) / (span(plot).to - span(plot).from);
  const secondsAt = (plot, ratio) => Number(span(plot).from) + ratio * (span(plot).to - span(plot).from);
  const start = (plot, i) => plot.data.a + 60 * plot.data.t[i];
  const end = (plot, i) => plot.data.a + 60 * plot.data.e[i];

  const find = (plot, seconds) => {
    const minutes = (seconds - plot.data.a) / 60;
    let low = 0, high = plot.data.t.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (plot.data.t[middle] <= minutes) low = middle;
      else high = middle - 1;
    }
    return low;
  };

  const read = (plot, seconds) => {
    const i = find(plot, seconds);
    const isKnown = seconds >= start(plot, i) && seconds < end(plot, i);
    const shown = isKnown ? (start(plot, i) + end(plot, i)) / 2 : seconds;
    plot.at = i;
    plot.cursor.setAttribute("d", `M${(1000 * ratioOf(plot, shown)).toFixed(1)} 0V100`);
    const said = plot.data.s.map(([name, values]) => {
      const value = isKnown ? values[i] : null;
      return value === null ? `${name} –` : `${name} ${plot.values.format(value)}${plot.data.u ? ` ${plot.data.u}` : ""}`;
    });
    plot.text.textContent = `${plot.dates.format(1000 * (isKnown ? start(plot, i) : seconds))} · ${said.join(" · ")}`;
  };

  const readAll = (seconds) => plots.forEach((plot) => read(plot, seconds));
  const clear = () => plots.forEach((plot) => {
    plot.cursor.setAttribute("d", "");
    plot.text.textContent = "";
  });

  const ratioUnder = (plot, event) => {
    const box = plot.area.getBoundingClientRect();
    const outer = plot.area.ownerSVGElement.getBoundingClientRect();
    return Math.min(Math.max((event.clientX - outer.left) / (outer.width || box.width), 0), 1);
  };

  const zoom = (plot, first, last) => {
    const [from, to] = [first, last].sort((a, b) => a - b).map((ratio) => secondsAt(plot, ratio));
    const [i, j] = [find(plot, from), find(plot, to)];
    if (j <= i) return;
    const address = new URL(location.href);
    try { sessionStorage.setItem(`zoom ${address.pathname}`, location.search); } catch { /* no storage: the arrows lead back */ }
    for (const name of ["window", "month", "year"]) address.searchParams.delete(name);
    address.searchParams.set("start", new Date(1000 * start(plot, i)).toISOString().replace(".000", ""));
    address.searchParams.set("end", new Date(1000 * end(plot, j)).toISOString().replace(".000", ""));
    location.assign(address);
  };

  const keys = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -1e9, End: 1e9 };
  const listen = (plot) => {
    const { figure } = plot;
    const isZooming = figure.closest("[data-zoom]") !== null;
    figure.addEventListener("pointermove", (event) => {
      const ratio = ratioUnder(plot, event);
      readAll(secondsAt(plot, ratio));
      if (dragged?.plot !== plot) return;
      const [low, high] = [dragged.ratio, ratio].sort((a, b) => a - b);
      plot.brush.setAttribute("x", 1000 * low);
      plot.brush.setAttribute("width", 1000 * (high - low));
    });
    figure.addEventListener("pointerleave", () => { if (!dragged) clear(); });
    figure.addEventListener("keydown", (event) => {
      if (event.key === "Escape") return clear();
      if (!(event.key in keys)) return undefined;
      event.preventDefault();
      const last = plot.data.t.length - 1;
      const at = plot.at < 0 ? (event.key === "ArrowLeft" || event.key === "End" ? last : 0) : plot.at + keys[event.key];
      readAll(start(plot, Math.min(Math.max(at, 0), last)));
      return undefined;
    });
    if (!isZooming) return;
    figure.addEventListener("pointerdown", (event) => {
      if (event.pointerType === "touch" || event.button !== 0) return;
      event.preventDefault();
      figure.focus();
      dragged = { plot, ratio: ratioUnder(plot, event), x: event.clientX };
    });
  };

  addEventListener("pointerup", (event) => {
    if (!dragged) return;
    const { plot, ratio, x } = dragged;
    dragged = null;
    plot.brush.setAttribute("width", 0);
    if (Math.abs(event.clientX - x) > 8) zoom(plot, ratio, ratioUnder(plot, event));
  });

  const take = () => {
    for (const figure of document.querySelectorAll("figure[data-plot]:not([data-ready])")) {
      figure.dataset.ready = "";
      const plot = make(figure);
      plots.push(plot);
      listen(plot);
    }
    for (let i = plots.length - 1; i >= 0; i -= 1) if (!plots[i].figure.isConnected) plots.splice(i, 1);
  };

  const reset = document.getElementById("zoom-reset");
  let before = null;
  try { before = sessionStorage.getItem(`zoom ${location.pathname}`); } catch { /* no storage */ }
  if (reset && before !== null && before !== location.search && new URLSearchParams(location.search).has("start")) {
    reset.href = location.pathname + before;
    reset.hidden = false;
    reset.addEventListener("click", () => sessionStorage.removeItem(`zoom ${location.pathname}`));
  }

  take();
  new MutationObserver(take).observe(document.getElementById("main") ?? document.body, { childList: true, subtree: true });
})();
