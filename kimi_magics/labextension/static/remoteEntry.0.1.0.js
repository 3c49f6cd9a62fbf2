// @ts-check
// The container by which JupyterLab and Notebook 7 load the extension: what a bundler would write, by hand. It takes
// the packages of the front end from its share scope, which is a contract of module federation at run time, not an API
// in writing: where something is missing, the extension stays away with one warning, and nothing else is disturbed.
(() => {
  "use strict";
  const NAME = "kimi-magics";
  const script = /** @type {HTMLScriptElement} */ (document.currentScript);
  const version = /remoteEntry\.(.+)\.js/.exec(script.src)?.[1];
  /** @type {Record<string, Record<string, {loaded?: unknown, get: () => Promise<() => any>}>>} */
  let scope = {};

  /** Return a package of the front end: the version that is loaded already, else the last one. */
  async function shared(name) {
    const versions = Object.values(scope[name] ?? {});
    if (!versions.length) throw new Error(`${NAME}: the front end does not share ${name}`);
    const chosen = versions.find(one => one.loaded) ?? versions[versions.length - 1];
    return (await chosen.get())();
  }

  const modules = {
    "./extension": async () => {
      const plugins = [];
      for (const file of ["reply_plugin.js", "restore_plugin.js", "gauge_plugin.js", "pictures_plugin.js"])
        try {
          // The version is part of the address, or a browser would go on with the file of another one.
          const plugin = await import(new URL(`./${file}?v=${version}`, script.src).href);
          plugins.push(await plugin.create(shared));
        } catch (error) {
          console.warn(`${NAME}: ${file} could not be loaded`, error);
        }
      return () => ({ __esModule: true, default: plugins });
    },
    "./style": async () => () => ({}),
  };

  const containers = (window["_JUPYTERLAB"] = window["_JUPYTERLAB"] || {});
  containers[NAME] = {
    init: given => void (scope = given),
    get: name => (modules[name] ? modules[name]() : Promise.reject(new Error(`${NAME}: there is no module ${name}`))),
  };
})();
