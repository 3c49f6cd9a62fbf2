// @ts-check
// What a gauge shows, made of what its model and its link know: a pure function.

const query = new URL(import.meta.url).search;
const { describe, describeRun } = await import(new URL("./gauge_text.js" + query, import.meta.url).href);

const NOTHING = { message: "", remedy: "", kept: null, parts: {}, model: "", context: null, price: null };
const NOTES = {
  "no-kernel": "no kernel: start one to have the prompt counted",
  unloaded: "estimated here: the kernel has not loaded kimi_magics",
  off: "the gauge is off",
};
const WAITING = "counted when the cell that runs is done";

/**
 * @typedef {object} Look
 * @property {string} state
 * @property {string} warning
 * @property {number} tokens
 * @property {Record<string, string>} texts the pieces of the row, and `hover`
 * @property {number} share of the context, 0 when it is not known
 */

/**
 * Return what to show.
 * @param {any} model @param {any} link @param {number | null} digits of money
 * @returns {Look}
 */
export function lookAt(model, link, digits) {
  const { report, run } = model;
  const state = findState(model, link);
  if (run && state !== "error") return lookAtRun(run, digits);
  const isBare = ["error", "empty", "off"].includes(state) || (!report && model.isBlank);
  const tokens = isBare ? 0 : model.tokens;
  const figures = report?.tokens == null ? null : report;
  // What was said of another text is not said of this one, but for what is wrong with its first line.
  const isSaid = report && (model.isFresh || state === "error");
  const { message, remedy, kept } = isSaid ? report : NOTHING;
  const counted = model.isConfirmed();
  const whole = { ...NOTHING, ...figures, message, remedy, kept, counted, tokens: isBare ? null : tokens };
  const texts = describe(whole, digits);
  // Without a price list, which the kernel has, nothing is known of the cost; that is not an unknown price.
  if (!figures) texts.cost = "";
  texts.note = NOTES[state] || texts.note || (state === "empty" ? "the prompt is empty" : "");
  const isWaiting = model.isAsking && link.isHeldUp;
  if (isWaiting) texts.note ||= WAITING;
  return {
    state: state === "local" && model.isAsking && !isWaiting ? "counting" : state,
    warning: model.isFresh ? report.warning : "",
    tokens,
    texts,
    share: whole.context ? Math.min(1, tokens / whole.context) : 0,
  };
}

function findState(model, link) {
  const { report, isFresh } = model;
  if (link.state === "none") return "no-kernel";
  if (link.state === "unloaded") return "unloaded";
  if (link.settings?.gauge === "off" && !isFresh) return "off";
  if (!report) return model.isBlank ? "empty" : "local";
  return isFresh || report.state === "error" ? report.state : "local";
}

function lookAtRun(run, digits) {
  const { prompt_tokens, cached_tokens, completion_tokens } = run;
  const hover = `prompt ${prompt_tokens} (${cached_tokens} cached) · answer ${completion_tokens} tokens`;
  return { state: "billed", warning: "", tokens: prompt_tokens, texts: { run: describeRun(run, digits), hover }, share: 0 };
}
