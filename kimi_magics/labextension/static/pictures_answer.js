// @ts-check
// Answers the kernel's questions for pictures that only the page has: those attached to a text cell, which no run ever
// sees, and those in the outputs, which outlive a kernel.

const KINDS = ["image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp"];
// A server closes the connection over a message of ten megabytes.
const PIECE = 2_000_000;

/**
 * Send what is asked for, in pieces: JSON of `[[mime, base64], …]`.
 * @param {any} link
 * @param {any} shared the notebook
 * @param {{number: number, what: "attachments" | "outputs", name: string}} question
 */
export function sendPictures(link, shared, { number, what, name }) {
  let found = [];
  try {
    const cells = [...shared.cells].filter(cell => !cell.isDisposed);
    found = what === "attachments" ? findAttachments(cells, name) : findOutputs(cells, name);
  } catch (error) {
    // The kernel shall not wait for an answer that does not come.
    console.warn("kimi-magics: the pictures of the notebook could not be read", error);
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
