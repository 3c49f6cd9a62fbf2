// @ts-check
// The page's end of the gauge's comm: one link for each notebook, to the kernel that it has at the moment.
//
// The comm is made of plain messages, not by the front end's own class: that one waits, before it opens a comm, for what
// a kernel says only between two cells, and knows subshells only in newer versions. Questions go over a subshell of the
// link's own, so that a running cell does not hold them up; a kernel without subshells answers when the cell is done.

const TARGET = "kimi_magics.gauge";
const HELLO = "kimi_magics.hello";
const LOAD = "%load_ext kimi_magics";
const INFO_MS = 1_000;
const PATIENCE_MS = 10_000;

/**
 * @typedef {"none" | "connecting" | "unloaded" | "ready"} LinkState
 * none: there is no kernel; unloaded: the kernel has no kimi_magics.
 */
export class GaugeLink {
  /** @param {any} KernelMessage */
  constructor(KernelMessage) {
    this.KernelMessage = KernelMessage;
    /** @type {LinkState} */
    this.state = "none";
    /** Told of each message, and of each change of the state as `{op: "state"}`. @type {Set<(message: any) => void>} */
    this.listeners = new Set();
    this.settings = null;
    /** What runs took, by the id of the cell. @type {Map<string, any>} */
    this.runs = new Map();
    this.kernel = this.subshell = this.opening = this.sessionContext = this.standIn = null;
    this.commId = "";
    this.number = 0;
    /** The order of the cells as the kernel was told it: at once, and in line with the cells that run. */
    this.told = { atOnce: "", inLine: "" };
  }

  /** Follow the kernels of a notebook. */
  attach(sessionContext) {
    this.sessionContext = sessionContext;
    const onKernel = () => this.connect();
    const onMessage = (_, message) => this.take(message);
    const onStatus = (_, status) => this.watch(status);
    sessionContext.kernelChanged.connect(onKernel);
    sessionContext.iopubMessage.connect(onMessage);
    sessionContext.statusChanged.connect(onStatus);
    // A page that goes takes its subshell with it, as far as the browser lets it.
    const onLeave = () => this.leave();
    window.addEventListener("pagehide", onLeave);
    this.detach = () => {
      sessionContext.kernelChanged.disconnect(onKernel);
      sessionContext.iopubMessage.disconnect(onMessage);
      sessionContext.statusChanged.disconnect(onStatus);
      window.removeEventListener("pagehide", onLeave);
      this.leave();
    };
    this.connect();
  }

  detach() {}

  /** Begin with the kernel that there is now. */
  connect() {
    this.close();
    this.kernel = this.sessionContext.session?.kernel ?? null;
    // Without a taker the front end would complain of the hello, which the kernel closes at once.
    this.kernel?.registerCommTarget(HELLO, () => {});
    this.setState(this.kernel ? "connecting" : "none");
    this.subshell = this.opening = null;
    this.settings = null;
    this.runs.clear();
  }

  leave() {
    const { kernel, subshell, KernelMessage } = this;
    this.close();
    if (!subshell || !kernel || kernel.isDisposed) return;
    const content = { subshell_id: subshell };
    const options = { msgType: "delete_subshell_request", channel: "control", content };
    kernel.sendControlMessage(makeMessage(kernel, KernelMessage, options));
    this.subshell = null;
  }

  /** Open the comm, if that was not tried yet: called when there is something to ask. */
  open() {
    if (this.kernel && this.state === "connecting") this.opening ??= this.start(this.kernel);
  }

  async start(kernel) {
    const subshell = await openSubshell(kernel, this.KernelMessage);
    if (kernel !== this.kernel) return;
    this.subshell = subshell;
    this.reopen();
  }

  reopen() {
    this.close();
    this.told = { atOnce: "", inLine: "" };
    this.commId = `kimi-gauge-${crypto.randomUUID?.() ?? Math.random().toString(36).slice(2)}`;
    // The front end complains of a comm that it does not know when the kernel closes it; this one says and hears nothing.
    this.standIn = this.kernel.createComm(TARGET, this.commId);
    this.standIn.commsOverSubshells = "disabled";
    this.send("comm_open", { target_name: TARGET, data: {} });
  }

  /** Tell the kernel that the page goes. */
  close() {
    if (this.commId && this.kernel && !this.kernel.isDisposed) this.send("comm_close", { data: {} });
    this.forget();
  }

  forget() {
    this.commId = "";
    this.standIn?.dispose();
    this.standIn = null;
  }

  /** Whether questions wait for the end of a cell: a kernel without subshells runs one. */
  get isHeldUp() {
    return !this.subshell && this.kernel?.status === "busy";
  }

  /** Ask about a draft; returns the number of the question. */
  ask(question) {
    const seq = ++this.number;
    this.tell({ op: "estimate", seq, ...question });
    return seq;
  }

  tell(data) {
    this.send("comm_msg", { data });
  }

  /**
   * Tell the kernel the order of the cells, where it has changed: at once, or before a cell runs in line with the
   * requests that run cells, so that the cell finds it, however busy the kernel is.
   * @param {string[]} cells
   */
  tellOrder(cells, { isRun = false } = {}) {
    if (this.state !== "ready") return;
    const order = cells.join("\n");
    const way = isRun ? "inLine" : "atOnce";
    if (order === this.told[way]) return;
    // What is told at once may come later than the request that runs a cell.
    this.told = { atOnce: order, inLine: isRun ? order : "" };
    this.send("comm_msg", { data: { op: "order", seq: ++this.number, cells } }, { isInLine: isRun });
  }

  /** Tell the gauge of a cell that its text goes to the kernel now, as it stands. */
  noteSent(cell) {
    this.emit({ op: "sent", cell });
  }

  /** Answer the kernel that asks for the order of the cells around one of them. */
  answerOrder(cells, { number, cell }) {
    const piece = JSON.stringify(cells.includes(cell) ? cells : []);
    this.tell({ op: "answer", number, index: 0, count: 1, piece });
  }

  /** Load the extension into the kernel, as one click asks for. */
  load() {
    this.kernel?.requestExecute({ code: LOAD, store_history: false });
  }

  send(msgType, content, { isInLine = false } = {}) {
    const { kernel, KernelMessage } = this;
    const message = makeMessage(kernel, KernelMessage, {
      msgType,
      channel: "shell",
      content: { comm_id: this.commId, ...content },
    });
    // By hand, since older front ends do not know the field.
    if (this.subshell && !isInLine) message.header.subshell_id = this.subshell;
    kernel.sendShellMessage(message, false, true);
  }

  watch(status) {
    if (!["restarting", "autorestarting", "dead", "terminating"].includes(status)) return;
    // What was open is gone without a word; after a restart a hello tells when there is something again.
    this.forget();
    this.subshell = this.opening = null;
    this.runs.clear();
    this.settings = null;
    this.setState(status === "dead" || status === "terminating" ? "none" : "connecting");
  }

  take({ header, content }) {
    const type = header.msg_type;
    if (type === "comm_open" && content.target_name === HELLO) {
      // A call for those that have not come yet.
      if (!(content.data?.is_call && this.commId)) this.greet();
    } else if (!this.commId || content.comm_id !== this.commId) return;
    else if (type === "comm_close") {
      // The kernel has no such target, or the extension was unloaded.
      this.forget();
      this.setState("unloaded");
    } else if (type === "comm_msg") this.hear(content.data);
  }

  /** The extension was loaded, perhaps again. */
  greet() {
    // The kernel may yet close a comm that came too early for it: the front end is to know it until then.
    this.commId = "";
    this.standIn = null;
    if (this.opening) this.opening.then(() => this.reopen());
    else {
      this.setState("connecting");
      this.open();
    }
  }

  hear(message) {
    if (message.op === "settings") {
      this.settings = message;
      this.setState("ready");
    } else if (message.op === "run") this.runs.set(message.cell, { ...message, at: performance.now() });
    this.emit(message);
  }

  /** @param {LinkState} state */
  setState(state) {
    if (state === this.state) return;
    this.state = state;
    this.emit({ op: "state" });
  }

  emit(message) {
    for (const listener of [...this.listeners])
      try {
        listener(message);
      } catch (error) {
        console.warn("kimi-magics: the gauge failed", error);
      }
  }
}

/**
 * Return the id of a new subshell, or null where the kernel has none. A kernel says what it can when it is idle; one
 * that is busy since before the page was loaded is asked for a subshell all the same, over its control channel.
 */
async function openSubshell(kernel, KernelMessage) {
  const has = kernel.info.then(info => !!info.supported_features?.includes("kernel subshells"));
  if ((await Promise.race([has, wait(INFO_MS)])) === false) return null;
  const without = has.then(known => known || null).then(known => known && wait(PATIENCE_MS));
  const content = {};
  const future = kernel.sendControlMessage(
    makeMessage(kernel, KernelMessage, { msgType: "create_subshell_request", channel: "control", content }),
    true,
  );
  const made = future.done.then(reply => reply.content.subshell_id ?? null);
  return Promise.race([made, without, wait(PATIENCE_MS)]).catch(() => null);
}

function makeMessage(kernel, KernelMessage, options) {
  return KernelMessage.createMessage({ username: kernel.username, session: kernel.clientId, ...options });
}

function wait(milliseconds) {
  return new Promise(resolve => setTimeout(resolve, milliseconds, null));
}
