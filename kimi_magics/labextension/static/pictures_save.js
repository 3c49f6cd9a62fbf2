// @ts-check
// Saves pictures beside the notebook, each once: the name is made of the content.

const load = file => import(new URL(file + new URL(import.meta.url).search, import.meta.url).href);
const { SUFFIXES, formatSize } = await load("./pictures_text.js");

const FOLDER = "images";
const MOST_BYTES = 50_000_000;

/** Why a picture could not be saved, for the user. */
export class SaveError extends Error {}

/**
 * Save a picture in the folder of pictures, unless it is there; returns its path as seen from the notebook.
 * @param {any} contents the front end's way to files
 * @param {string} notebook the path of the notebook
 * @param {File} file
 */
export async function savePicture(contents, notebook, file) {
  if (file.size > MOST_BYTES)
    throw new SaveError(`the picture has ${formatSize(file.size)}, and at most 50 MB can be pasted: name its file with -i`);
  const name = `pasted-${await digest(file)}.${SUFFIXES[file.type]}`;
  const folder = folderOf(notebook);
  const path = `${folder}${FOLDER}/${name}`;
  try {
    const saved = await find(contents, path);
    if (saved?.size !== file.size) {
      if (!saved && !(await find(contents, folder + FOLDER)))
        await contents.save(folder + FOLDER, { type: "directory", format: "json", content: null });
      const content = await encode(file);
      await contents.save(path, { type: "file", format: "base64", mimetype: file.type, name, path, content });
    }
  } catch (error) {
    throw new SaveError(explain(error));
  }
  return `${FOLDER}/${name}`;
}

/** Return the folder of a path with the slash behind it; a drive of the front end, as in `RTC:name`, stays. */
export function folderOf(path) {
  return /^(.*[/:])?/.exec(path)?.[0] ?? "";
}

/** Return what the server knows of a file or folder, null when there is none. */
async function find(contents, path) {
  try {
    return await contents.get(path, { content: false });
  } catch (error) {
    if (error?.response?.status === 404) return null;
    throw error;
  }
}

function explain(error) {
  const status = error?.response?.status;
  const said = String(error?.message ?? error);
  if (status === 413) return "the server does not take a file of this size: save it there, and name it with -i";
  if (status === 403) return `the folder of the notebook may not be written to (${said})`;
  return said;
}

/** Return the first eight digits of the hash of a file. */
async function digest(file) {
  const bytes = await file.arrayBuffer();
  // A page that did not come over https has no SHA-256: any hash gives a name.
  if (!globalThis.crypto?.subtle) return hashPlainly(new Uint8Array(bytes));
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return [...hash.slice(0, 4)].map(byte => byte.toString(16).padStart(2, "0")).join("");
}

/** FNV-1a: http://www.isthe.com/chongo/tech/comp/fnv/ */
export function hashPlainly(bytes) {
  let hash = 0x811c9dc5;
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193);
  return (hash >>> 0).toString(16).padStart(8, "0");
}

/** @returns {Promise<string>} the bytes of a file in base 64 */
function encode(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result).split(",", 2)[1] ?? "");
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}
