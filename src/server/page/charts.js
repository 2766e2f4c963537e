// Lines over the last minutes, and a heat map, on a canvas in the page's own colours.

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

// A context with one unit a CSS pixel, and the size in these.
function prepare(canvas) {
  const width = canvas.clientWidth || 300;
  const height = Number(canvas.getAttribute("height-css") ?? canvas.getAttribute("height"));
  canvas.setAttribute("height-css", height);
  const scale = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  canvas.style.height = height + "px";
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  context.font = "12px system-ui, sans-serif";
  return [context, width, height];
}

function niceTop(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((digit) => digit * power).find((top) => top >= value);
}

export class LineChart {
  // `names` of the lines; `points`: how many are shown.
  constructor(canvas, names, points = 120) {
    this.canvas = canvas;
    this.names = names;
    this.points = points;
    this.series = names.map(() => []);
  }
  // A value for each line; null: none.
  add(values) {
    this.series.forEach((line, i) => {
      line.push(values[i]);
      if (line.length > this.points) line.shift();
    });
    this.draw();
  }
  draw() {
    const [context, width, height] = prepare(this.canvas);
    const left = 46, bottom = height - 8, top = 24;
    const most = niceTop(Math.max(...this.series.flat().filter((v) => v !== null), 0));
    context.strokeStyle = colour("--line");
    context.fillStyle = colour("--faint");
    context.textAlign = "right";
    for (const share of [0, 0.5, 1]) {
      const y = bottom - share * (bottom - top);
      context.beginPath();
      context.moveTo(left, y);
      context.lineTo(width, y);
      context.stroke();
      context.fillText(String(+(share * most).toPrecision(3)), left - 6, y + 4);
    }
    const colours = [colour("--accent"), colour("--warm")];
    context.textAlign = "left";
    let x = left;
    this.names.forEach((name, i) => {
      const last = this.series[i].at(-1);
      const label = name + (last === null || last === undefined ? "" : " " + +last.toPrecision(3));
      context.fillStyle = colours[i];
      context.fillRect(x, 8, 10, 3);
      context.fillText(label, x + 14, 14);
      x += context.measureText(label).width + 30;
      context.strokeStyle = colours[i];
      context.lineWidth = 2;
      context.beginPath();
      let drawing = false;
      this.series[i].forEach((value, at) => {
        if (value === null) { drawing = false; return; }
        const px = left + (at + this.points - this.series[i].length) * (width - left) / (this.points - 1);
        const py = bottom - value / most * (bottom - top);
        if (drawing) context.lineTo(px, py); else context.moveTo(px, py);
        drawing = true;
      });
      context.stroke();
      context.lineWidth = 1;
    });
  }
}

// `rows`: [{layer, counts}].
export function heatMap(canvas, rows) {
  const rowHeight = Math.max(4, Math.min(16, 320 / rows.length));
  canvas.setAttribute("height-css", Math.ceil(rows.length * rowHeight) + 2);
  const [context, width] = prepare(canvas);
  const left = 30;
  context.textAlign = "right";
  rows.forEach(({ layer, counts }, r) => {
    const y = r * rowHeight;
    const most = Math.max(...counts, 1);
    if (rowHeight >= 11 || r % 4 === 0) {
      context.fillStyle = colour("--faint");
      context.fillText(layer, left - 6, y + Math.min(rowHeight, 12));
    }
    const cell = (width - left) / counts.length;
    counts.forEach((count, e) => {
      context.globalAlpha = 1;
      context.fillStyle = colour("--raised");
      context.fillRect(left + e * cell, y, Math.max(1, cell - 1), rowHeight - 1);
      if (count === 0) return;
      context.globalAlpha = 0.15 + 0.85 * count / most;
      context.fillStyle = colour("--accent");
      context.fillRect(left + e * cell, y, Math.max(1, cell - 1), rowHeight - 1);
    });
    context.globalAlpha = 1;
  });
}
