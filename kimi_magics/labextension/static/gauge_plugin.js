// @ts-check
// Puts a gauge beside every prompt for Kimi, the sums into the status bar, and a command into the palette.

const ID = "kimi-magics:gauge";
const COMMAND = "kimi-magics:estimate-cell";
/** How long the order of the cells is left to change before the kernel is told, in milliseconds. */
const ORDER_MS = 300;

/** @param {(name: string) => Promise<any>} shared gives the packages of the front end */
export async function create(shared) {
  const names = ["@jupyterlab/notebook", "@jupyterlab/codemirror", "@jupyterlab/services", "@lumino/widgets"];
  const [notebook, codemirror, services, widgets, state, view] = await Promise.all(
    [...names, "@codemirror/state", "@codemirror/view"].map(shared),
  );
  const [registry, status, apputils] = await Promise.all(
    // What a front end may lack: the gauge works without them.
    ["@jupyterlab/settingregistry", "@jupyterlab/statusbar", "@jupyterlab/apputils"].map(name =>
      shared(name).catch(() => ({})),
    ),
  );
  const query = new URL(import.meta.url).search;
  const load = file => import(new URL(`./${file}${query}`, import.meta.url).href);
  const [{ makeExtension }, { GaugeLink }, { describeTotals, formatMoney }, { sendPictures }] = await Promise.all(
    ["gauge_panel.js", "gauge_link.js", "gauge_text.js", "pictures_answer.js"].map(load),
  );
  return {
    id: ID,
    description: "Shows what a prompt for Kimi costs while it is written",
    autoStart: true,
    requires: [notebook.INotebookTracker, codemirror.IEditorExtensionRegistry],
    optional: [registry.ISettingRegistry, status.IStatusBar, apputils.ICommandPalette].map(one => one ?? null),
    activate: (app, tracker, extensions, settingRegistry, statusBar, palette) => {
      addStyle();
      const links = new Links(tracker, GaugeLink, services.KernelMessage, notebook.NotebookActions, sendPictures);
      const settings = { enabled: true, debounce: 250, position: "bottom", digits: null };
      const gauges = new Set();
      extensions.addExtension(
        Object.freeze({
          name: ID,
          factory: options => {
            const cell = options.model?.sharedModel;
            if (cell?.cell_type !== "code" || !cell.notebook) return null;
            const findLink = () => links.find(cell.notebook);
            const made = makeExtension({ state, view }, { findLink, cell: cell.id, settings, gauges });
            return codemirror.EditorExtensionRegistry.createImmutableExtension(made);
          },
        }),
      );
      if (settingRegistry) follow(settingRegistry, settings, gauges);
      addCommand(app, tracker, gauges, palette);
      if (statusBar) addTotals(statusBar, widgets.Widget, tracker, links, { describeTotals, formatMoney, settings });
    },
  };
}

function addStyle() {
  const link = document.createElement("link");
  link.rel = "stylesheet";
  link.href = new URL("./gauge.css" + new URL(import.meta.url).search, import.meta.url).href;
  document.head.append(link);
}

/** The link of each notebook, by the model that all its cells share. */
class Links {
  constructor(tracker, GaugeLink, KernelMessage, actions, sendPictures) {
    Object.assign(this, { GaugeLink, KernelMessage, actions, sendPictures });
    /** @type {Map<any, any>} */
    this.links = new Map();
    tracker.widgetAdded.connect((_, panel) => this.attach(panel));
    tracker.forEach(panel => this.attach(panel));
  }

  /** Return the link; the editors of cells may be made before their window is known, so that it may come later. */
  find(shared) {
    const link = this.links.get(shared) ?? new this.GaugeLink(this.KernelMessage);
    this.links.set(shared, link);
    return link;
  }

  attach(panel) {
    const { context } = panel;
    const shared = context.model.sharedModel;
    const link = this.find(shared);
    if (link.sessionContext) return; // a second view of the same notebook
    link.attach(context.sessionContext);
    link.listeners.add(message => message.op === "insert" && insertCell(panel, this.actions, message.source));
    link.listeners.add(message => message.op === "pictures" && this.sendPictures(link, shared, message));
    const stop = this.followOrder(link, panel.content, shared);
    context.disposed.connect(() => {
      stop();
      link.detach();
      this.links.delete(shared);
    });
  }

  /** Keep the kernel's picture of the order of the cells; returns what ends it. */
  followOrder(link, notebook, shared) {
    let timer = 0;
    const tell = (options = {}) => link.tellOrder(listCells(shared), options);
    const onChange = (_, change) => {
      if (!change.cellsChange) return;
      window.clearTimeout(timer);
      timer = window.setTimeout(tell, ORDER_MS);
    };
    const onScheduled = (_, scheduled) => {
      if (scheduled.notebook.model !== notebook.model) return;
      // Before the request that runs the cell, so that a cell that was just inserted is known in its place.
      tell({ isRun: true });
      link.noteSent(scheduled.cell.model.id);
    };
    link.listeners.add(message => {
      if (message.op === "settings") tell();
      else if (message.op === "order") link.answerOrder(listCells(shared), message);
    });
    shared.changed.connect(onChange);
    this.actions.executionScheduled?.connect(onScheduled);
    return () => {
      window.clearTimeout(timer);
      shared.changed.disconnect(onChange);
      this.actions.executionScheduled?.disconnect(onScheduled);
    };
  }
}

/** The ids of the cells that can be run, from top to bottom. */
function listCells(shared) {
  return [...shared.cells].filter(cell => cell.cell_type === "code").map(cell => cell.id);
}

function insertCell(panel, actions, source) {
  actions.insertBelow(panel.content);
  panel.content.activeCell.model.sharedModel.setSource(source);
}

/** Let the settings of the front end hold, now and when they change. */
async function follow(registry, settings, gauges) {
  const use = loaded => {
    const { enabled, debounce, position, digits } = loaded.composite;
    Object.assign(settings, { enabled, debounce, position, digits });
    // Only the position waits for the next time that a panel is made.
    for (const gauge of [...gauges]) gauge.refresh();
  };
  try {
    const loaded = await registry.load(ID);
    loaded.changed.connect(use);
    use(loaded);
  } catch (error) {
    console.warn("kimi-magics: the settings could not be loaded", error);
  }
}

function addCommand(app, tracker, gauges, palette) {
  const find = () => [...gauges].find(gauge => gauge.editor === tracker.activeCell?.editor?.editor);
  app.commands.addCommand(COMMAND, {
    label: "Kimi: estimate this cell",
    caption: "Have the prompt in the active cell counted now, also where the gauge counts only here",
    isEnabled: () => !!find(),
    execute: () => find()?.model.askNow(),
  });
  palette?.addItem({ command: COMMAND, category: "Kimi" });
}

/** Show what the calls of the notebook in front took in this session; a click asks for the balance of the account. */
function addTotals(statusBar, Widget, tracker, links, { describeTotals, formatMoney, settings }) {
  const item = new Widget({ node: document.createElement("button") });
  item.addClass("kimi-gauge-totals");
  item.node.title = "What this notebook's calls took in this session. A click asks for the balance of the account.";
  let link = null;
  let balance = "";
  const draw = () => {
    const totals = link?.settings?.totals;
    item.node.textContent = totals ? `Kimi: ${describeTotals(totals, settings.digits)}${balance}` : "";
    item.node.hidden = !totals;
  };
  const hear = message => {
    if (message.op === "balance")
      balance = ` · balance ${message.error || formatMoney(Number(message.amount), message.currency)}`;
    else if (message.op === "state") balance = "";
    else if (message.op !== "settings") return;
    draw();
  };
  const look = () => {
    link?.listeners.delete(hear);
    const panel = tracker.currentWidget;
    link = panel ? links.find(panel.context.model.sharedModel) : null;
    link?.listeners.add(hear);
    balance = "";
    draw();
  };
  item.node.onclick = () => link?.state === "ready" && link.tell({ op: "balance" });
  tracker.currentChanged.connect(look);
  look();
  statusBar.registerStatusItem(ID, { item, align: "left", rank: 20, isActive: () => true });
}
