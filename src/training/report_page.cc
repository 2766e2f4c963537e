#include "training/report_page.h"

namespace baleen {

namespace {

constexpr std::string_view kHead = R"(<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Training run</title>
<style>
body { font: 15px/1.5 sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
figure { margin: 1.5rem 0 } figcaption { font-weight: bold }
canvas { width: 100%; border: 1px solid #ddd } table { border-collapse: collapse }
td, th { padding: .2rem .8rem; border-bottom: 1px solid #ddd; text-align: right }
</style></head><body>
)";

// Draws with nothing but a canvas. `steps` and `loads` are defined before it.
constexpr std::string_view kScript = R"(
const page = document.body;
function figure(title, height) {
  const f = page.appendChild(document.createElement('figure'));
  f.appendChild(document.createElement('figcaption')).textContent = title;
  const c = f.appendChild(document.createElement('canvas'));
  c.width = 1200; c.height = height;
  return c.getContext('2d');
}
function curve(title, series) {
  const g = figure(title, 320), left = 90, bottom = 290, colors = ['#1668a8', '#c8531c', '#3a8f3a'];
  const all = series.flatMap(s => s.points);
  if (all.length === 0) return;
  const x0 = Math.min(...all.map(p => p[0])), x1 = Math.max(...all.map(p => p[0]), x0 + 1);
  let y0 = Math.min(...all.map(p => p[1])), y1 = Math.max(...all.map(p => p[1]));
  if (y1 === y0) y1 = y0 + 1;
  const px = x => left + (x - x0) / (x1 - x0) * 1090, py = y => bottom - (y - y0) / (y1 - y0) * 260;
  g.font = '20px sans-serif'; g.fillStyle = '#555';
  for (let i = 0; i <= 4; i++) {
    const y = y0 + (y1 - y0) * i / 4;
    g.fillText(Number(y.toPrecision(3)).toString(), 4, py(y) + 6);
    g.strokeStyle = '#eee'; g.beginPath(); g.moveTo(left, py(y)); g.lineTo(1180, py(y)); g.stroke();
  }
  g.fillText('step ' + x0, left, 316); g.fillText('' + x1, 1100, 316);
  series.forEach((s, n) => {
    g.strokeStyle = colors[n]; g.lineWidth = 2; g.beginPath();
    s.points.forEach((p, i) => i ? g.lineTo(px(p[0]), py(p[1])) : g.moveTo(px(p[0]), py(p[1])));
    g.stroke();
    g.fillStyle = colors[n]; g.fillText(s.name, 200 + 260 * n, 316);
  });
}
const of = (key, name) => ({name: name || key,
  points: steps.filter(s => key in s).map(s => [s.step, s[key]])});
curve('Loss (nats for each token)', [of('loss', 'training'), of('validation_loss', 'validation')]);
curve('Learning rate', [of('lr')]);
curve('Tokens for each second', [of('tokens_per_s')]);
curve('MaxVio, averaged over layers', [of('max_vio')]);
const layers = loads.length ? loads[0].load.length : 0;
for (let l = 0; l < layers; l++) {
  const n = loads[0].load[l].length;
  const g = figure('Load of the ' + n + ' experts of MoE layer ' + (l + 1) +
                   ' over time (white: none, black: three times the mean or more)', 8 * n);
  const w = 1200 / loads.length;
  loads.forEach((entry, t) => {
    const row = entry.load[l], mean = row.reduce((a, b) => a + b, 0) / n || 1;
    row.forEach((count, e) => {
      const shade = Math.round(255 * (1 - Math.min(count / mean / 3, 1)));
      g.fillStyle = `rgb(${shade},${shade},${shade})`;
      g.fillRect(t * w, 8 * e, w + 1, 8);
    });
  });
}
)";

std::string Escape(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '<') {
      escaped += "&lt;";
    } else if (c == '&') {
      escaped += "&amp;";
    } else {
      escaped += c;
    }
  }
  return escaped;
}

// Lines of JSON objects as one JavaScript array. They are ours: numbers and fixed keys only.
std::string Array(std::string_view lines) {
  std::string array = "[";
  for (const char c : lines) array += c == '\n' ? std::string(",\n") : std::string(1, c);
  return array + "]";
}

}  // namespace

std::string ReportPage(std::string_view title, std::string_view metrics, std::string_view load) {
  std::string page(kHead);
  page += "<h1>" + Escape(title) + "</h1>\n<script>\nconst steps = " + Array(metrics) +
          ";\nconst loads = " + Array(load) + ";\n";
  page += kScript;
  return page + "</script></body></html>\n";
}

}  // namespace baleen
