// @ts-check
// Shows an answer that was under way when the page was loaded: after a reload, or in a second window.
//
// The front end itself cannot: its widgets are restored over the shell in which the cell runs, and its cells take no
// outputs of a run that they did not start. So this listens to the messages of each notebook's kernel. Those of a reply
// whose beginning the page has not seen are followed up: the text so far is asked for over a subshell, and what the cell
// displays from then on, up to its end, is put below it.

const MIME = "application/vnd.kimi-magics.reply+json";
const WIDGET_MIME = "application/vnd.jupyter.widget-view+json";
// Before those of widgets (-10): the view of a widget that cannot be restored yet gives way.
const RANK = -20;
const PATIENCE_MS = 10_000;
const LEFT_OVER = "The notebook was saved while this answer was being written; run the cell again for the whole.";

/** @param {(name: string) => Promise<any>} shared gives the packages of the front end */
export async function create(shared) {
  const [notebook, rendermime, services, widgets] = await Promise.all(
    ["@jupyterlab/notebook", "@jupyterlab/rendermime", "@jupyterlab/services", "@lumino/widgets"].map(shared),
  );
  const page = await import(new URL("./reply.js" + new URL(import.meta.url).search, import.meta.url).href);
  const streams = new Map();
  return {
    id: "kimi-magics:restore",
    description: "Shows an answer of Kimi that was under way when the page was loaded",
    autoStart: true,
    requires: [notebook.INotebookTracker, rendermime.IRenderMimeRegistry],
    activate: (_app, tracker, registry) => {
      addStyle();
      const createRenderer = () => makeRenderer(new widgets.Widget(), streams, page.default);
      registry.addFactory({ safe: true, mimeTypes: [MIME], createRenderer }, RANK);
      tracker.widgetAdded.connect((_, panel) => new Restorer(panel, streams, services.KernelMessage));
      tracker.forEach(panel => new Restorer(panel, streams, services.KernelMessage));
    },
  };
}

function addStyle() {
  const link = document.createElement("link");
  link.rel = "stylesheet";
  link.href = new URL("./reply.css" + new URL(import.meta.url).search, import.meta.url).href;
  document.head.append(link);
}

/** Make a renderer of `widget`: it draws the stream that the output names, else says what the output is. */
function makeRenderer(widget, streams, page) {
  let dispose = () => {};
  widget.disposed.connect(() => dispose());
  widget.renderModel = async model => {
    dispose();
    widget.node.replaceChildren();
    const stream = streams.get(model.data[MIME].model_id);
    if (stream) dispose = page.render({ model: stream, el: widget.node });
    else widget.node.textContent = LEFT_OVER;
  };
  return widget;
}

/** Watches the kernel of one notebook. */
class Restorer {
  constructor(panel, streams, KernelMessage) {
    Object.assign(this, { panel, streams, KernelMessage });
    this.seen = new Set();
    const { sessionContext } = panel;
    const take = (_, message) => this.take(message);
    sessionContext.iopubMessage.connect(take);
    panel.disposed.connect(() => sessionContext.iopubMessage.disconnect(take));
  }

  take({ header, parent_header, content }) {
    const id = content.comm_id;
    const media = header.msg_type === "comm_msg" && content.data?.state?.media;
    if (header.msg_type === "comm_open") this.seen.add(id);
    else if (media) this.streams.get(id)?.setMedia(media);
    else if (header.msg_type === "comm_msg" && isOurs(content)) {
      const stream = this.streams.get(id);
      if (stream) stream.take(content.data.content);
      else if (!this.seen.has(id)) {
        this.seen.add(id);
        this.restore(id, parent_header.msg_id).catch(error => console.warn("kimi-magics: cannot restore", error));
      }
    } else if (parent_header.msg_id)
      for (const stream of this.streams.values())
        if (stream.request === parent_header.msg_id) this.show(stream, header.msg_type, content);
  }

  async restore(id, request) {
    const { kernel } = this.panel.sessionContext.session;
    const subshell = await openSubshell(kernel, this.KernelMessage);
    const stream = new Stream(id, request, kernel, subshell, this.KernelMessage);
    this.streams.set(id, stream);
    await stream.ready;
    const cell = this.panel.content.widgets.find(one => one.model.id === stream.cell);
    // In a shared document the page that runs the cell sees to its outputs.
    if (!cell || this.panel.content.model.collaborative) return;
    stream.outputs = cell.model.outputs;
    const index = stream.findOutput();
    const data = { [MIME]: { model_id: id }, "text/plain": LEFT_OVER };
    if (index < 0) stream.outputs.clear();
    stream.put(index, data, {});
  }

  /** Do with a message of the running cell what the front end would have done. */
  show(stream, type, content) {
    if (type === "status" && content.execution_state === "idle") {
      stream.close();
      this.streams.delete(stream.id);
    } else if (!stream.outputs) return;
    else if (type === "update_display_data" && content.transient?.display_id === stream.id)
      stream.put(stream.findOutput(), content.data, content.metadata);
    else if (["display_data", "stream", "error"].includes(type)) {
      const { transient: _, ...output } = content;
      stream.outputs.add({ output_type: type, ...output });
    }
  }
}

/** A reply under way, in the place of its widget's model. */
class Stream {
  constructor(id, request, kernel, subshell, KernelMessage) {
    Object.assign(this, { id, request, kernel, subshell, KernelMessage });
    this.listeners = {};
    this.snapshot = null;
    this.media = [];
    this.ready = new Promise((resolve, reject) => {
      this.resolve = resolve;
      setTimeout(() => reject(new Error("the kernel does not answer while the cell runs")), PATIENCE_MS);
    });
    this.send({ wish: "all" });
  }

  get(name) {
    return { uid: this.id, snapshot: this.snapshot, can_stop: true, media: this.media }[name];
  }

  on(event, listener) {
    (this.listeners[event] ??= []).push(listener);
  }

  emit(event, message) {
    for (const listener of this.listeners[event] ?? []) listener(message);
  }

  setMedia(media) {
    this.media = media;
    this.emit("change:media", null);
  }

  send(content) {
    const data = { method: "custom", content };
    this.kernel.sendShellMessage(
      makeMessage(this.kernel, this.KernelMessage, {
        msgType: "comm_msg",
        channel: "shell",
        subshellId: this.subshell,
        content: { comm_id: this.id, data },
      }),
      false,
      true,
    );
  }

  take(message) {
    if (message.all) {
      this.snapshot = message.all;
      this.cell = message.all.cell;
      this.resolve();
    }
    this.emit("msg:custom", message);
  }

  findOutput() {
    for (let index = 0; index < this.outputs.length; index += 1) {
      const { data } = this.outputs.get(index);
      if ([MIME, WIDGET_MIME].some(mime => data[mime]?.model_id === this.id)) return index;
    }
    return -1;
  }

  put(index, data, metadata) {
    const output = { output_type: "display_data", data, metadata };
    if (index < 0) this.outputs.add(output);
    else this.outputs.set(index, output);
  }

  close() {
    const content = { subshell_id: this.subshell };
    this.kernel.sendControlMessage(
      makeMessage(this.kernel, this.KernelMessage, { msgType: "delete_subshell_request", channel: "control", content }),
    );
  }
}

function isOurs({ data }) {
  const message = data?.method === "custom" && data.content;
  return !!message && "number" in message && ("patches" in message || "all" in message);
}

function makeMessage(kernel, KernelMessage, options) {
  return KernelMessage.createMessage({ username: kernel.username, session: kernel.clientId, ...options });
}

/** Ask for a subshell. The kernel's own method cannot yet know whether there are any while the kernel is busy. */
async function openSubshell(kernel, KernelMessage) {
  const message = makeMessage(kernel, KernelMessage, {
    msgType: "create_subshell_request",
    channel: "control",
    content: {},
  });
  const future = kernel.sendControlMessage(message, true);
  const late = new Promise((_, reject) => setTimeout(() => reject(new Error("no subshell")), PATIENCE_MS));
  const reply = await Promise.race([future.done, late]);
  return reply.content.subshell_id;
}
