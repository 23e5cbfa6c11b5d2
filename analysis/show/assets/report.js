// Draws the page's plots from its embedded data: those in view first, then all others, so that a print
// or a PDF has every plot. In the theme's colours. The view (images, duration, cells, clusters) is in the
// page's address, so that a link shows what its sender saw.
(() => {
  "use strict";
  const refuse = () => Promise.reject(new Error("this page loads nothing"));
  const loader = { load: refuse, sanitize: refuse, http: refuse, file: refuse };
  // vega-tooltip's own table would fetch the value of a field named "image" as a picture.
  const escapes = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
  const text = (value) => String(value).replace(/[&<>"']/g, (character) => escapes[character]);
  const formatTooltip = (value) =>
    value && typeof value === "object"
      ? "<table>" + Object.entries(value).map(([key, item]) =>
        `<tr><td class="key">${text(key)}</td><td class="value">${text(item)}</td></tr>`).join("") + "</table>"
      : text(value);

  const controls = [...document.querySelectorAll("[data-view]")];
  const sections = [...document.querySelectorAll("select[data-switch]")];
  const nameOf = (control) => control.dataset.view || control.dataset.switch;
  const initial = Object.fromEntries([...controls, ...sections].map((c) => [nameOf(c), c.value]));
  const readAddress = () => new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");
  const writeAddress = (at) => {
    const view = new URLSearchParams();
    for (const control of [...controls, ...sections]) {
      if (control.value !== initial[nameOf(control)]) view.set(nameOf(control), control.value);
    }
    if (at) view.set("at", at);
    history.replaceState(null, "", view.size ? "#" + view : location.pathname + location.search);
  };
  const applyAddress = () => {
    const view = readAddress();
    for (const control of [...controls, ...sections]) {
      const value = view.get(nameOf(control));
      if (value === null) continue;
      if (control.options && ![...control.options].some((option) => option.value === value)) continue;
      control.value = value;
    }
    return view.get("at");
  };
  const value = (name) => controls.find((control) => control.dataset.view === name)?.value ?? "";
  const wanted = () => value("images").toLowerCase().split(",").map((part) => part.trim()).filter(Boolean);

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
    datasets[name] ??= expand(JSON.parse(document.getElementById("data-" + name).textContent));
    const parts = wanted();
    const shown = (row) => {
      const image = typeof row.image === "string" ? row.image.toLowerCase() : null;
      return image === null || !parts.length || parts.some((part) => image.includes(part));
    };
    return datasets[name].filter(shown).map((row) => ({ ...row }));
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
  // Legends of bars have 4 columns, and room for one beside the bars' labels; others have 6 or more.
  const narrowLegends = (part) => {
    if (!part || typeof part !== "object") return;
    if (part.legend && part.legend.columns > 2) part.legend.columns = Math.min(2, Math.floor(part.legend.columns / 3));
    Object.values(part).forEach(narrowLegends);
  };
  const fit = (spec, room) => {
    if (!spec.facet) {
      spec.autosize = { type: "fit-x", contains: "padding" };
      return;
    }
    // Small multiples have a width of their own each: as many in a row as have 200 pixels.
    const columns = Math.max(1, Math.min(spec.facet.columns || spec.columns || 3, Math.floor(room / 240)));
    spec.columns = columns;
    spec.spec.width = Math.max(140, Math.floor((room - 70) / columns) - 24);
  };
  const draw = async (plot) => {
    const figure = plot.closest("figure");
    const spec = colour(JSON.parse(document.getElementById(plot.dataset.spec).textContent), style());
    const room = plot.clientWidth || document.getElementById("main").clientWidth - 60;
    fit(spec, room);
    // A hidden panel has no width: it gets that of the page.
    if (!plot.clientWidth && !spec.facet) spec.width = room;
    spec.datasets = Object.fromEntries((plot.dataset.uses || "").split(" ").filter(Boolean).map((n) => [n, dataset(n)]));
    if (wanted().length && Object.values(spec.datasets).some((rows) => !rows.length)) {
      plot.textContent = "No data here for the chosen images.";
      figure.dataset.drawn = "empty";
      return;
    }
    for (const param of spec.params || []) if (value(param.name)) param.value = value(param.name);
    const narrow = room < 520;
    if (narrow) narrowLegends(spec);
    const legend = narrow ? { orient: "top", columns: 2, gradientLength: Math.max(80, Math.min(200, room - 190)) } : {};
    const theme = colour(config, style());
    Object.assign(theme.legend, legend);
    try {
      await vegaEmbed(plot, { ...spec, config: { ...theme, ...(spec.config || {}) } }, {
        actions: false, renderer: plot.dataset.renderer || "svg", ast: true, loader,
        tooltip: { formatTooltip },
      });
      figure.dataset.drawn = "yes";
    } catch (error) {
      plot.textContent = "This plot cannot be drawn (" + error.message + "); its numbers are in the tables.";
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
  const plots = [...document.querySelectorAll(".plot[data-spec]")];
  // A plot in a hidden panel has no width: it is redrawn when it is shown.
  const again = () => seen.forEach((plot) => {
    if (plot.offsetParent) draw(plot);
    else { seen.delete(plot); observer.unobserve(plot); observer.observe(plot); }
  });
  const drawRest = async () => {
    for (const plot of plots) {
      if (seen.has(plot)) continue;
      seen.add(plot);
      await draw(plot);
      await new Promise((done) => setTimeout(done));
    }
    document.documentElement.dataset.drawn = "all";
  };
  const showPanels = () => sections.forEach((select) => {
    document.querySelectorAll("[data-panel='" + select.dataset.switch + "']").forEach((panel) => {
      panel.hidden = panel.dataset.name !== select.value;
    });
  });
  const at = applyAddress();
  showPanels();
  plots.forEach((plot) => observer.observe(plot));
  if (at) document.getElementById(at)?.scrollIntoView();
  addEventListener("load", () => setTimeout(drawRest, 50));
  addEventListener("hashchange", () => {
    if (!location.hash.includes("=")) return;
    const place = applyAddress();
    showPanels();
    again();
    if (place) document.getElementById(place)?.scrollIntoView();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  let timer;
  let before = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth === before) return;
    before = innerWidth;
    clearTimeout(timer);
    timer = setTimeout(again, 250);
  });
  sections.forEach((select) => select.addEventListener("change", () => { showPanels(); writeAddress(); }));
  controls.forEach((control) => control.addEventListener("input", () => {
    writeAddress();
    clearTimeout(timer);
    timer = setTimeout(again, 150);
  }));
  document.querySelectorAll("a[data-link]").forEach((link) => link.addEventListener("click", (event) => {
    event.preventDefault();
    writeAddress(link.dataset.link);
    document.getElementById(link.dataset.link).scrollIntoView();
  }));
})();
