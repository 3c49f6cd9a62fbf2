// @ts-check
// A reply while it grows: takes the messages of feed.py and draws them. Kept small, since it is sent with every reply.
// JupyterLab's own Markdown renderer is found where our extension put it; elsewhere the text is shown as it came.

/** @typedef {[markdown: string, isJoined: boolean]} Block */
/** @typedef {{kind: string, text: string, state: string, outcome: string, took: string, arguments: string, result: string}} Row */
/** @typedef {{number: number, seconds: number, progress: string, note: string, thinking: Block[], text: Block[], tools: [number, Row][]}} All */

const PARTS = /** @type {const} */ (["thinking", "text"]);
// Of the rows of tools the latest are shown, as in tool_rows.py.
const MOST_ROWS = 20;
const PAUSE_MS = 80;
// Drawing may take this part of the page's time beyond the first moments: a slow page draws a long answer less often.
const SHARE = 0.05;
const FREE_MS = 400;
const LONGEST_PAUSE_MS = 500;
const feeds = new Map();

/** The state of one reply in this page, for all its views. */
class Feed {
  constructor(model) {
    this.model = model;
    this.views = new Set();
    this.isBehind = false;
    this.load(model.get("snapshot"));
    model.on("msg:custom", message => this.take(message));
    model.on("change:media", () => this.paint());
  }

  /** @param {All} all */
  load(all) {
    Object.assign(this, all, { tools: new Map(all.tools) });
    this.startedAt = performance.now() - all.seconds * 1000;
    this.isBehind = false;
    this.paint();
  }

  take(message) {
    if (message.number <= this.number && !this.isBehind) return;
    if (message.all) return this.load(message.all);
    if (message.number !== this.number + 1) {
      if (!this.isBehind) this.wish("all");
      this.isBehind = true;
      return;
    }
    this.number = message.number;
    this.progress = message.progress;
    for (const [part, index, keep, add, isJoined] of message.patches) {
      const blocks = this[part];
      blocks[index] = [(blocks[index]?.[0] ?? "").slice(0, keep) + add, !!isJoined];
    }
    for (const [place, row] of message.tools ?? []) this.tools.set(place, row);
    for (const place of [...this.tools.keys()].slice(0, -MOST_ROWS)) this.tools.delete(place);
    this.paint();
  }

  /** What the model does now. */
  get phase() {
    if ([...this.tools.values()].some(row => row.state === "running")) return "using tools";
    return this.text.length ? "answering" : this.thinking.length ? "thinking" : "waiting";
  }

  wish(wish) {
    this.model.send({ wish });
  }

  paint() {
    for (const view of this.views) view.paintSoon();
  }
}

/** Some elements: `make("p", "class", parent, {title: "…"})`. */
function make(tag, name, parent, properties = {}) {
  const element = Object.assign(document.createElement(tag), properties);
  element.className = name;
  parent.append(element);
  return element;
}

/** Draw a block without a Markdown renderer. What was made safe is written with references: read them back. */
function drawPlain(markdown) {
  const element = document.createElement("div");
  element.className = "kimi-plain";
  element.textContent = markdown
    .replace(/&#(\d+);/g, (_, code) => String.fromCodePoint(+code))
    .replace(/&lt;/g, "<");
  return element;
}

/** Draw a call of a tool; all of it is somebody else's text. */
function drawCall(element, row) {
  element.className = `kimi-call kimi-${row.state}`;
  const summary = element.firstElementChild ?? make("summary", "", element);
  summary.replaceChildren();
  make(row.text.endsWith(")") ? "code" : "span", "", summary, { textContent: row.text });
  make("span", "kimi-outcome", summary, { textContent: ` ${row.outcome}` });
  if (row.took) make("span", "", summary, { textContent: ` · ${row.took}` });
  for (const name of ["arguments", "result"]) {
    const box = element.querySelector(`.kimi-${name}`) ?? make("pre", `kimi-${name}`, element, { title: name });
    if (box.textContent !== row[name]) box.textContent = row[name];
    box.hidden = !row[name];
  }
}

class View {
  constructor(feed, model, parent) {
    this.feed = feed;
    this.timer = 0;
    this.openedAt = performance.now();
    this.spent = 0;
    this.isPainting = false;
    this.isWanted = true;
    this.hasChosen = false;
    this.phase = "";
    const root = (this.root = make("div", "kimi-reply", parent, { role: "group", ariaLabel: "Answer of Kimi" }));
    // The keys of a focused button are its own, not those of the notebook.
    root.dataset.lmSuppressShortcuts = "true";
    this.strip = make("div", "kimi-media", root, { role: "group", ariaLabel: "Sent with the prompt" });
    this.details = make("details", "kimi-thinking", root, { open: true, hidden: true });
    this.summary = make("summary", "", this.details, { onclick: () => (this.hasChosen = true) });
    const thoughts = make("div", "kimi-thoughts", this.details);
    this.tools = make("div", "kimi-tools", root, { role: "group", ariaLabel: "Tools", hidden: true });
    this.earlier = make("div", "kimi-remark", this.tools, { hidden: true });
    this.rows = new Map();
    this.boxes = { thinking: thoughts, text: make("div", "kimi-answer", root) };
    this.boxes.thinking.tabIndex = 0;
    this.slots = { thinking: [], text: [] };
    this.note = make("div", "kimi-note", root, { hidden: true });
    const bar = make("div", "kimi-bar", root);
    make("span", "kimi-dot", bar, { ariaHidden: "true" });
    this.figures = make("span", "kimi-figures", bar);
    if (model.get("can_stop")) {
      const stop = make("button", "kimi-stop", bar, { type: "button", textContent: "Stop", title: "Stop the answer" });
      stop.onclick = () => this.stop(stop);
    } else this.hint(bar);
    this.said = make("div", "kimi-said", root, { role: "status" });
    this.clock = setInterval(() => this.tick(), 1000);
    feed.views.add(this);
    this.drawMedia(model);
    this.paintSoon();
  }

  /** Show what was sent beside the text: the places at once, the pictures when they come. */
  drawMedia(model) {
    const rows = model.get("media") ?? [];
    if (rows === this.media) return;
    this.media = rows;
    this.strip.hidden = !rows.length;
    this.strip.replaceChildren();
    for (const { label, text, thumbnail } of rows) {
      const item = make("figure", "kimi-medium", this.strip, { title: `${label}\n${text}` });
      const frame = make("div", "kimi-thumbnail", item);
      if (thumbnail.startsWith("data:image/")) make("img", "", frame, { alt: "", src: thumbnail });
      const caption = make("figcaption", "", item);
      make("b", "", caption, { textContent: label });
      make("span", "", caption, { textContent: text });
    }
  }

  stop(button) {
    button.disabled = true;
    button.textContent = "Stopping…";
    this.feed.wish("stop");
    setTimeout(() => button.isConnected && this.hint(button.parentNode, button), 2000);
  }

  hint(bar, button) {
    button?.remove();
    make("span", "kimi-hint", bar, { textContent: "to stop it, interrupt the kernel" });
  }

  tick() {
    const { startedAt, progress } = this.feed;
    const seconds = Math.floor((performance.now() - startedAt) / 1000);
    this.figures.textContent = `${seconds} s · ${progress || "waiting for the first token"}`;
  }

  /** Tell a screen reader once what goes on, not each piece. */
  enter(phase) {
    if (phase === this.phase) return;
    this.phase = this.root.dataset.phase = phase;
    this.said.textContent = `Kimi is ${phase}`;
    const hasThoughts = this.feed.thinking.length > 0;
    this.details.hidden = !hasThoughts;
    this.summary.textContent = phase === "thinking" ? "Thinking…" : "Thoughts";
    // A tool's moment between two thoughts folds nothing.
    if (!this.hasChosen && phase !== "using tools") this.details.open = phase === "thinking";
  }

  paintSoon() {
    this.isWanted = true;
    if (this.timer || this.isPainting) return;
    this.timer = setTimeout(() => this.paint(), Math.max(0, (this.nextAt ?? 0) - performance.now()));
  }

  async paint() {
    const startedAt = performance.now();
    this.timer = 0;
    this.isWanted = false;
    this.isPainting = true;
    const { feed, note } = this;
    let cost = 0;
    try {
      this.drawMedia(feed.model);
      this.enter(feed.phase);
      if (note.textContent !== feed.note) note.textContent = feed.note;
      note.hidden = !feed.note;
      const followers = [this.boxes.thinking, ...this.scrollers()].map(box => follow(box, this.root));
      this.drawTools();
      await Promise.all(PARTS.flatMap(part => this.drawPart(part)));
      this.tick();
      for (const keepUp of followers) keepUp();
      cost = performance.now() - startedAt;
      cost += await timeOfFrame();
    } finally {
      this.isPainting = false;
      this.spent += cost;
      const now = performance.now();
      const due = this.openedAt + (this.spent - FREE_MS) / SHARE;
      this.nextAt = Math.min(Math.max(now + PAUSE_MS, due), now + LONGEST_PAUSE_MS);
      if (this.isWanted) this.paintSoon();
    }
  }

  /** What may scroll around the answer: which of them will, shows only when there is more than fits. */
  scrollers() {
    if (!this.around?.length) {
      this.around = [];
      for (let box = this.root.parentElement; box; box = box.parentElement)
        if (/auto|scroll/.test(getComputedStyle(box).overflowY)) this.around.push(box);
    }
    return this.around;
  }

  /** Draw the rows that changed, each in its place; what the reader has opened stays open. */
  drawTools() {
    const { tools } = this.feed;
    const [first = 0] = tools.keys();
    this.tools.hidden = !tools.size;
    this.earlier.hidden = !first;
    this.earlier.textContent = `… ${first} before these`;
    for (const [place, { element }] of this.rows) {
      if (tools.has(place)) continue;
      element.remove();
      this.rows.delete(place);
    }
    for (const [place, row] of tools) {
      const known = this.rows.get(place);
      // A row is a value: another one is another object, also after the whole came again.
      if (known?.row === row) continue;
      const element = known?.element ?? make(row.kind === "call" ? "details" : "div", "", this.tools);
      if (row.kind === "call") drawCall(element, row);
      else Object.assign(element, { className: `kimi-${row.kind === "said" ? "earlier" : "remark"}`, textContent: row.text });
      this.rows.set(place, { element, row });
    }
  }

  /** Draw the blocks that changed; only the last one grows. */
  drawPart(part) {
    const blocks = this.feed[part];
    const slots = this.slots[part];
    const changed = [];
    let index = Math.min(slots.length, blocks.length);
    while (index > 0 && !slots[index - 1].isFinal) index -= 1;
    if (this.loaded !== this.feed.startedAt) index = 0;
    if (part === "text") this.loaded = this.feed.startedAt;
    // The text of the next step begins anew.
    while (slots.length > blocks.length) slots.pop().element.remove();
    for (; index < blocks.length; index += 1) {
      const [markdown, isJoined] = blocks[index];
      const isFinal = index < blocks.length - 1;
      const slot = (slots[index] ??= { element: make("div", "kimi-block", this.boxes[part]) });
      if (slot.markdown === markdown && slot.isFinal === isFinal) continue;
      Object.assign(slot, { markdown, isFinal });
      slot.element.classList.toggle("kimi-joined", isJoined);
      slot.element.classList.toggle("kimi-done", isFinal);
      changed.push(this.drawBlock(slot, markdown, isFinal));
    }
    return changed;
  }

  async drawBlock(slot, markdown, isFinal) {
    const render = globalThis.kimiMagics?.renderMarkdown;
    const element = render ? await render(markdown, isFinal) : drawPlain(markdown);
    if (slot.markdown === markdown) slot.element.replaceChildren(element);
  }

  dispose() {
    clearInterval(this.clock);
    clearTimeout(this.timer);
    this.feed.views.delete(this);
  }
}

/** How long the page needs to show what was just drawn; a page that nobody sees draws nothing until somebody does. */
function timeOfFrame() {
  return new Promise(resolve =>
    requestAnimationFrame(() => {
      const startedAt = performance.now();
      setTimeout(() => resolve(performance.now() - startedAt));
    }),
  );
}

/** Return what keeps the end of `content` in view, if the reader is there now. */
function follow(box, content) {
  const inner = content.contains(box);
  const beyond = () =>
    inner
      ? box.scrollHeight - box.clientHeight - box.scrollTop
      : content.getBoundingClientRect().bottom - box.getBoundingClientRect().bottom + 8;
  const isAtEnd = beyond() < 24;
  return () => {
    if (isAtEnd && beyond() > 0) box.scrollTop += beyond();
  };
}

const feedOf = model => {
  const key = model.get("uid");
  if (!feeds.has(key)) feeds.set(key, new Feed(model));
  return feeds.get(key);
};

export default {
  initialize({ model }) {
    feedOf(model);
    return () => feeds.delete(model.get("uid"));
  },
  render({ model, el }) {
    const view = new View(feedOf(model), model, el);
    return () => view.dispose();
  },
};
