// Draws the newest snapshot of a picture, and answers the reader without asking the kernel:
// a cursor that reads values (pointer or arrow keys) and names that hide their line.
// The model's traits are state: each snapshot holds all that is to be seen, so none can be missed.

const SVG = "http://www.w3.org/2000/svg";
const MOST_VALUES = 12; // in the cursor's list
const ALOUD_EVERY = 5000; // ms between two sentences for a screen reader
const AIMED_FOR = 1000; // ms that a name stays the one aimed at, though it has moved away since

export default {
  render({ model, el }) {
    const plot = new Plot(el);
    const draw = () => plot.draw(model.get("snapshot"));
    const changed = () => plot.soon(draw);
    model.on("change:snapshot", changed);
    draw();
    return () => model.off("change:snapshot", changed);
  },
};

class Plot {
  constructor(el) {
    this.root = append(el, "div", { class: "pdl-plot" });
    this.status = append(this.root, "div", { class: "pdl-status" });
    this.svg = append(this.root, "svg", { role: "group", tabindex: 0, "data-frames": 0 });
    this.still = append(this.svg, "g");
    this.lines = append(this.svg, "g", { role: "img" }); // not the whole: the names in it are controls
    this.cursor = append(this.svg, "g", { class: "pdl-cursor" });
    this.values = append(this.root, "div", { class: "pdl-values", hidden: "" });
    this.aloud = append(this.root, "div", { class: "pdl-aloud", "aria-live": "polite" });
    this.away = new Set(); // labels of the lines the reader has hidden
    this.at = null; // the cursor: { frame, index, x }, and `newest` where it follows the newest point
    this.aimed = null; // the name that the pointer came to last: { label, when }
    this.said = 0;
    this.svg.addEventListener("pointermove", (event) => this.point(event));
    this.svg.addEventListener("pointerleave", () => this.leave());
    this.svg.addEventListener("pointerdown", (event) => this.press(event));
    this.svg.addEventListener("keydown", (event) => this.key(event));
  }

  // One frame for however many snapshots came since the last one.
  soon(draw) {
    if (this.waiting) return;
    this.waiting = true;
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const frame = () => requestAnimationFrame(() => ((this.waiting = false), draw()));
    calm ? setTimeout(frame, 500) : frame();
  }

  draw(snapshot) {
    if (!snapshot || !snapshot.markup) return;
    this.snapshot = snapshot;
    this.curves = unpack(snapshot);
    this.svg.setAttribute("viewBox", `0 0 ${snapshot.width} ${snapshot.height}`);
    for (const named of [this.svg, this.lines]) set(named, { "aria-label": snapshot.alt });
    this.redrawStill(snapshot.markup);
    this.redrawLines();
    this.moveCursor();
    if (this.status.textContent !== snapshot.status) this.status.textContent = snapshot.status;
    this.say(snapshot.status);
    this.svg.dataset.frames = Number(this.svg.dataset.frames) + 1;
  }

  // Everything but the lines comes as markup; the name that has the focus keeps it.
  redrawStill(markup) {
    const focused = this.still.contains(document.activeElement) && document.activeElement.dataset.label;
    this.still.innerHTML = markup;
    for (const name of this.still.querySelectorAll("[data-label]")) {
      const { label } = name.dataset;
      set(name, { tabindex: 0, role: "checkbox", "aria-label": label, "aria-checked": !this.away.has(label) });
      name.classList.toggle("pdl-away", this.away.has(label));
      if (label === focused) name.focus({ preventScroll: true });
    }
  }

  redrawLines() {
    const strokes = this.curves.filter(({ label }) => !this.away.has(label)).flatMap(strokesOf);
    while (this.lines.childElementCount > strokes.length) this.lines.lastChild.remove();
    strokes.forEach((stroke, i) => set(this.lines.children[i] || append(this.lines, "path"), stroke));
  }

  // --- the cursor

  point(event) {
    this.aimed = { label: labelAt(event.target), when: event.timeStamp };
    const place = new DOMPoint(event.clientX, event.clientY).matrixTransform(this.svg.getScreenCTM().inverse());
    const frame = this.snapshot?.frames.findIndex(
      ({ left, top, width, height }) =>
        place.x >= left && place.x <= left + width && place.y >= top && place.y <= top + height,
    );
    if (!(frame >= 0)) return this.leave();
    const longest = this.longest(frame);
    if (longest) this.at = { frame, index: nearest(longest.points, place.x) };
    this.moveCursor();
  }

  leave() {
    this.at = null;
    this.moveCursor();
  }

  key(event) {
    if (event.target.dataset.label && (event.key === "Enter" || event.key === " ")) this.toggle(event.target.dataset.label);
    else if (event.key === "Escape") this.leave();
    else if (!this.step(event.key)) return;
    event.preventDefault();
    event.stopPropagation(); // arrows and Enter are not for the notebook
  }

  step(key) {
    const frames = this.snapshot?.frames.length;
    if (!frames) return false;
    const frame = this.at?.frame ?? 0;
    const last = (this.longest(frame)?.points.length ?? 0) / 2 - 1;
    const index = Math.min(this.at?.index ?? last, last);
    const moves = {
      ArrowLeft: { frame, index: this.at ? Math.max(index - 1, 0) : last },
      ArrowRight: { frame, index: Math.min(index + 1, last) },
      Home: { frame, index: 0 },
      End: { frame, index: last, newest: true },
      ArrowUp: { frame: (frame + frames - 1) % frames, index },
      ArrowDown: { frame: (frame + 1) % frames, index },
    };
    if (!moves[key] || last < 0) return false;
    this.at = moves[key];
    this.moveCursor();
    this.said = 0;
    this.say(this.values.innerText.replaceAll("\n", ", "));
    return true;
  }

  // Panels with the same x show their own point nearest to the one that is read.
  moveCursor() {
    this.cursor.replaceChildren();
    this.values.hidden = !this.at;
    if (!this.at) return;
    const here = this.snapshot.frames[this.at.frame];
    const longest = here && this.longest(this.at.frame);
    if (!longest) return this.leave();
    this.at.index = this.indexIn(longest.points, here);
    const px = longest.points[2 * this.at.index];
    const x = value((px - here.left) / here.width, here.x);
    this.at.x ??= x;
    this.snapshot.frames.forEach((frame, i) => {
      if (frame.x.label === here.x.label) this.mark(frame, i, x);
    });
    this.list(here, x, px);
  }

  // A cursor stays on its x: a longer curve has other points, for no more are sent than pixels.
  indexIn(points, { left, width, x }) {
    const { newest, x: before, index } = this.at;
    const last = points.length / 2 - 1;
    if (newest) return last;
    return before === undefined ? Math.min(index, last) : nearest(points, left + width * fraction(before, x));
  }

  mark(frame, i, x) {
    const px = frame.left + frame.width * fraction(x, frame.x);
    const points = this.read(i, px);
    if (!points.length) return;
    append(this.cursor, "line", { x1: px, x2: px, y1: frame.top, y2: frame.top + frame.height });
    for (const { curve, at } of points) {
      const [cx, cy] = curve.points.subarray(2 * at, 2 * at + 2);
      append(this.cursor, "circle", { cx, cy, r: 3, fill: curve.colour });
    }
  }

  list(frame, x, px) {
    const read = this.read(this.at.frame, px).sort((a, b) => b.value - a.value);
    const half = MOST_VALUES / 2;
    const shown = read.length > MOST_VALUES ? [...read.slice(0, half), ...read.slice(-half)] : read;
    this.values.replaceChildren();
    append(this.values, "div").textContent = `${frame.x.label} ${write(x, frame.x.unit)}`;
    for (const { curve, value } of shown) {
      const row = append(this.values, "div");
      append(row, "i").style.background = curve.colour;
      row.append(`${curve.label} ${write(value, frame.y.unit)}`);
    }
    const scale = this.svg.clientWidth / this.snapshot.width;
    const above = this.svg.getBoundingClientRect().top - this.root.getBoundingClientRect().top;
    this.values.style.top = `${above + frame.top * scale}px`;
    // over the names, which it says again, and not over the curves
    const left = (frame.left + frame.width) * scale + 8;
    this.values.style.left = `${Math.min(left, this.svg.clientWidth - this.values.offsetWidth)}px`;
  }

  // The lines of a panel that are to be seen, each with its value nearest to this place.
  read(frame, px) {
    const { top, height, y } = this.snapshot.frames[frame];
    return this.curves
      .filter((curve) => curve.panel === frame && !this.away.has(curve.label) && curve.points.length)
      .map((curve) => ({ curve, at: nearest(curve.points, px) }))
      .map(({ curve, at }) => ({ curve, at, value: value((top + height - curve.points[2 * at + 1]) / height, y) }))
      .filter((each) => Number.isFinite(each.value));
  }

  longest(frame) {
    return this.curves
      .filter((curve) => curve.panel === frame && curve.points.length)
      .reduce((best, curve) => (best && best.points.length >= curve.points.length ? best : curve), null);
  }

  // Names follow their curves: one that moved on while the reader aimed at it is still meant.
  press(event) {
    const aimed = this.aimed && event.timeStamp - this.aimed.when < AIMED_FOR && this.aimed.label;
    this.toggle(aimed || labelAt(event.target));
  }

  toggle(label) {
    if (!label) return;
    this.away.has(label) ? this.away.delete(label) : this.away.add(label);
    this.redrawStill(this.snapshot.markup);
    this.redrawLines();
    this.moveCursor();
  }

  say(text) {
    const now = Date.now();
    if (!text || text === this.aloud.textContent || now - this.said < ALOUD_EVERY) return;
    this.said = now;
    this.aloud.textContent = text;
  }
}

// The points of all curves, in px, are one row of float32: each x that there is, then every y.
function unpack({ rows, points, curves }) {
  const bytes = Uint8Array.from(atob(points), (letter) => letter.charCodeAt(0));
  const floats = new Float32Array(bytes.buffer);
  let from = 0;
  const take = (count) => floats.subarray(from, (from += count));
  const xs = rows.map(take);
  return curves.map((curve) => ({ ...curve, points: paired(xs[curve.points], take) }));
}

function paired(x, take) {
  const y = take(x.length);
  const points = new Float32Array(2 * x.length);
  for (let i = 0; i < x.length; i++) points.set([x[i], y[i]], 2 * i);
  return points;
}

// A line, and a round cap on nothing at each of its points where they are few.
function strokesOf({ points, colour, width, dash, opacity, dot }) {
  const ink = { stroke: colour, "stroke-opacity": opacity };
  const line = { ...ink, d: outline(points), "stroke-width": width, "stroke-dasharray": dash, "stroke-linecap": "butt" };
  if (!dot) return [line];
  return [line, { ...ink, d: dots(points), "stroke-width": dot, "stroke-dasharray": "", "stroke-linecap": "round" }];
}

function outline(points) {
  let path = "";
  let alone = true; // a point between gaps is drawn as a short dash
  for (let i = 0; i < points.length; i += 2) {
    const [x, y, next] = [points[i], points[i + 1], points[i + 2]];
    if (Number.isNaN(x)) alone = true;
    else if (!alone) path += `L${x.toFixed(1)} ${y.toFixed(1)}`;
    else {
      path += `M${x.toFixed(1)} ${y.toFixed(1)}`;
      alone = next === undefined || Number.isNaN(next);
      if (alone) path += "h2";
    }
  }
  return path;
}

function dots(points) {
  let path = "";
  for (let i = 0; i < points.length; i += 2)
    if (!Number.isNaN(points[i])) path += `M${points[i].toFixed(1)} ${points[i + 1].toFixed(1)}h0`;
  return path;
}

function labelAt(element) {
  return element.closest?.("[data-label]")?.dataset.label;
}

function fraction(value, { low, high, log }) {
  return log ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low);
}

function value(fraction, { low, high, log }) {
  return log ? low * (high / low) ** fraction : low + (high - low) * fraction;
}

function nearest(points, px) {
  let [best, least] = [0, Infinity];
  for (let i = 0; i < points.length; i += 2) {
    const away = Math.abs(points[i] - px);
    if (away <= least) [best, least] = [i / 2, away];
  }
  return best;
}

const PREFIXES = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""], [1e-3, "m"], [1e-6, "µ"], [1e-9, "n"]];

function write(value, unit) {
  const scaled = ["B", "s", "FLOP"].includes(unit) && value;
  const [size, prefix] = (scaled && PREFIXES.find(([size]) => Math.abs(value) >= size)) || [1, ""];
  const number = Math.abs(value) >= 1000 && !scaled ? Math.round(value).toString() : Number((value / size).toPrecision(3)).toString();
  return unit ? `${number} ${prefix}${unit}` : number;
}

function append(parent, name, attributes = {}) {
  const drawn = parent.namespaceURI === SVG || name === "svg";
  const child = drawn ? document.createElementNS(SVG, name) : document.createElement(name);
  set(child, attributes);
  parent.append(child);
  return child;
}

function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes))
    if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}
