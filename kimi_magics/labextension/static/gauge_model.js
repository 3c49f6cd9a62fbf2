// @ts-check
// What one gauge knows of its draft, and when it asks: at once a number of its own, then what the kernel knows, then,
// once typing has stopped, what the API counted. One question is under way at a time, and the latest text wins.

const query = new URL(import.meta.url).search;
const { countCharacters, extrapolate } = await import(new URL("./gauge_text.js" + query, import.meta.url).href);

// A question to the API for every twelfth of a hundred characters, and four at once.
const CREDITS = 4;
const CREDITS_PER_CHARACTER = 0.08;
// Who types slowly is asked for patience: with no credit left the pause is longer.
const LONG_PAUSE_MS = 1_500;
const PATIENCE_MS = 45_000;
// A host that could not be asked may be there again; the kernel decides whether it is asked.
const AGAIN_MS = 10_000;

export class GaugeModel {
  /**
   * @param {any} link
   * @param {{cell: string, settings: {debounce: number}, changed: () => void}} options
   */
  constructor(link, { cell, settings, changed }) {
    Object.assign(this, { link, cell, settings, changed });
    this.text = "";
    this.counts = {};
    /** The last report, and the number of characters that it is about. @type {any} */
    this.base = null;
    /** @type {any} */
    this.report = null;
    this.run = null;
    this.isFresh = false;
    this.hasFocus = this.isVisible = false;
    this.editedAt = -Infinity;
    /** When the cell was last sent to be run; null where the front end does not tell. @type {number | null} */
    this.sentAt = null;
    this.credits = CREDITS;
    /** @type {{seq: number, counts: any, text: string, passive: boolean} | null} */
    this.asked = null;
    this.timer = this.alarm = 0;
    this.hear = message => this.take(message);
    link.listeners.add(this.hear);
    this.run = link.runs.get(cell) ?? null;
  }

  dispose() {
    clearTimeout(this.timer);
    clearTimeout(this.alarm);
    this.link.listeners.delete(this.hear);
  }

  /** The tokens to show now. */
  get tokens() {
    if (this.report?.state === "empty") return 0;
    return this.isFresh && this.report?.tokens != null ? this.report.tokens : extrapolate(this.base, this.counts);
  }

  /** Whether there is nothing to count: no text, and no flag that may bring some. */
  get isBlank() {
    return !bodyOf(this.text).trim() && !/\s-/.test(this.text);
  }

  /** Whether a question that may reach the API is under way. */
  get isAsking() {
    return !!this.asked && !this.asked.passive;
  }

  /** Take the text as it is at the beginning. */
  begin(text) {
    this.text = text;
    this.counts = countCharacters(bodyOf(text));
  }

  /** Take an edit: `counts` are the characters of the body as they are now, `typed` how many have changed. */
  edit(text, counts, typed) {
    this.text = text;
    this.counts = counts;
    this.isFresh = false;
    this.run = null;
    this.link.runs.delete(this.cell);
    this.editedAt = performance.now();
    this.credits = Math.min(CREDITS, this.credits + CREDITS_PER_CHARACTER * typed);
    this.plan();
  }

  focus(hasFocus) {
    this.hasFocus = hasFocus;
    if (hasFocus && !this.isConfirmed()) this.plan();
  }

  /** Ask what the kernel knows already, without the API, when the gauge comes into sight. */
  show(isVisible) {
    this.isVisible = isVisible;
    if (isVisible && !this.report && !this.asked) this.ask({ passive: true });
  }

  /** Ask now, and the API as well, whatever the settings of time say. */
  askNow() {
    this.link.open();
    clearTimeout(this.timer);
    this.isFresh = false;
    this.asked = null;
    this.ask({ now: true });
  }

  isConfirmed() {
    return this.isFresh && !!this.report?.counted;
  }

  plan() {
    clearTimeout(this.timer);
    const pause = this.credits >= 1 ? this.settings.debounce : Math.max(this.settings.debounce, LONG_PAUSE_MS);
    this.timer = setTimeout(() => this.ask({}), pause);
  }

  ask({ passive = false, now = false }) {
    const { link } = this;
    if (link.state !== "ready") return link.open();
    if (!this.settings.enabled && !now) return;
    // Off is off.
    if (link.settings.gauge === "off" && !now && this.report?.state === "off") return;
    if (this.asked) return; // the answer brings the next question
    if (!passive) this.credits = Math.max(0, this.credits - 1);
    const seq = link.ask({ cell: this.cell, text: this.text, passive, now });
    this.asked = { seq, counts: this.counts, text: this.text, passive };
    this.setAlarm();
    this.changed();
  }

  setAlarm() {
    clearTimeout(this.alarm);
    this.alarm = setTimeout(() => this.giveUp(), PATIENCE_MS);
  }

  /** The answer was lost; unless the kernel takes questions between cells only. */
  giveUp() {
    if (this.link.isHeldUp) return this.setAlarm();
    this.asked = null;
    this.changed();
  }

  take(message) {
    if (message.op === "report") this.takeReport(message);
    else if (message.op === "run" && message.cell === this.cell) this.takeRun(message);
    else if (message.op === "sent" && message.cell === this.cell) this.sentAt = performance.now();
    else if (message.op === "ran") this.goStale();
    else if (message.op === "settings" || message.op === "state") this.takeState(message);
    else return;
    this.changed();
  }

  takeReport(message) {
    if (message.seq !== this.asked?.seq) return;
    const { counts, text, passive } = this.asked;
    this.report = message;
    if (message.tokens != null) this.base = { tokens: message.tokens, rates: message.rates, counts };
    this.isFresh = text === this.text;
    if (!message.final) return;
    clearTimeout(this.alarm);
    this.asked = null;
    if (message.state === "offline" && this.hasFocus) {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.hasFocus && this.ask({}), AGAIN_MS);
    }
    // What was typed meanwhile; or the cursor came while only the kernel was asked.
    if (!this.isFresh || (passive && this.hasFocus && !this.isConfirmed() && message.state === "local")) this.plan();
  }

  takeRun(message) {
    // Not over a draft that was edited while the cell ran. A front end that does not tell when a cell is sent leaves the
    // call's own time, and half a second for what comes before and after it.
    const sent = this.sentAt ?? performance.now() - 1000 * message.seconds - 500;
    if (this.editedAt <= sent) this.run = message;
  }

  /** A cell has run: variables may be others now. */
  goStale() {
    if (!this.report?.depends && this.report?.state !== "error") return;
    this.isFresh = false;
    if (this.hasFocus) this.plan();
    else if (this.isVisible) this.ask({ passive: true });
    else this.report = null;
  }

  takeState(message) {
    const { link } = this;
    if (message.op === "state" && link.state !== "ready") {
      this.asked = this.report = this.run = null;
      this.isFresh = false;
      if (link.state === "connecting" && this.isVisible) link.open();
      return;
    }
    if (link.state !== "ready") return;
    if (this.hasFocus) this.plan();
    else if (this.isVisible && (message.op === "settings" || !this.report)) this.ask({ passive: true });
  }
}

const FLAG = /^--?[a-z][a-z-]*(?:(?<=--(?:json|web|cache|dry-run|no-stream|raw))|(?:\s*=\s*|\s+)(?:"[^"]*"|'[^']*'|\S+))(?:\s+|$)/;

/** Return what is below the first line; of a line, what follows the name of the magic and its flags, about. */
export function bodyOf(text) {
  const end = text.indexOf("\n");
  if (/^\s*%%/.test(text)) return end < 0 ? "" : text.slice(end + 1);
  let rest = text.replace(/^\s*%\w+\s*/, "");
  while (FLAG.test(rest)) rest = rest.replace(FLAG, "");
  return rest;
}
