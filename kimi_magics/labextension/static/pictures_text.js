// @ts-check
// Where a picture is named in a prompt, and how: pure functions.

/** What can be pasted: the kinds of pictures that the API takes, with their suffixes. @type {Record<string, string>} */
export const SUFFIXES = {
  "image/png": "png",
  "image/jpeg": "jpg",
  "image/gif": "gif",
  "image/webp": "webp",
  "image/bmp": "bmp",
};

const MAGIC = /^\s*(%%?)kimi(?:_estimate|_describe)?(?![\w.])/;
const WORD = /^\s*%%?\w+/;
const ALONE = "upload|over-budget|no-stream|dry-run|raw|json|ask|web|code|compare|short|long|alt|cache|fresh";
const VALUED = "model|system|image|image-size|video|file|cell|template|chat|out|max-tokens|stop|thinking|effort|prefill|name|schema|retries|tool|max-steps|lang";
const VALUE = `(?:"(?:[^"\\\\]|\\\\.)*"|'[^']*'|[^\\s"'\\\\])+`;
// What a template fills in belongs to its flag.
const PAIRS = `(?:\\s+[A-Za-z_]\\w*=(?:${VALUE})?)*`;
const TEMPLATE = `(?:-t|--template)(?:=|\\s+)${VALUE}${PAIRS}`;
const FLAG = new RegExp(`\\s+(?:--(?:${ALONE})|${TEMPLATE}|(?:-[msioc]|--(?:${VALUED}))(?:=|\\s+)${VALUE})(?=\\s|$)`, "y");
const HEAD = 2_000;

/**
 * Return where `-i` belongs in a text, or null when nothing there is a prompt for Kimi: a whole cell, or the line at
 * `position`.
 * @param {any} doc the text, as CodeMirror keeps it @param {number} position
 */
export function findPlace(doc, position) {
  const head = doc.sliceString(0, HEAD);
  const isCell = /^\s*%%/.test(head);
  const line = doc.lineAt(isCell ? head.length - head.trimStart().length : position);
  const match = MAGIC.exec(line.text);
  if (!match || (match[1] === "%%") !== isCell) return null;
  return line.from + findEndOfFlags(line.text);
}

/** Return the place behind the flags that stand after the name of a magic, as far as they are known. */
export function findEndOfFlags(line) {
  FLAG.lastIndex = WORD.exec(line)?.[0].length ?? 0;
  let end = FLAG.lastIndex;
  while (FLAG.test(line)) end = FLAG.lastIndex;
  return end;
}

/** Write a path as a value on the line of a magic, which is read as a shell reads it. */
export function quote(path) {
  if (!/[\s"'\\]/.test(path)) return path;
  return path.includes("'") ? `"${path.replace(/["\\]/g, "\\$&")}"` : `'${path}'`;
}

/** Return `path` as it is named from `folder`; both from the same root, "" is the root itself. */
export function findWay(folder, path) {
  const from = folder ? folder.split("/") : [];
  const to = path.split("/");
  let same = 0;
  while (same < from.length && same < to.length - 1 && from[same] === to[same]) same += 1;
  return [...from.slice(same).map(() => ".."), ...to.slice(same)].join("/");
}

/** Whether a file of this name can be sent as a picture. */
export function isPicture(path) {
  return /\.(png|jpe?g|gif|webp|bmp)$/i.test(path);
}

/**
 * Whether the text that came with files is meant, as in a copy from a table or a page of text, and not only the names of
 * the files.
 * @param {string} text @param {string[]} names
 */
export function isText(text, names) {
  const lines = text.split(/\r?\n/).filter(line => line.trim());
  return lines.some(line => !names.some(name => line.endsWith(name) || line.endsWith(encodeURI(name))));
}

/** Return a number of bytes for a reader. */
export function formatSize(bytes) {
  return bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(bytes < 1e8 ? 1 : 0)} MB`;
}
