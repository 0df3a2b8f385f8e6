/*
 * A status-bar item: "GPU: …", or "no GPU: …" with the fix in its tooltip.
 *
 * Written by hand in the form of a prebuilt extension (webpack's module federation): JupyterLab
 * calls init with its shared modules, then get('./extension'). The text was put into the page by
 * jupyter_server_config.py; nothing is asked of the network.
 */
(() => {
  'use strict';
  const ID = 'hothouse-gpu';
  let shared = {};

  /** Return the module of JupyterLab's own that goes by this name. */
  const load = async (name) => {
    const versions = Object.values(shared[name] ?? {});
    if (versions.length === 0) {
      throw new Error(`${ID}: JupyterLab does not share ${name}`);
    }
    const factory = await (versions.find((one) => one.loaded) ?? versions[0]).get();
    return factory();
  };

  /** Make the item; all of it is in the tooltip, since a narrow window cuts the text. */
  const makeItem = (Widget, line, fix) => {
    const item = new Widget();
    const text = document.createElement('span');
    const broken = fix !== '';
    text.textContent = broken ? line.replace(/\. Fix: .*$/s, '') : line.split(',')[0];
    text.className = 'jp-StatusBar-TextItem';
    Object.assign(text.style, {
      maxWidth: '40vw', overflow: 'hidden', textOverflow: 'ellipsis', whiteSpace: 'nowrap'
    });
    if (broken) {
      text.style.color = 'var(--jp-warn-color0)';
    }
    item.node.append(text);
    item.id = ID;
    item.node.title = broken ? `Fix: ${fix}` : line;
    item.node.setAttribute('role', 'status');
    item.node.setAttribute('aria-label', line);
    return item;
  };

  const getExtension = async () => {
    const [{ IStatusBar }, { PageConfig }, { Widget }] = await Promise.all(
      ['@jupyterlab/statusbar', '@jupyterlab/coreutils', '@lumino/widgets'].map(load)
    );
    const plugin = {
      id: `${ID}:plugin`,
      description: 'Shows which GPU is used, or why none.',
      autoStart: true,
      optional: [IStatusBar],
      activate: (app, statusBar) => {
        const line = PageConfig.getOption('hothouseGpuLine');
        if (line && statusBar) {
          const item = makeItem(Widget, line, PageConfig.getOption('hothouseGpuFix'));
          statusBar.registerStatusItem(plugin.id, { item, align: 'left', rank: 100 });
        }
      }
    };
    return () => ({ __esModule: true, default: plugin });
  };

  const container = {
    init: (scope) => {
      shared = scope;
    },
    get: (name) =>
      name === './extension'
        ? getExtension()
        : Promise.reject(new Error(`${ID} has no module ${name}`))
  };
  (window._JUPYTERLAB ??= {})[ID] = container;
})();
