// @ts-check
// Answers the kernel's questions for what only the page has: pictures attached to a text cell, which no run ever sees,
// those in the outputs, which outlive a kernel, and other cells with what they printed.

const KINDS = ["image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp"];
// A server closes the connection over a message of ten megabytes.
const PIECE = 2_000_000;
// The kernel takes less of what a cell printed: what it leaves out is not sent either.
const END = 20_000;
// What Python says of an object that is shown in another form.
const SAYS_NOTHING = /^<[\w.]+ object>$/;
const COLOURS = /\u001b\[[0-?]*[ -/]*[@-~]/g;

const FINDERS = { attachments: findAttachments, outputs: findOutputs, cells: listCells, cell: findCell };

/**
 * Send what is asked for, in pieces: JSON of a list, `[[mime, base64], …]` for pictures.
 * @param {any} link
 * @param {any} shared the notebook
 * @param {{number: number, what: keyof typeof FINDERS, name: string}} question
 */
export function sendPictures(link, shared, { number, what, name }) {
  let found = [];
  try {
    const cells = [...shared.cells].filter(cell => !cell.isDisposed);
    found = FINDERS[what](cells, name);
  } catch (error) {
    // The kernel shall not wait for an answer that does not come.
    console.warn("kimi-magics: the notebook could not be read", error);
  }
  const text = JSON.stringify(found);
  const count = Math.ceil(text.length / PIECE);
  for (let index = 0; index < count; index += 1) {
    const piece = text.slice(index * PIECE, (index + 1) * PIECE);
    link.tell({ op: "pictures", number, index, count, piece });
  }
}

/** The attachments of that name, or that the pattern fits, the last cell first. */
export function findAttachments(cells, name) {
  const fits = makeMatcher(name);
  return [...cells].reverse().flatMap(cell => {
    const attached = cell.cell_type === "code" ? {} : (cell.toJSON().attachments ?? {});
    return Object.entries(attached)
      .filter(([key]) => fits(key))
      .flatMap(([, bundle]) => pickPicture(bundle));
  });
}

/** The pictures among the outputs of the cell with that id, or of those with that number beside them. */
export function findOutputs(cells, name) {
  const code = cells.filter(cell => cell.cell_type === "code");
  const named = code.filter(cell => cell.id === name);
  const meant = named.length ? named : code.filter(cell => String(cell.execution_count ?? "") === name);
  return meant.flatMap(cell => cell.toJSON().outputs ?? []).flatMap(output => pickPicture(output.data ?? {}));
}

/** All cells from top to bottom, without their outputs, of the notebook that holds the cell with that id. */
export function listCells(cells, running) {
  if (running && !cells.some(cell => cell.id === running)) return [];
  return cells.map(cell => ({ id: cell.id, cell_type: cell.cell_type, execution_count: cell.execution_count ?? null }));
}

/** The cell with that id in a list of one, as in the file, but that of its outputs only what is text is kept. */
export function findCell(cells, id) {
  return cells
    .filter(cell => cell.id === id)
    .map(cell => {
      const { cell_type, source, execution_count = null, outputs = [] } = cell.toJSON();
      return { id, cell_type, source: [source].flat().join(""), execution_count, outputs: outputs.map(keepText) };
    });
}

/** Return an output with both ends of its texts, how many characters they had, and of the rest the kinds. */
function keepText({ output_type, text, traceback, data }) {
  const cut = whole => (whole.length <= 2 * END ? whole : whole.slice(0, END) + whole.slice(-END));
  const join = value => [value ?? ""].flat().join("");
  const take = coloured => {
    const whole = coloured.replace(COLOURS, "");
    return { text: cut(whole), size: whole.length };
  };
  if (output_type === "stream") return { output_type, ...take(join(text)) };
  if (output_type === "error") return { output_type, ...take((traceback ?? []).join("\n")) };
  const [plain, marked] = ["text/plain", "text/markdown"].map(kind => join(data?.[kind]));
  const kinds = Object.keys(data ?? {});
  return { output_type, kinds, ...take(!plain || SAYS_NOTHING.test(plain) ? marked : plain) };
}

/** Return the picture of a bundle as a list of one: the forms of the same picture come in the same bundle. */
function pickPicture(bundle) {
  const mime = KINDS.find(kind => bundle[kind]);
  return mime ? [[mime, [bundle[mime]].flat().join("")]] : [];
}

function makeMatcher(pattern) {
  if (!/[*?]/.test(pattern)) return name => name === pattern;
  const escaped = pattern.replace(/[.+^${}()|[\]\\]/g, "\\$&").replace(/\*/g, ".*").replace(/\?/g, ".");
  const expression = new RegExp(`^${escaped}$`, "s");
  return name => expression.test(name);
}
