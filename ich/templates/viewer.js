// Slice viewer and caliper. Voxels come once, gzipped; windows, planes and outlines are drawn here, without the kernel.
// Lengths, ABC/2 and the saving of a reading are Python's: what is drawn goes there as `marks`, what it says comes back
// as `readout`.

const PRESETS = [["brain", 40, 80], ["blood", 60, 60], ["subdural", 75, 215], ["stroke", 36, 32], ["bone", 500, 2500]];
const PLANES = ["axial", "coronal", "sagittal"];
const WEIGHTS = [0, 1, 0.5];
const GRAB_PX = 9;
const HELP = [
  ["↑ ↓, wheel", "slice"], ["Page Up/Down", "five slices"], ["1 to 5", "window"], ["o", "outlines on, off"],
  ["+ −", "opacity"], ["p", "plane"], ["z, Ctrl + wheel", "zoom"], ["drag", "move the zoomed picture"], ["j", "index slice"],
];
const CALIPER_HELP = [
  ["a, b", "draw A, B: drag from end to end"], ["Shift", "B at a right angle to A"], ["w", "weight of this slice: 1, ½, 0"],
  ["Backspace", "clear"], ["s", "save"],
];

async function unpacked(view) {
  const stream = new Blob([view]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

function element(tag, className, parent, text = "") {
  const made = document.createElement(tag);
  made.className = className;
  if (text) made.textContent = text;
  parent.append(made);
  return made;
}

function button(text, title, parent, onClick) {
  const made = element("button", "", parent, text);
  made.type = "button";
  made.title = title;
  made.setAttribute("aria-pressed", "false");
  made.addEventListener("click", onClick);
  return made;
}

async function render({ model, el }) {
  const [nI, nJ, nK] = model.get("shape");
  const [mmI, mmJ] = model.get("spacing_mm");
  const mmK = model.get("slice_mm");
  const sources = model.get("sources");
  const measuring = model.get("caliper");
  const root = element("div", "ich-reader", el);
  root.tabIndex = 0;
  root.setAttribute("role", "application");
  root.setAttribute("aria-label", `CT viewer, ${nK} slices`);
  // JupyterLab would take a, b and other letters for its own commands.
  root.setAttribute("data-lm-suppress-shortcuts", "true");
  root.textContent = "…";
  const hu = new Int16Array(await unpacked(model.get("hu")));
  const bits = sources.length ? new Uint8Array(await unpacked(model.get("masks"))) : null;
  root.textContent = "";

  const view = {
    plane: 0, at: [model.get("slice"), nJ >> 1, nI >> 1], level: PRESETS[0][1], width: PRESETS[0][2],
    opacity: 0.8, shown: sources.map(() => true), zoom: 1, x: 0.5, y: 0.5, drawing: "", held: null, pointer: [0, 0],
  };
  const depths = [nK, nJ, nI];

  // ---- controls
  const bar = element("div", "bar", root);
  const presets = PRESETS.map(([name, level, width], n) =>
    button(name, `window ${level} ± ${width / 2} HU (key ${n + 1})`, bar, () => { view.level = level; view.width = width; draw(); }));
  const planes = PLANES.map((name, n) => button(name, "plane (key p)", bar, () => { view.plane = n; reset(); draw(); }));
  planes[0].classList.add("apart");
  const toggles = sources.map((source, n) => {
    const made = button(source.name, "outline on or off", bar, () => { view.shown[n] = !view.shown[n]; draw(); });
    made.style.setProperty("--mark", source.color);
    made.classList.add("source");
    return made;
  });
  let opacity = null;
  if (sources.length) {
    toggles[0].classList.add("apart");
    const label = element("label", "", bar, "opacity ");
    opacity = element("input", "", label);
    Object.assign(opacity, { type: "range", min: 0, max: 1, step: 0.05, value: view.opacity });
    opacity.addEventListener("input", () => { view.opacity = Number(opacity.value); draw(); });
  }
  const jump = button("index slice", "slice with the largest area (key j)", bar, toIndex);
  jump.classList.add("apart");
  const stage = element("div", "stage", root);
  const canvas = element("canvas", "", stage);
  const where = element("output", "where", stage);
  const slider = element("input", "slices", root);
  Object.assign(slider, { type: "range", min: 0, step: 1 });
  slider.setAttribute("aria-label", "slice");
  slider.addEventListener("input", () => { go(Number(slider.value)); });

  // ---- caliper
  let drawers = {}, strip = [], readout = null, message = null;
  if (measuring) {
    const panel = element("div", "caliper", root);
    const tools = element("div", "bar", panel);
    for (const name of ["a", "b"]) {
      drawers[name] = button(`draw ${name.toUpperCase()}`, `key ${name}`, tools, () => { view.drawing = view.drawing === name ? "" : name; draw(); });
      drawers[name].classList.add(name);
    }
    button("clear", "key Backspace", tools, clear);
    const save = button("save reading", "key s", tools, saveReading);
    save.classList.add("save");
    readout = element("output", "readout", panel);
    const row = element("div", "weights", panel);
    element("span", "", row, "weights, foot to head");
    strip = Array.from({ length: nK }, (_, k) => {
      const cell = button("", "", row, (event) => { if (view.at[0] === k && view.plane === 0) weigh(k); else { view.plane = 0; go(k); } event.currentTarget.blur(); root.focus(); });
      cell.className = "weight";
      return cell;
    });
    message = element("output", "message", panel);
    message.setAttribute("aria-live", "polite");
  }
  const help = element("details", "keys", root);
  element("summary", "", help, "keys and mouse");
  const list = element("dl", "", help);
  for (const [key, meaning] of measuring ? [...HELP, ...CALIPER_HELP] : HELP) {
    element("dt", "", list, key);
    element("dd", "", list, meaning);
  }

  // ---- state
  const marks = () => ({ index: -1, a: [], b: [], weights: {}, ...model.get("marks") });
  function mark(changed) {
    model.set("marks", { ...marks(), ...changed });
    model.save_changes();
    draw();
  }
  // With the marks themselves: changes of a widget wait for the kernel, a message does not.
  function saveReading() { model.send({ do: "save", marks: marks() }); }
  function clear() { mark({ index: -1, a: [], b: [], weights: {} }); }
  function weigh(k) {
    const now = marks();
    if (k === now.index) return; // the others are judged against it
    const weight = WEIGHTS[(WEIGHTS.indexOf(now.weights[k] ?? 0) + 1) % WEIGHTS.length];
    const weights = { ...now.weights, [k]: weight };
    if (!weight) delete weights[k];
    mark({ weights });
  }
  function toIndex() {
    const index = measuring && marks().index >= 0 ? marks().index : model.get("index_slice");
    if (index < 0) return;
    view.plane = 0;
    go(index);
  }
  function go(slice) {
    view.at[view.plane] = Math.min(Math.max(slice, 0), depths[view.plane] - 1);
    if (view.plane === 0) { model.set("slice", view.at[0]); model.save_changes(); }
    draw();
  }
  function reset() { view.zoom = 1; view.x = view.y = 0.5; }

  // ---- picture: columns, rows, their extents in mm, and the voxel that lies there
  const base = (k) => k * nI * nJ;
  function geometry() {
    const at = view.at[view.plane];
    if (view.plane === 0)
      return { columns: nI, rows: nJ, wide: nI * mmI, edges: null, high: nJ * mmJ, voxel: (x, y) => base(at) + y * nI + x };
    const edges = [0];
    for (let k = nK - 1; k >= 0; k--) edges.push(edges[edges.length - 1] + mmK[k]); // head on top
    const high = edges[nK];
    return view.plane === 1
      ? { columns: nI, rows: nK, wide: nI * mmI, edges, high, voxel: (x, y) => base(nK - 1 - y) + at * nI + x }
      : { columns: nJ, rows: nK, wide: nJ * mmJ, edges, high, voxel: (x, y) => base(nK - 1 - y) + x * nI + at };
  }
  const hidden = document.createElement("canvas");
  const colors = sources.map(({ color }) => [1, 3, 5].map((n) => parseInt(color.slice(n, n + 2), 16)));

  function paint(g) {
    hidden.width = g.columns;
    hidden.height = g.rows;
    const context = hidden.getContext("2d");
    const image = context.createImageData(g.columns, g.rows);
    const low = view.level - view.width / 2, factor = 255 / view.width;
    for (let y = 0, n = 0; y < g.rows; y++)
      for (let x = 0; x < g.columns; x++, n += 4) {
        const gray = (hu[g.voxel(x, y)] - low) * factor; // a clamped array rounds and limits
        image.data[n] = image.data[n + 1] = image.data[n + 2] = gray;
        image.data[n + 3] = 255;
      }
    for (let s = 0; s < sources.length; s++) {
      if (!view.shown[s]) continue;
      const bit = 1 << s;
      const on = (x, y) => x >= 0 && y >= 0 && x < g.columns && y < g.rows && bits[g.voxel(x, y)] & bit;
      for (let y = 0, n = 0; y < g.rows; y++)
        for (let x = 0; x < g.columns; x++, n += 4) {
          if (!on(x, y)) continue;
          const edge = !on(x - 1, y) || !on(x + 1, y) || !on(x, y - 1) || !on(x, y + 1);
          const share = view.opacity * (edge ? 1 : 0.12);
          for (let c = 0; c < 3; c++) image.data[n + c] += (colors[s][c] - image.data[n + c]) * share;
        }
    }
    context.putImageData(image, 0, 0);
  }

  let box = null; // of the picture on the canvas: left, top, pixels per mm
  function place(g) {
    const side = Math.max(240, Math.min(stage.clientWidth || 560, 640));
    const ratio = window.devicePixelRatio || 1;
    const tall = side * Math.min(1, g.high / g.wide);
    canvas.style.width = `${side}px`;
    canvas.style.height = `${tall}px`;
    canvas.width = Math.round(side * ratio);
    canvas.height = Math.round(tall * ratio);
    const scale = Math.min(side / g.wide, tall / g.high) * view.zoom;
    box = { scale, left: side / 2 - view.x * g.wide * scale, top: tall / 2 - view.y * g.high * scale, ratio, side, tall };
  }
  // Whole numbers are pixel centers, as in every table of the package.
  const toScreen = ([i, j]) => [box.left + (i + 0.5) * mmI * box.scale, box.top + (j + 0.5) * mmJ * box.scale];
  const toVoxel = ([x, y]) => [(x - box.left) / box.scale / mmI - 0.5, (y - box.top) / box.scale / mmJ - 0.5];

  function line(context, name, ends, color) {
    if (ends.length !== 2) return;
    const [from, to] = ends.map(toScreen);
    context.lineWidth = 2;
    context.strokeStyle = color;
    context.beginPath();
    context.moveTo(...from);
    context.lineTo(...to);
    context.stroke();
    for (const end of [from, to]) {
      context.beginPath();
      context.arc(...end, 4, 0, 2 * Math.PI);
      context.fillStyle = "#000a";
      context.fill();
      context.stroke();
    }
    context.fillStyle = color;
    context.font = "600 14px system-ui, sans-serif";
    context.fillText(name, to[0] + 8, to[1] - 6);
  }

  function draw() {
    const g = geometry();
    paint(g);
    place(g);
    const context = canvas.getContext("2d");
    context.setTransform(box.ratio, 0, 0, box.ratio, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, box.side, box.tall);
    context.imageSmoothingEnabled = view.zoom < 3;
    const wide = g.wide * box.scale;
    if (!g.edges) context.drawImage(hidden, box.left, box.top, wide, g.high * box.scale);
    else
      for (let y = 0; y < g.rows; y++)
        context.drawImage(hidden, 0, y, g.columns, 1, box.left, box.top + g.edges[y] * box.scale, wide, (g.edges[y + 1] - g.edges[y]) * box.scale + 0.5);
    context.fillStyle = "#cfcfcf";
    context.font = "12px system-ui, sans-serif";
    const sides = [["R", "L"], ["R", "L"], ["A", "P"]][view.plane]; // radiological view
    context.fillText(sides[0], 6, box.tall / 2);
    context.fillText(sides[1], box.side - 14, box.tall / 2);
    const now = marks();
    if (measuring && view.plane === 0 && view.at[0] === now.index) {
      line(context, "A", now.a, "#ffb000");
      line(context, "B", now.b, "#4cc9f0");
    }
    const at = view.at[view.plane];
    where.textContent = `${["slice", "row", "column"][view.plane]} ${at + 1} of ${depths[view.plane]}`;
    slider.max = depths[view.plane] - 1;
    slider.value = at;
    presets.forEach((made, n) => made.setAttribute("aria-pressed", PRESETS[n][1] === view.level && PRESETS[n][2] === view.width));
    planes.forEach((made, n) => made.setAttribute("aria-pressed", n === view.plane));
    toggles.forEach((made, n) => made.setAttribute("aria-pressed", view.shown[n]));
    if (opacity) opacity.value = view.opacity;
    jump.disabled = (measuring ? Math.max(now.index, model.get("index_slice")) : model.get("index_slice")) < 0;
    canvas.style.cursor = view.drawing ? "crosshair" : view.zoom > 1 ? "grab" : "default";
    if (!measuring) return;
    for (const name of ["a", "b"]) drawers[name].setAttribute("aria-pressed", view.drawing === name);
    strip.forEach((cell, k) => {
      const weight = now.weights[k] ?? 0;
      cell.textContent = { 0: "·", 0.5: "½", 1: "1" }[weight];
      cell.dataset.weight = weight;
      cell.classList.toggle("here", view.plane === 0 && k === view.at[0]);
      cell.classList.toggle("index", k === now.index);
      cell.setAttribute("aria-label", `slice ${k + 1}: weight ${weight}`);
      cell.title = `slice ${k + 1}: weight ${weight}` + (k === now.index ? ", index slice" : "; click again to change");
    });
    readout.textContent = model.get("readout");
    message.textContent = model.get("message");
  }

  // ---- mouse
  const point = (event) => {
    const frame = canvas.getBoundingClientRect();
    return [event.clientX - frame.left, event.clientY - frame.top];
  };
  function upright(from, to) { // the end of B that makes a right angle with A
    const a = marks().a;
    if (a.length !== 2) return to;
    const [u, v] = [(a[1][0] - a[0][0]) * mmI, (a[1][1] - a[0][1]) * mmJ];
    const length = Math.hypot(u, v) || 1;
    const along = ((to[0] - from[0]) * mmI * -v + (to[1] - from[1]) * mmJ * u) / length;
    return [from[0] + (along * -v) / length / mmI, from[1] + (along * u) / length / mmJ];
  }
  canvas.addEventListener("pointerdown", (event) => {
    root.focus({ preventScroll: true });
    const [x, y] = point(event);
    canvas.setPointerCapture(event.pointerId);
    const now = marks();
    if (measuring && view.plane === 0) {
      if (view.drawing) {
        const start = toVoxel([x, y]), name = view.drawing;
        const k = view.at[0];
        // A and B lie on one slice: drawn on another, the mark makes that the index slice, and the other goes.
        const weights = k === now.index ? now.weights : { ...now.weights, [k]: 1 };
        if (k !== now.index) mark({ a: [], b: [], index: k, weights });
        view.held = { name, fixed: start };
        mark({ [name]: [start, start] });
        return;
      }
      if (view.at[0] === now.index)
        for (const name of ["a", "b"])
          for (const end of [0, 1])
            if (now[name].length === 2) {
              const [u, v] = toScreen(now[name][end]);
              if (Math.hypot(u - x, v - y) < GRAB_PX) { view.held = { name, fixed: now[name][1 - end] }; return; }
            }
    }
    if (view.zoom > 1) view.held = { pan: [x, y], from: [view.x, view.y] };
  });
  canvas.addEventListener("pointermove", (event) => {
    view.pointer = point(event);
    if (!view.held) return;
    if (view.held.pan) {
      const g = geometry();
      view.x = view.held.from[0] - (view.pointer[0] - view.held.pan[0]) / box.scale / g.wide;
      view.y = view.held.from[1] - (view.pointer[1] - view.held.pan[1]) / box.scale / g.high;
      draw();
      return;
    }
    const { name, fixed } = view.held;
    let end = toVoxel(view.pointer);
    if (name === "b" && event.shiftKey) end = upright(fixed, end);
    mark({ [name]: [fixed, end] });
  });
  canvas.addEventListener("pointerup", () => {
    if (view.held && view.held.name) {
      const ends = marks()[view.held.name];
      const [from, to] = ends.map(toScreen);
      if (Math.hypot(from[0] - to[0], from[1] - to[1]) < 3) mark({ [view.held.name]: [] }); // a click draws nothing
      view.drawing = "";
    }
    view.held = null;
    draw();
  });
  function zoom(factor) {
    const g = geometry(), [x, y] = view.pointer;
    const inside = [(x - box.left) / box.scale / g.wide, (y - box.top) / box.scale / g.high];
    view.zoom = Math.min(Math.max(view.zoom * factor, 1), 8);
    if (view.zoom === 1) { view.x = view.y = 0.5; } else {
      const scale = Math.min(box.side / g.wide, box.tall / g.high) * view.zoom;
      view.x = inside[0] - (x - box.side / 2) / scale / g.wide;
      view.y = inside[1] - (y - box.tall / 2) / scale / g.high;
    }
    draw();
  }
  let turned = 0;
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    if (event.ctrlKey) { zoom(event.deltaY < 0 ? 1.25 : 0.8); return; }
    turned += event.deltaY; // a touchpad turns in small steps
    const steps = Math.trunc(turned / 40);
    if (steps) { turned = 0; go(view.at[view.plane] - Math.sign(steps)); }
  }, { passive: false });

  // ---- keys
  root.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || (event.target.tagName === "INPUT" && event.key.startsWith("Arrow"))) return;
    const at = view.at[view.plane];
    const keys = {
      ArrowUp: () => go(at + 1), ArrowDown: () => go(at - 1), PageUp: () => go(at + 5), PageDown: () => go(at - 5),
      o: () => { const any = view.shown.some(Boolean); view.shown = view.shown.map(() => !any); draw(); },
      "+": () => { view.opacity = Math.min(1, view.opacity + 0.1); draw(); },
      "-": () => { view.opacity = Math.max(0, view.opacity - 0.1); draw(); },
      p: () => { view.plane = (view.plane + 1) % 3; reset(); draw(); },
      z: () => { if (view.zoom > 1) { reset(); draw(); } else zoom(2); },
      j: toIndex,
    };
    PRESETS.forEach(([, level, width], n) => { keys[n + 1] = () => { view.level = level; view.width = width; draw(); }; });
    if (measuring)
      Object.assign(keys, {
        a: () => { view.drawing = "a"; draw(); }, b: () => { view.drawing = "b"; draw(); },
        w: () => { if (view.plane === 0) weigh(view.at[0]); }, Backspace: clear, s: saveReading,
        Escape: () => { view.drawing = ""; draw(); },
      });
    const found = keys[event.key] ?? keys[event.key.toLowerCase()];
    if (!found) return;
    event.preventDefault();
    event.stopPropagation();
    found();
  });

  model.on("change:readout", draw);
  model.on("change:message", draw);
  model.on("change:marks", draw);
  const resized = new ResizeObserver(() => draw());
  resized.observe(stage);
  draw();
  return () => resized.disconnect();
}

export default { render };
