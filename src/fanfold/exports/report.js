"use strict";
// Draws the timeline and the table of a run from the data in this page. Text of agents only ever becomes text: no markup
// is made of strings anywhere. Rows are drawn where they can be seen, so that thousands cost what a screenful does.
(() => {
  const run = JSON.parse(document.getElementById("data").textContent);
  const tasks = run.tasks.map((row, index) => {
    const task = { index };
    run.fields.forEach((field, at) => { task[field] = row[at]; });
    return task;
  });
  const byId = new Map(tasks.map((task) => [task.id, task]));
  const ROW = 20, BAR = 12, GUTTER = 230, EDGE = 12, AXIS = 18, SPACE = "http://www.w3.org/2000/svg";
  const FIRST = 100; // rows of the table before it is asked for all of them
  const WHOLE = Math.max(run.end, 1e-6);
  const view = { from: 0, to: WHOLE, shown: tasks, chosen: -1, sort: "", down: false, all: false };
  const $ = (id) => document.getElementById(id);
  const timeline = $("timeline"), rows = $("rows"), strip = $("strip");

  const svg = (kind, attributes = {}, text) => {
    const element = document.createElementNS(SPACE, kind);
    for (const name in attributes) element.setAttribute(name, attributes[name]);
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const html = (kind, text, attributes = {}) => {
    const element = document.createElement(kind);
    for (const name in attributes) element.setAttribute(name, attributes[name]);
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const seconds = (value) => value === null ? "" : `${value.toFixed(value < 100 ? 3 : 1)} s`;
  const count = (number, what) => `${number.toLocaleString("en")} ${what}${number === 1 ? "" : "s"}`;
  const width = () => Math.max(200, timeline.clientWidth);
  const scale = () => (width() - GUTTER - EDGE) / (view.to - view.from);
  const place = (at) => GUTTER + (at - view.from) * scale();
  const short = (text, most) => text.length > most ? text.slice(0, most - 1) + "…" : text;

  // Patterns: what waits is hatched, so that no state is told by colour alone.
  const patterns = () => {
    const defs = svg("defs");
    [["waiting", 45], ["limited", 135], ["stood", 90], ["locked", 0]].forEach(([name, angle]) => {
      const pattern = svg("pattern", { id: `hatch-${name}`, width: 5, height: 5, patternUnits: "userSpaceOnUse",
        patternTransform: `rotate(${angle})` });
      pattern.append(svg("line", { x1: 0, y1: 0, x2: 0, y2: 5, class: `hatch hatch-${name}` }));
      defs.append(pattern);
    });
    const clip = svg("clipPath", { id: "plot" });
    clip.append(svg("rect", { x: GUTTER, y: 0, width: width() - GUTTER, height: 100000 }));
    defs.append(clip);
    return defs;
  };
  // How each part of a life is drawn; those that are not named here are waits of some kind, and hatched.
  const KINDS = { working: "working", blocking: "blocked", children: "paused", barrier: "barrier", "held up": "stood",
    lock: "locked", thread: "locked", GIL: "locked", "rate gate": "limited", budget: "limited", memory: "limited",
    provider: "limited" };
  const kinds = run.parts.map((part) => KINDS[part] || "waiting");

  // The time axis: steps of 1, 2 or 5.
  const ticks = () => {
    const rough = (view.to - view.from) / Math.max(2, (width() - GUTTER) / 90);
    const size = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((by) => by * size).find((by) => by >= rough);
    const found = [];
    for (let at = Math.ceil(view.from / step) * step; at <= view.to; at += step) found.push(at);
    return { found, digits: Math.max(0, Math.min(6, -Math.floor(Math.log10(step) + 1e-9))) };
  };

  const bands = (into, height, named) => {
    run.steps.forEach(([step, start, end]) => {
      if (end < view.from || start > view.to) return;
      const left = Math.max(place(start), GUTTER), right = Math.min(place(end), width() - EDGE);
      if (step % 2) into.append(svg("rect", { class: "band", x: left, y: 0, width: Math.max(0, right - left), height }));
      if (named && right - left > 60) into.append(svg("text", { x: left + 3, y: 12, class: "soft" }, `step ${step}`));
    });
  };

  const drawStrip = () => {
    const high = 72, base = high - AXIS, top = 16;
    const most = Math.max(run.limit || 0, ...run.working.map((pair) => pair[1]), 1);
    const level = (number) => base - (base - top) * number / most;
    const picture = svg("svg", { width: width(), height: high, viewBox: `0 0 ${width()} ${high}` });
    bands(picture, base, true);
    const area = (changes, kind) => {
      // The most in each column of pixels: what lasted less than one is still seen.
      const columns = Math.ceil(width() - GUTTER - EDGE), peaks = new Array(columns).fill(0);
      changes.forEach(([at, number], index) => {
        const until = index + 1 < changes.length ? changes[index + 1][0] : run.end;
        if (until < view.from || at > view.to) return;
        const first = Math.max(0, Math.floor((at - view.from) * scale()));
        const last = Math.min(columns - 1, Math.ceil((until - view.from) * scale()) - 1);
        for (let x = first; x <= Math.max(first, last) && x < columns; x++) peaks[x] = Math.max(peaks[x], number);
      });
      let path = `M${GUTTER} ${base}`, before = 0;
      peaks.forEach((peak, x) => {
        if (peak !== before) path += `L${GUTTER + x} ${level(before)}L${GUTTER + x} ${level(peak)}`;
        before = peak;
      });
      picture.append(svg("path", { class: kind, d: `${path}L${GUTTER + columns} ${level(before)}L${GUTTER + columns} ${base}Z` }));
    };
    area(run.working, "working");
    if (run.limit) {
      picture.append(svg("line", { class: "limit", x1: GUTTER, x2: width() - EDGE, y1: level(run.limit), y2: level(run.limit) }));
    }
    picture.append(svg("text", { x: 6, y: 28 }, "at work at once"));
    picture.append(svg("text", { x: 6, y: 44, class: "soft" }, `peak ${run.peak}` + (run.limit ? `, limit ${run.limit}` : "")));
    const { found, digits } = ticks();
    found.forEach((at) => {
      picture.append(svg("line", { class: "grid", x1: place(at), x2: place(at), y1: base, y2: base + 4 }));
      const anchor = place(at) > width() - 40 ? "end" : "middle";
      picture.append(svg("text", { x: place(at), y: high - 3, class: "soft", "text-anchor": anchor }, `${at.toFixed(digits)} s`));
    });
    strip.replaceChildren(picture);
  };

  const bar = (into, start, end, y, height, kind, words) => {
    if (end < view.from || start > view.to) return;
    const left = Math.max(place(start), GUTTER), right = Math.min(place(end), width() - EDGE);
    const rect = svg("rect", { class: kind, x: left, y, width: Math.max(1, right - left), height });
    if (words) rect.append(svg("title", {}, words));
    into.append(rect);
  };

  const describe = (task) => [
    `${task.name}${task.label ? ` (${task.label})` : ""}, ${task.role}, step ${task.step}, ${task.status}`,
    `ready at ${seconds(task.queued)}`, task.started === null ? "never began" : `began at ${seconds(task.started)}`,
    task.ended === null ? "not over" : `ended at ${seconds(task.ended)}`,
    `worked ${seconds(task.work)}`, task.waited ? `waited ${seconds(task.waited)}` : "",
    task.held ? `held the event loop for ${seconds(task.held)}` : "", task.critical ? "on the critical path" : "",
  ].filter(Boolean).join(", ");

  const drawRow = (task, at) => {
    const y = at * ROW, mid = y + (ROW - BAR) / 2;
    const row = svg("g", { role: "option", id: `row-${task.index}`, "aria-label": describe(task), "data-at": at,
      "aria-selected": task.index === view.chosen, "aria-posinset": at + 1, "aria-setsize": view.shown.length });
    row.append(svg("rect", { class: task.index === view.chosen ? "chosen" : "band", x: 0, y, width: width(), height: ROW,
      "fill-opacity": task.index === view.chosen ? 1 : 0 }));
    const bars = svg("g", { "clip-path": "url(#plot)" });
    if (task.critical) bar(bars, task.queued, task.end, y + ROW - 3, 2, "critical", "on the critical path");
    let last = -1;
    for (let i = 0; i < task.stretches.length; i += 4) {
      const [start, end, part, says] = task.stretches.slice(i, i + 4);
      const right = Math.round(place(end));
      if (right === last && (end - start) * scale() < 1) continue; // a hundred in one pixel look like one
      last = right;
      if (kinds[part] === "blocked") continue; // drawn below, with where its code was
      bar(bars, start, end, mid, BAR, kinds[part], `${task.name}: ${run.says[says]}, ${seconds(end - start)}`);
    }
    task.blocks.forEach(([start, end, where]) => bar(bars, start, end, mid - 2, BAR + 4, "blocked",
      `${task.name} blocks the event loop for ${seconds(end - start)}${where ? ` in ${where}` : ""}`));
    task.requests.forEach(([start, end, model, error]) => bar(bars, start, end, mid + BAR - 3, 3, error ? "failed" : "model",
      `${model}, ${seconds(end - start)}${error ? `: ${error}` : ""}`));
    row.append(bars);
    const mark = { failed: "✕ ", cancelled: "■ ", lost: "■ ", interrupted: "? ", remembered: "↺ " }[task.status] || "";
    const name = svg("text", { x: 6 + 14 * Math.min(task.depth, 5), y: y + 14 },
      short(`${task.critical ? "◆ " : ""}${mark}${task.name}${task.label ? ` · ${task.label}` : ""}`, 32 - 2 * Math.min(task.depth, 5)));
    if (task.status === "failed") name.setAttribute("class", "failed");
    name.append(svg("title", {}, `${task.name} ${task.label}`));
    row.append(name);
    return row;
  };

  let printing = false;
  const drawRows = () => {
    const height = view.shown.length * ROW;
    const visible = printing ? Math.min(height, 150 * ROW) : Math.min(timeline.clientHeight || 600, Math.max(height, ROW));
    rows.style.height = `${printing ? visible : height}px`;
    const first = printing ? 0 : Math.max(0, Math.floor(timeline.scrollTop / ROW) - 2);
    const end = Math.min(view.shown.length, first + Math.ceil(visible / ROW) + 5);
    const high = Math.max(ROW, (end - first) * ROW);
    const picture = svg("svg", { width: width(), height: high, viewBox: `0 0 ${width()} ${high}`, role: "presentation" });
    picture.style.top = `${first * ROW}px`;
    picture.append(patterns());
    bands(picture, (end - first) * ROW, false);
    ticks().found.forEach((at) => {
      picture.append(svg("line", { class: "grid", x1: place(at), x2: place(at), y1: 0, y2: (end - first) * ROW }));
    });
    view.shown.slice(first, end).forEach((task, at) => {
      const row = drawRow(task, at);
      row.setAttribute("aria-posinset", first + at + 1);
      row.setAttribute("data-at", first + at);
      picture.append(row);
    });
    rows.replaceChildren(picture);
    if (view.chosen >= 0) timeline.setAttribute("aria-activedescendant", `row-${view.chosen}`);
    else timeline.removeAttribute("aria-activedescendant");
  };

  let asked = false;
  const redraw = () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => { asked = false; drawStrip(); drawRows(); });
  };

  // Choosing a task.
  const detail = (list, name, text) => { if (text) list.append(html("dt", name), html("dd", text)); };
  const choose = (task, scroll = true) => {
    view.chosen = task.index;
    const at = view.shown.indexOf(task);
    if (scroll && at >= 0) {
      const y = at * ROW;
      if (y < timeline.scrollTop) timeline.scrollTop = y;
      else if (y + ROW > timeline.scrollTop + timeline.clientHeight) timeline.scrollTop = y + ROW - timeline.clientHeight;
    }
    drawRows();
    const list = html("dl");
    detail(list, "what", describe(task));
    detail(list, "label", task.label);
    detail(list, "error", task.error);
    detail(list, "after", task.after.map((id) => byId.has(id) ? byId.get(id).name : id).join(", "));
    detail(list, "called by", task.parent && byId.has(task.parent) ? byId.get(task.parent).name : "");
    detail(list, "held back by", task.behind ? `${task.behind}, ${seconds(task.barrier)}` : "");
    detail(list, "blocked", task.blocks.map(([start, end, where]) => `${seconds(end - start)} at ${seconds(start)} ${where}`).join("\n"));
    detail(list, "models", task.requests.map(([start, end, model, error, taken, given]) =>
      `${model}: ${seconds(end - start)}, ${count(taken + given, "token")}${error ? `, ${error}` : ""}`).join("\n"));
    detail(list, "tools", task.used.map(([at, tool, what]) => `${seconds(at)} ${tool} ${what}`).join("\n"));
    detail(list, "cost", task.cost === null ? "" : `$${task.cost.toFixed(4)}`);
    $("details").replaceChildren(html("h3", task.name), list);
  };

  const zoom = (by, around = (view.from + view.to) / 2) => {
    const least = WHOLE / 1e5;
    const span = Math.min(WHOLE, Math.max(least, (view.to - view.from) * by));
    const share = (around - view.from) / (view.to - view.from);
    move(around - share * span, span);
  };
  const move = (from, span = view.to - view.from) => {
    view.from = Math.max(0, Math.min(from, WHOLE - span));
    view.to = view.from + span;
    redraw();
  };
  const step = (by) => {
    if (!view.shown.length) return;
    const now = view.shown.findIndex((task) => task.index === view.chosen);
    choose(view.shown[Math.max(0, Math.min(view.shown.length - 1, now < 0 ? 0 : now + by))]);
  };
  const page = () => Math.max(1, Math.floor(timeline.clientHeight / ROW) - 1);
  const KEYS = {
    ArrowDown: () => step(1), ArrowUp: () => step(-1), PageDown: () => step(page()), PageUp: () => step(-page()),
    Home: () => step(-Infinity), End: () => step(Infinity),
    ArrowLeft: () => move(view.from - (view.to - view.from) / 5), ArrowRight: () => move(view.from + (view.to - view.from) / 5),
    "+": () => zoom(0.6), "=": () => zoom(0.6), "-": () => zoom(1 / 0.6), 0: () => move(0, WHOLE),
  };
  timeline.addEventListener("keydown", (event) => {
    const action = event.ctrlKey || event.metaKey || event.altKey ? undefined : KEYS[event.key];
    if (action) { event.preventDefault(); action(); }
  });
  timeline.addEventListener("focus", () => { if (view.chosen < 0 && timeline.matches(":focus-visible")) step(0); });
  timeline.addEventListener("scroll", redraw, { passive: true });
  timeline.addEventListener("click", (event) => {
    const row = event.target.closest("[data-at]");
    if (row) choose(view.shown[Number(row.getAttribute("data-at"))], false);
  });
  const wheel = (event) => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    const x = event.clientX - timeline.getBoundingClientRect().left;
    zoom(event.deltaY > 0 ? 1.25 : 0.8, view.from + Math.max(0, x - GUTTER) / scale());
  };
  timeline.addEventListener("wheel", wheel, { passive: false });
  strip.addEventListener("wheel", wheel, { passive: false });
  $("zoom-in").addEventListener("click", () => zoom(0.6));
  $("zoom-out").addEventListener("click", () => zoom(1 / 0.6));
  $("zoom-all").addEventListener("click", () => move(0, WHOLE));
  addEventListener("resize", redraw);
  addEventListener("beforeprint", () => { printing = true; drawStrip(); drawRows(); });
  addEventListener("afterprint", () => { printing = false; redraw(); });

  // The table.
  const COLUMNS = [
    ["name", "task"], ["role", "role"], ["step", "step", 1], ["status", "state"], ["queued", "ready", 1, seconds],
    ["started", "began", 1, seconds], ["ended", "ended", 1, seconds], ["work", "worked", 1, seconds],
    ["waited", "waited", 1, seconds], ["barrier", "held back", 1, seconds], ["held", "blocked", 1, seconds],
    ["tokens", "tokens", 1, (value) => value.toLocaleString("en")], ["calls", "tools", 1], ["error", "error"],
  ];
  const drawTable = () => {
    const shown = view.all ? view.shown : view.shown.slice(0, FIRST);
    const body = document.createDocumentFragment();
    shown.forEach((task) => {
      const row = html("tr");
      if (task.critical) row.className = "critical-row";
      COLUMNS.forEach(([field, , number, form], at) => {
        const value = task[field];
        const text = form ? form(value) : value === null ? "" : String(value);
        const first = `${task.critical ? "◆ " : ""}${text}${task.label ? ` · ${short(task.label, 80)}` : ""}`;
        const cell = html(at ? "td" : "th", at ? short(text, 300) : first);
        if (!at) cell.scope = "row";
        if (number) cell.className = "number";
        row.append(cell);
      });
      body.append(row);
    });
    document.querySelector("#tasks tbody").replaceChildren(body);
    const rest = view.shown.length - shown.length;
    $("more").hidden = rest <= 0;
    $("more").textContent = `Show all ${count(view.shown.length, "task")}`;
  };
  const order = (field, down) => (one, other) => {
    const a = one[field], b = other[field];
    if (a === b) return one.index - other.index;
    if (a === null || b === null) return a === null ? 1 : -1; // what is not known comes last, either way round
    return (a < b ? -1 : 1) * (down ? -1 : 1);
  };
  const heads = document.querySelector("#tasks thead tr");
  COLUMNS.forEach(([field, title, number]) => {
    const head = html("th", undefined, { scope: "col", "aria-sort": "none" });
    if (number) head.className = "number";
    const button = html("button", title, { type: "button" });
    button.addEventListener("click", () => {
      view.down = view.sort === field ? !view.down : Boolean(number);
      view.sort = field;
      for (const other of heads.children) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", view.down ? "descending" : "ascending");
      arrange();
    });
    head.append(button);
    heads.append(head);
  });
  $("more").addEventListener("click", () => { view.all = true; drawTable(); });

  // Which tasks are shown, in the timeline and in the table.
  const arrange = () => {
    const text = $("filter").value.trim().toLowerCase(), status = $("status").value, critical = $("only-critical").checked;
    view.shown = tasks.filter((task) => (!critical || task.critical) && (!status || task.status === status)
      && (!text || `${task.name} ${task.label} ${task.error}`.toLowerCase().includes(text)));
    if (view.sort) view.shown.sort(order(view.sort, view.down));
    $("shown").textContent = view.shown.length === tasks.length ? count(tasks.length, "task")
      : `${view.shown.length.toLocaleString("en")} of ${count(tasks.length, "task")}`;
    drawRows();
    drawTable();
  };
  [...new Set(tasks.map((task) => task.status))].sort().forEach((status) => {
    $("status").append(html("option", status, { value: status }));
  });
  $("filter").addEventListener("input", arrange);
  $("status").addEventListener("input", arrange);
  $("only-critical").addEventListener("input", arrange);

  // The legend, and what the strip shows, in words.
  const legend = document.querySelector(".legend");
  [["working", "works"], ["waiting", "waits for its turn or a limit"], ["limited", "waits for a rate, a budget, a server"],
    ["stood", "held up: others hold the event loop"], ["locked", "waits for a lock, a thread, the GIL"],
    ["paused", "paused: its agents work"],
    ["blocked", "blocks the event loop"], ["model", "a model's request"], ["critical", "◆ critical path"],
    ["barrier", "held back at a barrier"]].forEach(([kind, words]) => {
    const item = html("li"), picture = svg("svg", { "aria-hidden": "true" });
    picture.append(svg("rect", { class: kind, x: 1, y: 1, width: 22, height: 10 }));
    item.append(picture, words);
    legend.append(item);
  });
  $("strip-words").textContent = `At most ${count(run.peak, "task")} at work at once`
    + (run.limit ? `, of ${run.limit} allowed.` : ", without a limit.");

  drawStrip();
  arrange();
  document.documentElement.dataset.ready = Math.round(performance.now()); // milliseconds since it was opened
})();
