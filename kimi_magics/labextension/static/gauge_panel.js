// @ts-check
// The gauge as it is drawn: a panel of the cell's editor. The editor owns its life, so that it moves, is copied and goes
// with its cell, also in a notebook that draws only the cells in sight.

// With the version in the address, or a browser would go on with the file of another one.
const load = file => import(new URL(file + new URL(import.meta.url).search, import.meta.url).href);
const { GaugeModel, bodyOf } = await load("./gauge_model.js");
const { countCharacters, kindOf } = await load("./gauge_text.js");
const { lookAt } = await load("./gauge_look.js");
const { openMenu } = await load("./gauge_menu.js");

const SURE = ["counted", "kept", "billed", "error", "offline", "over-budget", "over-context"];
const SPOKEN = ["tokens", "cost", "run", "note"];
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
    this.closeMenu?.();
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
    this.button.onclick = () => this.toggleMenu();
    this.spoken = part("span", "spoken");
    this.spoken.setAttribute("role", "status");
    this.spoken.setAttribute("aria-live", "polite");
    dom.append(this.bar, row, this.spoken);
  }

  draw() {
    const { state, warning, tokens, texts, share } = lookAt(this.model, this.link, this.settings.digits);
    for (const name in this.pieces) setText(this.pieces[name], texts[name]);
    const { dataset } = this.dom;
    setData(dataset, "state", state);
    setData(dataset, "warning", warning);
    setData(dataset, "tokens", String(tokens));
    this.dom.title = texts.hover ?? "";
    this.bar.hidden = !share;
    this.fill.style.width = `${Math.max(0.3, 100 * share)}%`;
    this.action.hidden = state !== "unloaded";
    // A count or an error is read aloud once it is sure, not each number on the way.
    if (SURE.includes(state)) setText(this.spoken, SPOKEN.map(name => texts[name]).filter(Boolean).join(", "));
  }

  toggleMenu() {
    const { link, button } = this;
    if (this.closeMenu) return this.closeMenu();
    this.closeMenu = openMenu(button, {
      mode: link.settings?.gauge,
      isReady: link.state === "ready",
      choose: mode => link.tell({ op: "set", gauge: mode }),
      closed: () => (this.closeMenu = null),
    });
  }
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
