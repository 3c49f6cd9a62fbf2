// @ts-check
// Takes pictures that are pasted or dropped into a prompt: they are saved beside the notebook and named on the line of
// the magic. Whatever else is pasted or dropped, or elsewhere, is left to the front end.

const load = file => import(new URL(file + new URL(import.meta.url).search, import.meta.url).href);
const { SUFFIXES, findPlace, isPicture, isText, quote } = await load("./pictures_text.js");

/** What JupyterLab's own file browser drags. */
const CONTENTS_MIME = "application/x-jupyter-icontents";

/**
 * @typedef {object} Note a line below the text: what is being done, or what went wrong
 * @property {number} id
 * @property {string} text
 * @property {boolean} isError
 * @property {number} position in the text, which moves with it
 */

/**
 * Return the editor extension of one cell.
 * @param {any} modules `{state, view}` of CodeMirror
 * @param {{save: (file: File) => Promise<string>, findPath: (path: string) => string, separate: () => void}} options
 * `save` gives the path to be named, `separate` makes what follows a step of its own for undo
 */
export function makeExtension({ state, view }, { save, findPath, separate }) {
  const add = state.StateEffect.define();
  const remove = state.StateEffect.define();
  const notes = state.StateField.define({
    /** @returns {Note[]} */
    create: () => [],
    update: (before, transaction) => {
      let now = before;
      if (transaction.docChanged && now.length)
        now = now.map(note => ({ ...note, position: transaction.changes.mapPos(note.position) }));
      for (const effect of transaction.effects)
        if (effect.is(add)) now = [...now, effect.value];
        else if (effect.is(remove)) now = now.filter(note => !effect.value(note));
      return now;
    },
    provide: field => view.showPanel.compute([field], editor => (editor.field(field).length ? makePanel : null)),
  });
  const makePanel = editor => drawNotes(editor, notes, note => forget(editor, one => one === note));
  const forget = (editor, isMeant) => editor.dispatch({ effects: remove.of(isMeant) });
  let last = 0;

  /** Save the pictures, then name them; what happens meanwhile is said. */
  async function keep(editor, files, position, event) {
    const id = (last += 1);
    const isOurs = note => note.id === id;
    const text = files.length === 1 ? "Saving the picture …" : `Saving ${files.length} pictures …`;
    const effects = [remove.of(note => note.isError), add.of({ id, text, isError: false, position })];
    editor.dispatch({ effects });
    const tell = words => {
      const said = { id, text: words, isError: true, position };
      editor.dispatch({ effects: [remove.of(isOurs), add.of(said)] });
    };
    try {
      const paths = [];
      // One after the other: the first makes the folder.
      for (const file of files) paths.push(await save(file));
      const now = editor.state.field(notes).find(isOurs)?.position ?? 0;
      if (insert(editor, [...new Set(paths)], now, event)) forget(editor, isOurs);
      else tell(`The picture is saved as ${paths.join(", ")}; there is no prompt left that could name it.`);
    } catch (error) {
      tell(`The picture was not pasted: ${error?.message ?? error}.`);
    }
  }

  /** Name pictures on the line of the magic, in one step that undo takes back. */
  function insert(editor, paths, position, event) {
    const place = findPlace(editor.state.doc, position);
    if (place == null) return false;
    const text = paths.map(path => ` -i ${quote(path)}`).join("");
    const changes = editor.state.changes({ from: place, insert: text });
    separate();
    // A cursor that stands there goes on behind the text.
    editor.dispatch({ changes, selection: editor.state.selection.map(changes, 1), userEvent: event, scrollIntoView: true });
    separate();
    return true;
  }

  const isPrompt = (editor, position) => !editor.state.readOnly && findPlace(editor.state.doc, position) != null;
  const placeOf = (event, editor) => editor.posAtCoords({ x: event.clientX, y: event.clientY }, false);

  function take(editor, files, position, event) {
    const pictures = [...files].filter(file => SUFFIXES[file.type]);
    if (!pictures.length || !isPrompt(editor, position)) return false;
    keep(editor, pictures, position, event).catch(error => console.warn("kimi-magics: a picture was lost", error));
    return true;
  }

  /** Let the browser know that the pictures which it drags can be dropped here. */
  function allow(editor, event, position) {
    const kinds = [...(event.dataTransfer?.items ?? [])].map(item => item.type);
    if (!kinds.some(kind => SUFFIXES[kind]) || !isPrompt(editor, position)) return false;
    event.dataTransfer.dropEffect = "copy";
    return true;
  }

  /** The pictures among what the file browser drags, as they would be named. */
  function pathsOf(event, editor) {
    const dragged = event.mimeData?.getData(CONTENTS_MIME);
    const paths = Array.isArray(dragged) ? dragged.filter(isPicture) : [];
    return paths.length && isPrompt(editor, placeOf(event, editor)) ? paths.map(findPath) : [];
  }

  /** Let the file browser know that its files can be dropped here. */
  function accept(event, editor) {
    if (!pathsOf(event, editor).length) return false;
    event.stopPropagation();
    event.dropAction = event.proposedAction;
    return true;
  }

  const handlers = view.EditorView.domEventHandlers({
    paste: (event, editor) => {
      const { clipboardData: data } = event;
      const files = [...(data?.files ?? [])];
      if (!files.length || isText(data.getData("text/plain"), files.map(file => file.name))) return false;
      return take(editor, files, editor.state.selection.main.head, "input.paste");
    },
    dragover: (event, editor) => allow(editor, event, placeOf(event, editor)),
    drop: (event, editor) => take(editor, event.dataTransfer?.files ?? [], placeOf(event, editor), "input.drop"),
    "lm-dragenter": accept,
    "lm-dragover": accept,
    "lm-drop": (event, editor) => {
      const paths = pathsOf(event, editor);
      if (!paths.length) return false;
      accept(event, editor);
      return insert(editor, paths, placeOf(event, editor), "input.drop");
    },
  });

  /** What is dropped on the gauge is meant for its prompt; left alone, the browser would go to the picture. */
  const around = view.ViewPlugin.define(editor => {
    const gone = new AbortController();
    const isAside = event => !event.defaultPrevented && !editor.contentDOM.contains(event.target);
    const position = () => editor.state.selection.main.head;
    const catchDrag = event => isAside(event) && allow(editor, event, position()) && event.preventDefault();
    const catchDrop = event =>
      isAside(event) && take(editor, event.dataTransfer?.files ?? [], position(), "input.drop") && event.preventDefault();
    editor.dom.addEventListener("dragover", catchDrag, { signal: gone.signal });
    editor.dom.addEventListener("drop", catchDrop, { signal: gone.signal });
    return { destroy: () => gone.abort() };
  });
  return [notes, state.Prec.high(handlers), around];
}

/** Draw the notes of an editor as a panel below its text. */
function drawNotes(editor, field, dismiss) {
  const dom = document.createElement("div");
  dom.className = "kimi-pictures";
  const draw = () => dom.replaceChildren(...editor.state.field(field).map(note => drawNote(note, () => dismiss(note))));
  draw();
  return {
    dom,
    update: change => change.startState.field(field) !== change.state.field(field) && draw(),
  };
}

function drawNote(note, dismiss) {
  const line = document.createElement("div");
  line.className = note.isError ? "kimi-pictures-error" : "kimi-pictures-busy";
  line.setAttribute("role", note.isError ? "alert" : "status");
  line.append(note.text);
  if (note.isError) {
    const button = line.appendChild(document.createElement("button"));
    button.textContent = "×";
    button.title = "Dismiss";
    button.setAttribute("aria-label", "Dismiss");
    button.onclick = dismiss;
  }
  return line;
}
