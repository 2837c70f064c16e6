// The chat page's second engine: a model in this tab. The page (examples/serve/page.html) takes it where `web/build` has put it beside
// this file; where a server answers at the same place, people choose between the two.

import { forget, load } from "./sterna.js";

const SHIPPED = ["tales-4m-i2_s.gguf", "The shipped story model (1.9 MB)"];
const SAMPLING = { temperature: "temperature", top_p: "topP", top_k: "topK", min_p: "minP", repetition_penalty: "repetitionPenalty", seed: "seed" };
/** Tokens of an answer where nobody says how many: a story has no end of its own. */
const TOKENS = { chat: 1024, story: 200 };

// The page runs no script but from where it came; these two are workers of that kind.
const policy = globalThis.trustedTypes?.createPolicy("sterna", { createScriptURL: (path) => path });
const script = (path) => (policy ? policy.createScriptURL(path) : path);

/** Adds the engine to the page, which lends what it is made of. */
export async function join(page) {
  // The page, the modules and the shipped model are there without a network once that is installed.
  navigator.serviceWorker?.register(script("service-worker.js"))
    .catch((error) => console.warn(`Without a network this page will not be there: ${error.message}`));
  const tab = new Tab(page);
  const answers = await fetch("health").catch(() => null);
  const isServed = answers?.headers.get("content-type")?.includes("json") ?? false;
  tab.show(isServed);
}

class Tab {
  context = 0;
  #page;
  #model = null;
  #loading = null;
  #state = "No model is loaded";
  #parts;

  constructor(page) {
    this.#page = page;
    this.#parts = parts(page, this);
  }

  /** Puts what belongs to this engine on the page, and begins with the one that was used last. */
  show(isServed) {
    const { $, use, server } = this.#page;
    const { panel, choice, facts } = this.#parts;
    $("turns").after(panel);
    const form = $("settings").querySelector("form");
    form.querySelector(".head").after(choice);
    form.append(facts);
    const select = choice.querySelector("select");
    const take = (name) => {
      const isTab = name === "tab";
      select.value = name;
      panel.hidden = !isTab;
      facts.hidden = !isTab || !this.#model;
      for (const id of ["key", "reasoning_effort"]) $(id).closest(".field").hidden = isTab;
      this.#hint(isTab);
      use(isTab ? this : server);
    };
    choice.hidden = !isServed;
    select.onchange = () => {
      remember(select.value);
      take(select.value);
    };
    take(isServed ? remembered() ?? "server" : "tab");
    if (!isServed) panel.querySelector("button").focus();
    // What is no file, as a text that is dragged into the composer, is the browser's own.
    const isFile = (event) => event.dataTransfer?.types.includes("Files") ?? false;
    for (const kind of ["dragenter", "dragover"]) addEventListener(kind, (event) => isFile(event) && event.preventDefault());
    addEventListener("drop", (event) => {
      if (!isFile(event)) return;
      event.preventDefault();
      const [file] = event.dataTransfer.files;
      if (!file) return;
      if (select.value !== "tab") take("tab");
      this.load(file, file.name);
    });
  }

  /** What the page shows of the engine. */
  look() {
    const { $ } = this.#page;
    const { panel, state } = this.#parts;
    $("server").textContent = state.textContent = this.#state;
    $("server").classList.remove("bad");
    panel.classList.toggle("needed", !this.#model); // else it is seen where nothing was said yet
  }

  /** Loads a model in the place of the one that is there. */
  async load(source, name) {
    const { $, alarm, begin } = this.#page;
    const { progress, facts, device } = this.#parts;
    this.#loading?.abort();
    const mine = (this.#loading = new AbortController());
    this.#model?.close();
    this.#model = null;
    begin();
    facts.hidden = true;
    progress.hidden = false;
    progress.removeAttribute("value");
    this.#parts.forgotten.textContent = "";
    this.#tell(`Loading ${name} …`);
    const onProgress = ({ phase, done, all }) => {
      const part = all > 0 ? ` (${Math.floor((100 * done) / all)} %)` : "";
      this.#tell(`${phase === "download" ? "Downloading" : "Loading"} ${name}${part} …`);
      if (all > 0) [progress.max, progress.value] = [all, done];
    };
    try {
      const options = { device: device.value, signal: mine.signal, onProgress, workerUrl: script("worker.js") };
      const model = await load(source, options);
      if (mine !== this.#loading) return model.close();
      this.#model = model;
      this.#ready(name);
    } catch (error) {
      if (mine !== this.#loading) return;
      this.#tell("No model is loaded");
      alarm(error.message);
    } finally {
      if (mine === this.#loading) progress.hidden = true;
    }
    $("input").focus();
  }

  /** Removes all that was downloaded; a model that is loaded stays. */
  async forget() {
    const { $, alarm } = this.#page;
    try {
      await forget(undefined, { workerUrl: script("worker.js") });
      alarm("");
      $("spoken").textContent = this.#parts.forgotten.textContent = "No downloaded model is kept in this browser.";
    } catch (error) {
      alarm(error.message);
    }
  }

  #ready(name) {
    const { $, fit } = this.#page;
    const { facts } = this.#parts;
    const { info } = this.#model;
    this.context = info.context;
    const megabytes = Math.round(info.weightBytes / 1e6);
    this.#tell(`${info.name ?? name} in this tab: ${info.architecture}, ${info.layers} layers, ${megabytes} MB of weights, on ${info.deviceName} (${info.reason})`);
    document.title = `${info.name ?? name} – Sterna`;
    const decided = info.decisions.map((text) => Object.assign(document.createElement("li"), { textContent: text }));
    facts.querySelector("ul").replaceChildren(...decided);
    facts.hidden = false;
    this.#hint(true);
    if (!info.hasChat && !$("input").value) $("input").value = "Once upon a time";
    fit();
  }

  #tell(state) {
    this.#state = state;
    this.look();
  }

  /** Says in the composer what a text there becomes. */
  #hint(isTab) {
    const goesOn = isTab && this.#model && !this.#model.info.hasChat;
    this.#page.$("input").placeholder = goesOn ? "A text to continue" : "Message";
  }

  /** What a turn grows by. */
  async *stream(turn, goesOn, signal) {
    if (!this.#model) throw new Error("Choose a model first.");
    const { $, turns } = this.#page;
    const { hasChat } = this.#model.info;
    const options = { signal, maxTokens: Number($("max_tokens").value) || (hasChat ? TOKENS.chat : TOKENS.story) };
    for (const [field, name] of Object.entries(SAMPLING)) if ($(field).value !== "") options[name] = Number($(field).value);
    options.seed ??= Math.floor(Math.random() * 2 ** 31);
    const said = turns().slice(0, goesOn ? undefined : -1);
    for await (const piece of this.#model.generate(hasChat ? conversation(said, $("system").value, goesOn) : story(said), options)) {
      const { text, reasoning, usage, finish } = piece;
      yield { content: text, thought: reasoning, usage, finish: finish && (finish === "end" ? "stop" : finish === "aborted" ? finish : "length") };
    }
    signal.throwIfAborted();
  }
}

/** Turns as a model with a chat template takes them. */
function conversation(said, system, goesOn) {
  const messages = said.map(({ role, content }) => ({ role, content }));
  if (goesOn) messages.at(-1).prefix = true;
  return system.trim() ? [{ role: "system", content: system }, ...messages] : messages;
}

/** Turns as one text: an answer goes on with what was written, and what is written next begins a line. */
function story(said) {
  return said.map(({ role, content }, at) => (at > 0 && role === "user" ? `\n${content}` : content)).join("");
}

/** The elements of the engine. */
function parts({ make, button }, tab) {
  const labelled = (text, input) => make("label", {}, text, " ", input);
  const shipped = button(SHIPPED[1], () => tab.load(SHIPPED[0], "the shipped story model"));
  shipped.className = "main";
  const file = make("input", { type: "file", accept: ".gguf", onchange: ({ target }) => target.files[0] && tab.load(target.files[0], target.files[0].name) });
  const url = make("input", { type: "url", placeholder: "https://…/model.gguf" });
  const fetchIt = () => url.value && tab.load(url.value, url.value);
  url.addEventListener("keydown", (event) => event.key === "Enter" && fetchIt()); // (false from an "onkeydown" would take every other key)
  const choices = [["auto", "what is faster"], ["webgpu", "the GPU (WebGPU)"], ["cpu", "the CPU (SIMD)"]];
  const device = make("select", {}, ...choices.map(([value, textContent]) => make("option", { value, textContent })));
  const progress = make("progress", { hidden: true, ariaLabel: "Progress of the load" });
  const state = make("p", { className: "state" });
  const forgotten = make("p");
  const panel = make(
    "section", { className: "tab column", ariaLabel: "Which model runs in this tab" }, state, progress,
    make("p", { textContent: "A model in this tab sends nothing that you write anywhere." }),
    make("p", {}, shipped), make("p", {}, labelled("or a GGUF file, chosen or dropped here:", file)),
    make("p", {}, labelled("or its address:", url), " ", button("Fetch", fetchIt)), make("p", {}, labelled("on", device)),
    make("p", {}, button("Forget downloaded models", () => tab.forget())), forgotten,
  );
  const engines = [["server", "the server"], ["tab", "a model in this tab"]].map(([value, textContent]) => make("option", { value, textContent }));
  const choice = make("div", { className: "field" }, labelled("Answers come from", make("select", {}, ...engines)));
  const facts = make("details", { className: "field", hidden: true }, make("summary", { textContent: "What loading decided" }), make("ul"));
  return { panel, choice, facts, progress, device, state, forgotten };
}

function remember(name) {
  try {
    localStorage.setItem("sterna.engine", name);
  } catch {
    // Forbidden: it lasts as long as the page.
  }
}

function remembered() {
  try {
    return localStorage.getItem("sterna.engine");
  } catch {
    return null;
  }
}
