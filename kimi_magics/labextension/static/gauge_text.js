// @ts-check
// The words of the gauge, and the number between two counts: pure functions. The kernel has the same words in
// notebook/gauge_text.py; tests/gauge_golden.json holds both to it.

const query = new URL(import.meta.url).search;
const { CLASSES, RATES } = await import(new URL("./gauge_classes.js" + query, import.meta.url).href);
/** What the template adds to one short message. */
export const OVERHEAD = 8;
const SYMBOLS = { USD: "$", CNY: "¥" };
const MAGIC = /^\s*(?:(%%?)kimi(_estimate)?|%kimi_describe)(?![\w.])/;

/** Return "cell" for a cell that is a prompt, "line" for a line that is one, else "". */
export function kindOf(text) {
  const match = MAGIC.exec(text);
  return match ? (match[1] === "%%" ? "cell" : "line") : "";
}

/** Return how many characters of each class `text` has. */
export function countCharacters(text) {
  const counts = {};
  for (const [name, expression] of Object.entries(CLASSES)) counts[name] = (text.match(expression) ?? []).length;
  return counts;
}

/** Return the tokens of a draft by what was last known of it; `counts` are those of its characters now. */
export function extrapolate(base, counts) {
  const rates = { ...RATES, ...base?.rates };
  let tokens = base ? base.tokens : OVERHEAD;
  for (const name in counts) tokens += (rates[name] ?? 0) * (counts[name] - (base?.counts[name] ?? 0));
  return Math.max(1, Math.ceil(tokens));
}

/**
 * Return the pieces of a report as text; a piece that has nothing to say is empty.
 * @param {any} message as the kernel sends it
 * @param {number | null} [digits] digits of money after the point; by its size when absent
 */
export function describe(message, digits = null) {
  const note = [message.message, message.remedy].filter(Boolean).join(" → ");
  if (message.tokens == null)
    return { tokens: "", cost: "", share: "", answer: "", budget: "", hover: "", note };
  const about = message.counted && !message.added ? "" : "≈ ";
  const { tokens, price, kept } = message;
  const budget = describeBudget(message.budget, digits);
  if (kept) {
    const hover = describeParts(message);
    return { tokens: about + nameTokens(tokens), cost: describeKept(kept, digits), share: "", answer: "", budget: "", note, hover };
  }
  const money = (count, kind) => formatMoney((count * Number(price[kind])) / 1e6, price.currency, digits);
  return {
    tokens: about + nameTokens(tokens),
    cost: price ? about + money(tokens, "input") : "unknown price",
    share: describeShare(tokens, message.context),
    answer: describeAnswer(message.answer, price && (count => money(count, "output")), message.limit),
    // One for each call is named by what is said of it.
    budget: note.includes(budget) ? "" : budget,
    note,
    hover: describeParts(message),
  };
}

/** Return what a run took beside what was expected, and what it left of a budget. */
export function describeRun(message, digits = null) {
  if (message.replayed) return describeKept(message.replayed, digits);
  const verb = message.estimated ? "≈ " : "billed ";
  // What was expected is the first request alone: what a tool answers is not known before.
  const steps = message.steps > 1 ? ` in ${message.steps} steps` : "";
  const parts = [`est. ${group(message.expected)} → ${verb}${group(message.prompt_tokens)}${steps}`];
  if (message.cached_tokens) parts.push(`${group(message.cached_tokens)} cached`);
  const { cost, currency } = message;
  parts.push(cost == null ? "unknown price" : formatMoney(Number(cost), currency, digits));
  if (message.budget) parts.push(describeBudget(message.budget, digits));
  return parts.join(" · ");
}

/** Return what the calls of a session took together. */
export function describeTotals(message, digits = null) {
  const parts = [`${message.calls} call${message.calls === 1 ? "" : "s"}`, `${formatTokens(message.tokens)} tokens`];
  for (const [currency, amount] of message.costs) parts.push(formatMoney(Number(amount), currency, digits));
  if (message.unpriced) parts.push(`${message.unpriced} of unknown price`);
  return parts.join(" · ");
}

/** Return that an answer is replayed, and what it cost when it was billed. */
function describeKept({ cost, currency, date }, digits) {
  const first = cost == null ? "" : `${formatMoney(Number(cost), currency, digits)} `;
  return `replayed · ${formatMoney(0, currency)} · first ${first}on ${date}`;
}

/** Write an amount for a reader: `$0.0021`, and two significant digits below a tenth of a cent: `$0.000028`. */
export function formatMoney(amount, currency, digits = null) {
  const symbol = SYMBOLS[currency] ?? `${currency} `;
  if (amount === 0) return `${symbol}0`;
  if (digits != null) return symbol + amount.toFixed(digits);
  if (amount >= 100) {
    const [whole, cents] = amount.toFixed(2).split(".");
    return `${symbol}${group(Number(whole))}.${cents}`;
  }
  const places = amount >= 0.001 ? 4 : 1 - Number(amount.toExponential(1).split("e")[1]);
  return symbol + amount.toFixed(places);
}

/** Write a number of tokens for a reader, as in `412`, `1.2K`, `1.05M`. */
export function formatTokens(count) {
  if (count < 1000) return String(count);
  return count < 999_950 ? `${(count / 1000).toFixed(1)}K` : `${(count / 1_000_000).toFixed(2)}M`;
}

function group(count) {
  return String(count).replace(/\B(?=(\d{3})+$)/g, ",");
}

function nameTokens(count) {
  return `${group(count)} token${count === 1 ? "" : "s"}`;
}

function describeShare(tokens, context) {
  if (!context) return "";
  const share = (100 * tokens) / context;
  return `${share < 0.1 ? "< 0.1" : share.toFixed(1)}% of ${formatTokens(context)}`;
}

function describeAnswer(answer, money, limit) {
  if (limit != null) return `answer up to ${group(limit)} tokens`;
  if (!answer) return "";
  const { low, high } = answer;
  const write = money || formatTokens;
  const span = low == null || low === high ? write(high) : `${write(low)}–${write(high)}`;
  return (low == null ? "answer up to " : "answer ") + span + (money ? "" : " tokens");
}

function describeBudget(budget, digits) {
  if (!budget) return "";
  const { left, amount, currency, per } = budget;
  const isTokens = currency === "tokens";
  const whole = isTokens ? `${group(amount)} tokens` : `${SYMBOLS[currency] ?? `${currency} `}${amount}`;
  if (per === "call") return `${whole} per call`;
  const rest = isTokens ? group(Math.floor(Number(left))) : formatMoney(Number(left), currency, digits);
  return `${rest} left of ${whole}${per === "session" ? "" : ` per ${per}`}`;
}

function describeParts(message) {
  const parts = Object.entries(message.parts).map(([name, tokens]) => `${name} ${group(tokens)}`);
  const lines = [message.model, parts.join(" · ")];
  if (message.answer) lines.push(`answer: by ${message.answer.basis}`);
  return lines.join("\n");
}
