// @ts-check
// Lends the front end's own Markdown renderer to the widget in which a reply grows (kimi_magics/notebook/static).

/** @param {(name: string) => Promise<any>} shared gives the packages of the front end */
export async function create(shared) {
  const rendermime = await shared("@jupyterlab/rendermime");
  return {
    id: "kimi-magics:reply",
    description: "Draws the answers of Kimi while they come",
    autoStart: true,
    requires: [rendermime.IRenderMimeRegistry],
    activate: (_app, registry) => {
      globalThis.kimiMagics = { ...globalThis.kimiMagics, renderMarkdown: makeRenderer(registry) };
    },
  };
}

/** Return a function from Markdown to an element; formulas are set only in what will not change any more. */
function makeRenderer(registry) {
  const calm = registry.clone({ latexTypesetter: { typeset() {} } });
  return async (markdown, isFinal) => {
    const data = { "text/markdown": markdown };
    const renderer = calm.createRenderer("text/markdown");
    await renderer.renderModel(calm.createModel({ data, trusted: false }));
    if (isFinal) registry.latexTypesetter?.typeset(renderer.node);
    return renderer.node;
  };
}
