// @ts-check
// Lets pictures be pasted and dropped into the cells that are prompts for Kimi.

const ID = "kimi-magics:pictures";

/** @param {(name: string) => Promise<any>} shared gives the packages of the front end */
export async function create(shared) {
  const [notebook, codemirror, state, view] = await Promise.all(
    ["@jupyterlab/notebook", "@jupyterlab/codemirror", "@codemirror/state", "@codemirror/view"].map(shared),
  );
  const query = new URL(import.meta.url).search;
  const load = file => import(new URL(`./${file}${query}`, import.meta.url).href);
  const [{ makeExtension }, { savePicture, folderOf }, { findWay }] = await Promise.all(
    ["pictures_paste.js", "pictures_save.js", "pictures_text.js"].map(load),
  );
  return {
    id: ID,
    description: "Saves pictures that are pasted into a prompt for Kimi, and names them in it",
    autoStart: true,
    requires: [notebook.INotebookTracker, codemirror.IEditorExtensionRegistry],
    activate: (app, tracker, extensions) => {
      addStyle();
      const { contents } = app.serviceManager;
      const findNotebook = cell => {
        const panel = tracker.find(one => one.context.model.sharedModel === cell.notebook);
        if (!panel) throw new Error("the notebook was closed");
        return panel.context.path;
      };
      const toLocal = path => contents.localPath?.(path) ?? path;
      extensions.addExtension(
        Object.freeze({
          name: ID,
          factory: options => {
            const cell = options.model?.sharedModel;
            if (cell?.cell_type !== "code" || !cell.notebook) return null;
            const made = makeExtension(
              { state, view },
              {
                save: file => savePicture(contents, findNotebook(cell), file),
                findPath: path => findWay(folderOf(toLocal(findNotebook(cell))).slice(0, -1), toLocal(path)),
                separate: () => cell.undoManager?.stopCapturing?.(),
              },
            );
            return codemirror.EditorExtensionRegistry.createImmutableExtension(made);
          },
        }),
      );
    },
  };
}

function addStyle() {
  const link = document.createElement("link");
  link.rel = "stylesheet";
  link.href = new URL("./pictures.css" + new URL(import.meta.url).search, import.meta.url).href;
  document.head.append(link);
}
