// The page: loads one model, continues a text or talks, and shows what it runs on and how fast.

import { load } from "./sterna.js";

const at = (id) => document.getElementById(id);
let model = null;
let loading = null;
let running = false;
let turns = []; // of the conversation, where the model talks

// The page, the modules and the shipped model are there without a network the next time.
navigator.serviceWorker?.register("service-worker.js").catch(() => {});

at("shipped").onclick = () => take("tales-4m-i2_s.gguf", "the shipped story model");
at("file").onchange = ({ target }) => target.files[0] && take(target.files[0], target.files[0].name);
at("address").onsubmit = (event) => {
  event.preventDefault();
  if (at("url").value) take(at("url").value, at("url").value);
};
for (const kind of ["dragenter", "dragover"]) {
  addEventListener(kind, (event) => {
    event.preventDefault();
    at("drop").classList.add("over");
  });
}
addEventListener("dragleave", () => at("drop").classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  at("drop").classList.remove("over");
  const [file] = event.dataTransfer.files;
  if (file) take(file, file.name);
});

async function take(source, name) {
  loading?.abort();
  const mine = (loading = new AbortController());
  model?.close();
  model = null;
  fail("");
  at("talk").hidden = at("facts").hidden = true;
  at("status").textContent = `Loading ${name} …`;
  at("progress").hidden = false;
  at("progress").removeAttribute("value");
  const device = document.querySelector("input[name=device]:checked").value;
  try {
    const loaded = await load(source, { device, signal: mine.signal, onProgress: (progress) => show(name, progress) });
    if (mine !== loading) return loaded.close();
    model = loaded;
    ready(name);
  } catch (error) {
    if (mine !== loading) return;
    at("status").textContent = "No model is loaded.";
    fail(error.message);
  } finally {
    if (mine === loading) at("progress").hidden = true;
  }
}

function show(name, { phase, done, all }) {
  const what = phase === "download" ? "Downloading" : "Loading";
  const part = all > 0 ? ` (${Math.floor((100 * done) / all)} %)` : "";
  at("status").textContent = `${what} ${name}${part} …`;
  if (all > 0) [at("progress").max, at("progress").value] = [all, done];
}

function ready(name) {
  const { info } = model;
  const megabytes = Math.round(info.weightBytes / 1e6);
  at("status").textContent =
    `${info.name ?? name}: ${info.architecture}, ${info.layers} layers, ${megabytes} MB of weights, on ${info.deviceName} (${info.reason}).`;
  at("decisions").replaceChildren(...info.decisions.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
  at("talk").hidden = at("facts").hidden = false;
  at("ask").textContent = info.hasChat ? "Your message" : "A text to continue";
  at("send").textContent = info.hasChat ? "Send" : "Continue";
  at("text").value = info.hasChat ? "" : "Once upon a time";
  clear();
  at("text").focus();
}

function clear() {
  turns = [];
  at("turns").replaceChildren();
  at("speed").textContent = "";
}

at("clear").onclick = clear;
at("stop").onclick = () => model?.abort();
at("text").onkeydown = (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey || (model?.info.hasChat && !event.shiftKey))) {
    event.preventDefault();
    at("prompt").requestSubmit();
  }
};
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && running) model?.abort();
});

at("prompt").onsubmit = async (event) => {
  event.preventDefault();
  const text = at("text").value;
  if (running || !model || !text.trim()) return;
  running = true;
  fail("");
  at("send").disabled = true;
  at("stop").disabled = false;
  try {
    await answer(text);
  } catch (error) {
    fail(error.message);
  } finally {
    running = false;
    at("send").disabled = false;
    at("stop").disabled = true;
  }
};

async function answer(text) {
  const { hasChat } = model.info;
  const options = { maxTokens: Number(at("tokens").value) || 200 };
  if (at("temperature").value !== "") options.temperature = Number(at("temperature").value);
  options.seed = Math.floor(Math.random() * 2 ** 31);
  if (hasChat) {
    turn("user").append(text);
    at("text").value = "";
    turns.push({ role: "user", content: text });
  }
  const shown = turn("assistant");
  const thought = Object.assign(document.createElement("span"), { className: "thought" });
  shown.append(thought, hasChat ? "" : text);
  let said = "";
  const begin = performance.now();
  let first = 0;
  let made = 0;
  for await (const piece of model.generate(hasChat ? turns : text, options)) {
    first ||= performance.now();
    made = piece.usage.made;
    thought.append(piece.reasoning);
    shown.append(piece.text);
    said += piece.text;
    const seconds = (performance.now() - first) / 1000;
    const speed = made > 1 ? `, ${((made - 1) / seconds).toFixed(1)} a second` : "";
    const end = piece.finish ? `; ended: ${piece.finish}` : "";
    at("speed").textContent = `${made} tokens${speed}; the first after ${Math.round(first - begin)} ms${end}`;
  }
  if (hasChat) turns.push({ role: "assistant", content: said });
}

function turn(role) {
  const shown = Object.assign(document.createElement("div"), { className: `turn ${role}` });
  at("turns").append(shown);
  return shown;
}

function fail(text) {
  at("error").textContent = text;
}
