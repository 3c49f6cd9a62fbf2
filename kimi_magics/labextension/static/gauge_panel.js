// @ts-check
// The gauge as it is drawn: a panel of the cell's editor. The editor owns its life, so that it moves, is copied and goes
// with its cell, also in a notebook that draws only the cells in sight.

// With the version in the address, or a browser would go on with the file of another one.
const load = file => import(new URL(file + new URL(import.meta.url).search, import.meta.url).href);
const { GaugeModel, bodyOf } = await load("./gauge_model.js");
const { countCharacters, describe, describeRun, kindOf } = await load("./gauge_text.js");

const MODES = [
  ["live", "Live: the draft goes to the host that would receive it, to be counted, once it is edited or has the cursor."],
  ["local", "Local: the draft stays here; the count is an estimate."],
  ["off", "Off: nothing is counted."],
];
const HEAD = 2_000;

/**
 * Return the editor extension of one cell.
 * @param {any} modules `{state, view}` of CodeMirror
 * @param {{findLink: () => any, cell: string, settings: any, gauges: Set<any>}} options
 */
export function makeExtension({ state, view }, { findLink, cell, settings, gauges }) {
  const kind = state.StateField.define({
    create: editor => findKind(editor),
    update: (before, transaction) => {
      if (!transaction.docChanged && !transaction.selection) return before;
      const now = findKind(transaction.state);
      return now.kind === before.kind && now.line === before.line ? before : now;
    },
    // The same constructor for the same kind, or the panel would be made anew.
    provide: field =>
      view.showPanel.compute([field], editor => {
        const shown = editor.field(field).kind;
        return shown ? makers[shown] : null;
      }),
  });
  const make = editor => new GaugePanel(editor, { link: findLink(), cell, settings, gauges, field: kind });
  const makers = { cell: editor => make(editor), line: editor => make(editor) };
  const prompt = view.EditorView.editorAttributes.compute([kind], editor =>
    editor.field(kind).kind === "cell" ? { class: "kimi-prompt" } : {},
  );
  return [kind, prompt, markVariables(view)];
}

/** Mark what is filled in, where the text is a prompt. */
function markVariables({ Decoration, MatchDecorator, ViewPlugin }) {
  const decoration = Decoration.mark({ class: "kimi-variable" });
  const matcher = new MatchDecorator({ regexp: /\{\{[^{}\n]{1,200}\}\}/g, decoration });
  return ViewPlugin.define(
    editor => ({
      marks: matcher.createDeco(editor),
      update(change) {
        this.marks = matcher.updateDeco(change, this.marks);
      },
    }),
    { decorations: plugin => plugin.marks },
  );
}

/** A whole cell is a prompt, or the line with the cursor is one. */
function findKind({ doc, selection }) {
  if (kindOf(doc.sliceString(0, HEAD)) === "cell") return { kind: "cell", line: 0 };
  const line = doc.lineAt(selection.main.head);
  if (kindOf(line.text.slice(0, 100)) === "line" && !doc.sliceString(0, HEAD).trimStart().startsWith("%%"))
    return { kind: "line", line: line.number };
  return { kind: "", line: 0 };
}

class GaugePanel {
  constructor(editor, { link, cell, settings, gauges, field }) {
    Object.assign(this, { editor, link, settings, gauges, field });
    this.top = settings.position === "top";
    this.build();
    this.model = new GaugeModel(link, { cell, settings, changed: () => this.draw() });
    this.model.begin(this.readText());
    gauges.add(this);
    this.refresh();
  }

  /** The editor has shown the panel. */
  mount() {
    this.model.hasFocus = this.editor.hasFocus;
    this.sight = new IntersectionObserver(entries => this.model.show(entries[entries.length - 1].isIntersecting));
    this.sight.observe(this.dom);
    if (this.model.hasFocus) this.model.plan();
  }

  update(change) {
    if (change.docChanged) {
      const text = this.readText();
      this.model.edit(text, this.countAfter(change, text), countTyped(change));
      this.draw();
    } else if (change.startState.field(this.field) !== change.state.field(this.field)) {
      // The cursor went to another line that is a prompt.
      const text = this.readText();
      this.model.edit(text, countCharacters(bodyOf(text)), 0);
      this.draw();
    }
    if (change.focusChanged) this.model.focus(this.editor.hasFocus);
  }

  destroy() {
    this.sight?.disconnect();
    this.model.dispose();
    this.gauges.delete(this);
  }

  /** The settings have changed. */
  refresh() {
    this.dom.hidden = !this.settings.enabled;
    this.draw();
  }

  readText() {
    const { doc } = this.editor.state;
    const { kind, line } = this.editor.state.field(this.field);
    return kind === "line" ? doc.line(line).text : doc.toString();
  }

  /** Count only what has changed, where that is below the first line of a cell: a long prompt is not read again. */
  countAfter(change, text) {
    const first = change.startState.doc.line(1).to;
    let isSimple = change.startState.field(this.field).kind === "cell" && change.state.field(this.field).kind === "cell";
    change.changes.iterChangedRanges(from => (isSimple &&= from > first));
    if (!isSimple) return countCharacters(bodyOf(text));
    const counts = { ...this.model.counts };
    change.changes.iterChanges((fromA, toA, fromB, toB) => {
      const gone = countCharacters(change.startState.doc.sliceString(fromA, toA));
      const come = countCharacters(change.state.doc.sliceString(fromB, toB));
      for (const name in counts) counts[name] += come[name] - gone[name];
    });
    return counts;
  }

  // ------------------------------------------------------------ drawing

  build() {
    const part = (tag, name) => {
      const element = document.createElement(tag);
      element.className = `kimi-gauge-${name}`;
      return element;
    };
    const dom = (this.dom = part("div", "panel"));
    dom.classList.add("kimi-gauge");
    dom.setAttribute("data-kimi-gauge", "");
    this.bar = part("div", "bar");
    this.fill = this.bar.appendChild(part("div", "fill"));
    this.pieces = {};
    const row = part("div", "row");
    for (const name of ["tokens", "cost", "share", "answer", "budget", "run", "note"])
      row.append((this.pieces[name] = part("span", name)));
    this.action = row.appendChild(part("button", "action"));
    this.action.textContent = "Load kimi_magics";
    this.action.title = "Runs %load_ext kimi_magics in the kernel";
    this.action.onclick = () => this.link.load();
    this.button = row.appendChild(part("button", "menu-button"));
    this.button.textContent = "⋯";
    this.button.title = "What the gauge does";
    this.button.setAttribute("aria-haspopup", "menu");
    this.button.setAttribute("aria-label", "What the gauge does");
    this.button.onclick = () => this.openMenu();
    this.spoken = part("span", "spoken");
    this.spoken.setAttribute("role", "status");
    this.spoken.setAttribute("aria-live", "polite");
    dom.append(this.bar, row, this.spoken);
  }

  draw() {
    const { model, link, pieces } = this;
    const { report } = model;
    const isCounted = model.isConfirmed();
    const tokens = model.tokens;
    const base = report?.tokens == null ? null : report;
    const message = { ...EMPTY, ...base, tokens, counted: isCounted };
    // What was said of another text is not said of this one, but for what is wrong with its first line.
    if (report && (model.isFresh || report.state === "error")) Object.assign(message, pick(report, SAID));
    const state = this.findState(message);
    const bare = isBare(state) || (!report && model.isBlank);
    const text = describe(bare ? { ...message, tokens: null } : message, this.settings.digits);
    const hasRun = model.run && state !== "error";
    const said = {
      ...text,
      cost: base && !bare ? text.cost : "",
      run: hasRun ? describeRun(model.run, this.settings.digits) : "",
      note: state === "empty" ? text.note || NOTES.empty : (NOTES[state] ?? text.note),
    };
    const isWaiting = model.isAsking && link.isHeldUp;
    if (isWaiting && !said.note) said.note = "counted when the cell that runs is done";
    if (hasRun) said.tokens = said.cost = said.share = said.answer = "";
    for (const name in pieces) setText(pieces[name], said[name]);
    const shown = hasRun ? "billed" : model.isAsking && !isWaiting && state === "local" ? "counting" : state;
    const { dataset } = this.dom;
    setData(dataset, "state", shown);
    setData(dataset, "warning", report && model.isFresh ? report.warning || "" : "");
    setData(dataset, "tokens", String(hasRun ? model.run.prompt_tokens : bare ? 0 : tokens));
    this.dom.title = hasRun ? describeAnswerOf(model.run) : text.hover;
    const share = message.context ? Math.min(1, tokens / message.context) : 0;
    this.bar.hidden = !share || bare;
    this.fill.style.width = `${Math.max(0.3, 100 * share)}%`;
    this.action.hidden = state !== "unloaded";
    this.speak(shown, said);
  }

  findState(message) {
    const { link, model } = this;
    if (link.state === "none") return "no-kernel";
    if (link.state === "unloaded") return "unloaded";
    if (link.settings?.gauge === "off" && !model.isFresh) return "off";
    if (!model.report) return model.isBlank ? "empty" : "local";
    const { state } = message;
    if (model.isFresh || state === "error") return state;
    return "local";
  }

  /** Say a count or an error once it is sure, not each number on the way. */
  speak(state, { tokens, cost, note, run }) {
    if (!["counted", "billed", "error", "offline", "over-budget", "over-context"].includes(state)) return;
    setText(this.spoken, [tokens, cost, run, note].filter(Boolean).join(", "));
  }

  // ------------------------------------------------------------ menu

  openMenu() {
    if (this.menu) return this.closeMenu();
    const menu = (this.menu = document.createElement("div"));
    menu.className = "kimi-gauge-menu";
    menu.setAttribute("role", "menu");
    const now = this.link.settings?.gauge;
    for (const [mode, sentence] of MODES) {
      const item = document.createElement("button");
      item.setAttribute("role", "menuitemradio");
      item.setAttribute("aria-checked", String(mode === now));
      item.dataset.mode = mode;
      item.textContent = sentence;
      item.disabled = this.link.state !== "ready";
      item.onclick = () => {
        this.link.tell({ op: "set", gauge: mode });
        this.closeMenu();
      };
      menu.append(item);
    }
    const hint = document.createElement("div");
    hint.className = "kimi-gauge-hint";
    hint.textContent = "For this session; %kimi_config --save gauge=… keeps it.";
    menu.append(hint);
    const box = this.button.getBoundingClientRect();
    document.body.append(menu);
    const { width, height } = menu.getBoundingClientRect();
    menu.style.left = `${Math.max(8, box.right - width)}px`;
    menu.style.top = `${box.bottom + height + 8 > innerHeight ? box.top - height - 4 : box.bottom + 4}px`;
    this.away = new AbortController();
    const { signal } = this.away;
    const leave = event => menu.contains(event.target) || this.button.contains(event.target) || this.closeMenu();
    document.addEventListener("pointerdown", leave, { signal, capture: true });
    // Not any scrolling: a front end scrolls to the cell that is clicked.
    document.addEventListener("wheel", leave, { signal, capture: true, passive: true });
    menu.addEventListener("keydown", event => this.steer(event), { signal });
    /** @type {HTMLElement | null} */ (menu.querySelector("[aria-checked=true]") ?? menu.querySelector("button"))?.focus();
  }

  steer(event) {
    const items = [...this.menu.querySelectorAll("button")];
    const at = items.indexOf(event.target);
    if (event.key === "Escape") this.closeMenu();
    else if (event.key === "ArrowDown") items[(at + 1) % items.length].focus();
    else if (event.key === "ArrowUp") items[(at + items.length - 1) % items.length].focus();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  closeMenu() {
    this.away?.abort();
    this.menu?.remove();
    this.menu = null;
    this.button.focus();
  }
}

const EMPTY = { message: "", remedy: "", warning: "", parts: {}, model: "", context: null, price: null };
const SAID = ["message", "remedy", "state"];
const NOTES = {
  "no-kernel": "no kernel: start one to have the prompt counted",
  unloaded: "estimated here: the kernel has not loaded kimi_magics",
  off: "the gauge is off",
  empty: "the prompt is empty",
};

/** Whether a state has no number. */
function isBare(state) {
  return ["error", "empty", "off"].includes(state);
}

function pick(source, names) {
  return Object.fromEntries(names.map(name => [name, source[name]]));
}

function describeAnswerOf({ prompt_tokens, cached_tokens, completion_tokens }) {
  return `prompt ${prompt_tokens} (${cached_tokens} cached) · answer ${completion_tokens} tokens`;
}

function countTyped(change) {
  let typed = 0;
  change.changes.iterChanges((fromA, toA, fromB, toB) => (typed += Math.max(toA - fromA, toB - fromB)));
  return typed;
}

// Only what is different is written: an editor with a thousand cells draws many gauges.
function setText(element, text) {
  const wanted = text ?? "";
  if (element.textContent !== wanted) element.textContent = wanted;
}

function setData(dataset, name, value) {
  if (dataset[name] !== value) dataset[name] = value;
}
