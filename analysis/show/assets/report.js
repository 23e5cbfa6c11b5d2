// Draws the page's plots from its embedded data: those in view first, then all others, so that a print
// or a PDF has every plot. In the theme's colours.
(() => {
  "use strict";
  const expand = (columns) => {
    const names = Object.keys(columns);
    const first = columns[names[0]];
    const length = first ? (first.index || first).length : 0;
    const rows = new Array(length);
    for (let i = 0; i < length; i++) {
      const row = {};
      for (const name of names) {
        const column = columns[name];
        row[name] = column.index ? column.values[column.index[i]] : column[i];
      }
      rows[i] = row;
    }
    return rows;
  };
  const datasets = {};
  const dataset = (name) => {
    if (!datasets[name]) {
      datasets[name] = expand(JSON.parse(document.getElementById("data-" + name).textContent));
    }
    return datasets[name].map((row) => ({ ...row }));
  };
  const style = () => getComputedStyle(document.documentElement);
  const colour = (value, css) =>
    typeof value === "string" && value.startsWith("var(--")
      ? css.getPropertyValue(value.slice(4, -1)).trim()
      : Array.isArray(value)
        ? value.map((item) => colour(item, css))
        : value && typeof value === "object"
          ? Object.fromEntries(Object.entries(value).map(([key, item]) => [key, colour(item, css)]))
          : value;
  const config = {
    background: null,
    font: "system-ui, -apple-system, Segoe UI, Roboto, sans-serif",
    view: { stroke: null },
    axis: {
      labelColor: "var(--soft)", titleColor: "var(--soft)", gridColor: "var(--grid)",
      domainColor: "var(--line)", tickColor: "var(--line)", labelFontSize: 12, titleFontSize: 12,
      titleFontWeight: 500, titlePadding: 10, labelPadding: 5,
    },
    axisX: { tickCount: { signal: "max(3, ceil(width / 90))" } },
    legend: {
      labelColor: "var(--ink)", titleColor: "var(--soft)", labelFontSize: 12, titleFontSize: 12,
      titleFontWeight: 500, symbolOpacity: 1, labelLimit: 260,
    },
    header: { labelColor: "var(--ink)", titleColor: "var(--soft)", labelFontSize: 12 },
    title: { color: "var(--ink)" }, text: { color: "var(--ink)" }, rule: { color: "var(--soft)" },
  };
  const narrowLegends = (part) => {
    if (!part || typeof part !== "object") return;
    if (part.legend && part.legend.columns > 2) part.legend.columns = 2;
    Object.values(part).forEach(narrowLegends);
  };
  const draw = async (plot) => {
    const figure = plot.closest("figure");
    const spec = colour(JSON.parse(document.getElementById(plot.dataset.spec).textContent), style());
    spec.autosize = { type: "fit-x", contains: "padding" };
    // A hidden panel has no width: it gets that of the page.
    if (!plot.clientWidth) spec.width = document.getElementById("main").clientWidth - 60;
    spec.datasets = Object.fromEntries((plot.dataset.uses || "").split(" ").filter(Boolean).map((n) => [n, dataset(n)]));
    const narrow = (plot.clientWidth || document.getElementById("main").clientWidth) < 520;
    if (narrow) narrowLegends(spec);
    const legend = narrow ? { orient: "top", columns: 2 } : {};
    const theme = colour(config, style());
    Object.assign(theme.legend, legend);
    try {
      await vegaEmbed(plot, { ...spec, config: { ...theme, ...(spec.config || {}) } }, {
        actions: false, renderer: plot.dataset.renderer || "svg", ast: false,
      });
      figure.dataset.drawn = "yes";
    } catch (error) {
      plot.textContent = "This plot cannot be drawn (" + error.message + "); its numbers are in the table below.";
      figure.dataset.drawn = "failed";
    }
  };
  const seen = new Set();
  const observer = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting && !seen.has(entry.target)) {
        seen.add(entry.target);
        draw(entry.target);
      }
    }
  }, { rootMargin: "300px" });
  document.querySelectorAll(".plot[data-spec]").forEach((plot) => observer.observe(plot));
  // A plot in a hidden panel has no width: it is redrawn when it is shown.
  const again = () => seen.forEach((plot) => {
    if (plot.offsetParent) draw(plot);
    else { seen.delete(plot); observer.unobserve(plot); observer.observe(plot); }
  });
  const drawRest = async () => {
    for (const plot of document.querySelectorAll(".plot[data-spec]")) {
      if (seen.has(plot)) continue;
      seen.add(plot);
      await draw(plot);
      await new Promise((done) => setTimeout(done));
    }
    document.documentElement.dataset.drawn = "all";
  };
  addEventListener("load", () => setTimeout(drawRest, 50));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  let timer;
  let before = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth === before) return;
    before = innerWidth;
    clearTimeout(timer);
    timer = setTimeout(again, 250);
  });
  document.querySelectorAll("select[data-switch]").forEach((select) => {
    const show = () => document.querySelectorAll("[data-panel='" + select.dataset.switch + "']").forEach((panel) => {
      panel.hidden = panel.dataset.name !== select.value;
    });
    select.addEventListener("change", show);
    show();
  });
})();
