// The page at /: it speaks to the server that it came from, by the same API as everybody.
import { markdown } from "./markdown.js";
import { LineChart, heatMap } from "./charts.js";

const $ = (id) => document.getElementById(id);
const state = { models: [], messages: [], running: null };

function notice(text) {
  $("notice").textContent = text;
  $("notice").hidden = !text;
}

// The key stays in this tab.
const key = () => sessionStorage.getItem("baleen-key") ?? "";

async function call(path, body, signal) {
  const headers = { "Content-Type": "application/json" };
  if (key()) headers.Authorization = "Bearer " + key();
  const response = await fetch(path, body === undefined ? { headers, signal }
    : { method: "POST", headers, body: JSON.stringify(body), signal });
  if (response.ok) return response;
  if (response.status === 401) $("key-form").hidden = false;
  let message = response.status + " " + response.statusText;
  try {
    message = (await response.json()).error.message;
  } catch {
    // Not ours: a proxy's page, for instance.
  }
  throw new Error(message);
}

// The objects of a stream of server-sent events.
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    let end;
    while ((end = text.indexOf("\n\n")) >= 0) {
      const event = text.slice(0, end);
      text = text.slice(end + 2);
      if (!event.startsWith("data: ")) continue;
      if (event === "data: [DONE]") return;
      const object = JSON.parse(event.slice(6));
      if (object.error) throw new Error(object.error.message);
      yield object;
    }
  }
}

function model() {
  return state.models.find((m) => m.id === $("model").value) ?? state.models[0];
}

async function loadModels() {
  const list = await (await call("/v1/models")).json();
  state.models = list.data;
  $("model").replaceChildren(...list.data.map((m) => new Option(m.id, m.id)));
  showModel();
  notice("");
  $("key-form").hidden = true;
}

function showModel() {
  const chats = Boolean(model()?.chat_template);
  $("prompt").placeholder = chats ? "Say something" : "This model has no chat template: it goes on with your text";
  $("thinking-label").hidden = !model()?.can_reason;
}

// Shows an answer as it grows, once a frame.
class AnswerView {
  constructor() {
    this.element = document.createElement("div");
    this.element.className = "message assistant";
    this.content = "";
    this.reasoning = "";
    this.frame = 0;
    $("messages").append(this.element);
  }
  add({ content, reasoning_content: reasoning }) {
    this.content += content ?? "";
    this.reasoning += reasoning ?? "";
    this.frame ||= requestAnimationFrame(() => this.draw());
  }
  draw() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    const parts = [];
    if (this.reasoning) {
      const details = document.createElement("details");
      details.open = !this.content;
      const summary = document.createElement("summary");
      summary.textContent = "Thoughts";
      details.append(summary, this.reasoning);
      parts.push(details);
    }
    const atEnd = window.innerHeight + window.scrollY >= document.body.scrollHeight - 80;
    this.element.replaceChildren(...parts, markdown(this.content));
    if (atEnd) window.scrollTo(0, document.body.scrollHeight);
  }
  end(figures) {
    this.draw();
    const line = document.createElement("p");
    line.className = "figures";
    line.textContent = figures;
    this.element.append(line);
  }
}

function setRunning(controller, send, stop) {
  state.running = controller;
  $(send).disabled = controller !== null;
  $(stop).hidden = controller === null;
}

function figures(begin, first, usage) {
  const seconds = (performance.now() - first) / 1000;
  const rate = usage && seconds > 0 ? (usage.completion_tokens / seconds).toFixed(1) + " tokens/s, " : "";
  const cached = usage?.prompt_tokens_details?.cached_tokens ?? 0;
  return `${usage?.completion_tokens ?? 0} tokens, ${rate}first after ${Math.round(first - begin)} ms` +
    (cached ? `, ${cached} of ${usage.prompt_tokens} prompt tokens from the cache` : "");
}

async function sendChat() {
  const text = $("prompt").value;
  if (!text.trim() || state.running) return;
  const chats = Boolean(model()?.chat_template);
  if (!chats) $("messages").replaceChildren();
  const mine = document.createElement("div");
  mine.className = "message user";
  mine.textContent = text;
  $("messages").append(mine);
  $("prompt").value = "";
  notice("");
  const common = {
    model: model().id, stream: true, stream_options: { include_usage: true }, return_token_ids: true,
    temperature: Number($("temperature").value), max_tokens: Number($("max-tokens").value),
  };
  state.messages.push({ role: "user", content: text });
  const body = chats ? { ...common, messages: state.messages } : { ...common, prompt: text };
  if (chats && model().can_reason) body.thinking = { type: $("thinking").checked ? "enabled" : "disabled" };
  const controller = new AbortController();
  setRunning(controller, "send", "stop");
  const view = new AnswerView();
  const begin = performance.now();
  let first = 0, usage = null, promptIds = [];
  const ids = [];
  try {
    const response = await call(chats ? "/v1/chat/completions" : "/v1/completions", body, controller.signal);
    for await (const event of events(response)) {
      usage = event.usage ?? usage;
      const choice = event.choices[0];
      if (!choice) continue;
      first ||= performance.now();
      promptIds = choice.prompt_token_ids ?? promptIds;
      ids.push(...(choice.token_ids ?? []));
      view.add(choice.delta ?? { content: choice.text });
    }
  } catch (error) {
    if (error.name !== "AbortError") notice(error.message);
  }
  setRunning(null, "send", "stop");
  view.end(figures(begin, first || performance.now(), usage));
  state.messages.push({ role: "assistant", content: view.content });
  if (ids.length > 0) await showExperts(promptIds, ids);
}

async function showExperts(promptIds, ids) {
  try {
    const response = await call("/v1/experts", { tokens: [...promptIds, ...ids], from: promptIds.length });
    const report = await response.json();
    $("experts").hidden = report.layers.length === 0;
    if (report.layers.length === 0) return;
    state.experts = report.layers;
    if ($("experts").open) heatMap($("heat"), state.experts);
    const used = report.layers.map((l) => l.counts.filter((c) => c > 0).length);
    const total = report.layers[0].counts.length;
    $("heat-text").textContent = `${ids.length} tokens; of ${total} experts a layer, ` +
      `${Math.min(...used)} to ${Math.max(...used)} were used.`;
  } catch {
    $("experts").hidden = true;
  }
}

async function sendFill() {
  if (state.running) return;
  notice("");
  const result = $("fill-result"), middle = document.createElement("mark");
  result.replaceChildren($("prefix").value, middle, $("suffix").value);
  const controller = new AbortController();
  setRunning(controller, "fill-send", "fill-stop");
  try {
    const response = await call("/v1/completions", {
      model: model().id, prompt: $("prefix").value, suffix: $("suffix").value, stream: true,
      temperature: 0, max_tokens: Number($("fill-max").value),
    }, controller.signal);
    for await (const event of events(response)) middle.append(event.choices[0]?.text ?? "");
  } catch (error) {
    if (error.name !== "AbortError") notice(error.message);
  }
  setRunning(null, "fill-send", "fill-stop");
}

// Live.

const charts = {};
let lastFigures = null, liveTimer = 0;

// Sums over labels of each name in Prometheus's text.
function readMetrics(text) {
  const sums = {};
  for (const line of text.split("\n")) {
    const match = /^([\w:]+)(?:\{[^}]*\})? (\S+)$/.exec(line);
    if (match) sums[match[1]] = (sums[match[1]] ?? 0) + Number(match[2]);
  }
  return sums;
}

async function pollLive() {
  try {
    const now = { time: performance.now(), ...readMetrics(await (await call("/metrics")).text()) };
    const last = lastFigures;
    lastFigures = now;
    if (!last) return;
    const seconds = (now.time - last.time) / 1000;
    const delta = (name) => (now["vllm:" + name] ?? 0) - (last["vllm:" + name] ?? 0);
    const mean = (name) => delta(name + "_count") > 0 ? 1000 * delta(name + "_sum") / delta(name + "_count") : null;
    charts.tokens.add([delta("generation_tokens_total") / seconds, delta("prompt_tokens_total") / seconds]);
    charts.latency.add([mean("time_to_first_token_seconds"), mean("inter_token_latency_seconds")]);
    charts.queue.add([now["vllm:num_requests_running"], now["vllm:num_requests_waiting"]]);
    const queries = delta("prefix_cache_queries_total");
    charts.cache.add([100 * now["vllm:kv_cache_usage_perc"],
      queries > 0 ? 100 * delta("prefix_cache_hits_total") / queries : null]);
  } catch (error) {
    notice(error.message);
  }
}

function startLive() {
  charts.tokens ??= new LineChart($("chart-tokens"), ["answers", "prompts"]);
  charts.latency ??= new LineChart($("chart-latency"), ["first token", "between tokens"]);
  charts.queue ??= new LineChart($("chart-queue"), ["running", "waiting"]);
  charts.cache ??= new LineChart($("chart-cache"), ["in use", "prompt tokens found"]);
  for (const chart of Object.values(charts)) chart.draw();
  clearInterval(liveTimer);
  liveTimer = setInterval(pollLive, 1000);
  pollLive();
}

// Usage.

async function showUsage() {
  try {
    const report = await (await call("/v1/usage")).json();
    const money = report.prices ? report.prices.currency : "";
    const columns = [["Key", (u) => u.key || "(no key)"], ["Requests", (u) => u.requests],
      ["Prompt", (u) => u.prompt_tokens], ["of it cached", (u) => u.cached_tokens],
      ["Answers", (u) => u.completion_tokens], ["Machine s", (u) => u.machine_seconds.toFixed(2)]];
    if (report.prices) {
      const price = (x) => x.toPrecision(3);
      columns.push([`Cost on use, ${money}`, (u) => price(u.cost.on_use.total)],
        ["1M input", (u) => price(u.cost.on_use.per_million_tokens.input)],
        ["1M output", (u) => price(u.cost.on_use.per_million_tokens.output)],
        ["On reservation", (u) => price(u.cost.on_reservation.total)]);
      if (report.prices.reference) {
        columns.push(["At " + report.prices.reference.name, (u) => price(u.cost.reference.total)]);
      }
    }
    const row = (cells, kind) => {
      const tr = document.createElement("tr");
      for (const text of cells) {
        const cell = document.createElement(kind);
        cell.textContent = text;
        tr.append(cell);
      }
      return tr;
    };
    $("usage-table").replaceChildren(row(columns.map((c) => c[0]), "th"),
      ...report.data.map((u) => row(columns.map((c) => c[1](u)), "td")));
    $("usage-hint").textContent = report.data.length === 0 ? "Nothing has been used yet."
      : report.prices ? "" : "The server was not told what its machine costs (--machine-price, --watts, --power-price).";
  } catch (error) {
    $("usage-table").replaceChildren();
    $("usage-hint").textContent = error.message;
  }
}

function showTab(name) {
  for (const button of document.querySelectorAll("nav button")) {
    button.setAttribute("aria-selected", String(button.dataset.tab === name));
  }
  for (const section of document.querySelectorAll("main > section")) section.hidden = section.id !== name;
  clearInterval(liveTimer);
  lastFigures = null;
  if (name === "live") startLive();
  if (name === "usage") showUsage();
}

document.querySelector("nav").addEventListener("click", (event) => {
  if (event.target.dataset.tab) showTab(event.target.dataset.tab);
});
$("chat-form").addEventListener("submit", (event) => { event.preventDefault(); sendChat(); });
$("fill-form").addEventListener("submit", (event) => { event.preventDefault(); sendFill(); });
for (const id of ["stop", "fill-stop"]) $(id).addEventListener("click", () => state.running?.abort());
$("clear").addEventListener("click", () => {
  state.running?.abort();
  state.messages = [];
  $("messages").replaceChildren();
  $("experts").hidden = true;
});
$("prompt").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  sendChat();
});
$("experts").addEventListener("toggle", () => { if (state.experts) heatMap($("heat"), state.experts); });
$("model").addEventListener("change", showModel);
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("baleen-key", $("key").value.trim());
  loadModels().catch((error) => notice(error.message));
});
loadModels().catch((error) => notice(error.message));
