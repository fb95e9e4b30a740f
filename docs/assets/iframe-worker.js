// The search of this site runs in a web worker, which browsers refuse to pages opened from a folder (file:). There a
// frame takes its place: an empty one that loads the same script and passes the same messages. The plugin "offline" of
// mkdocs-material looks for a polyfill of this file's name, and its search for `IFrameWorker`.
(function () {
  "use strict";
  if (location.protocol !== "file:") return;

  class IFrameWorker extends EventTarget {
    constructor(url) {
      super();
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      this.loaded = new Promise((resolve) => {
        const attach = () => {
          document.body.append(this.frame);
          const inside = this.frame.contentWindow, page = this.frame.contentDocument;
          inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data: data }));
          inside.importScripts = (...urls) =>
            urls.reduce((before, next) => before.then(() => run(page, next)), Promise.resolve());
          run(page, url).then(() => resolve(inside), () => this.dispatchEvent(new Event("error")));
        };
        if (document.body) attach();
        else document.addEventListener("DOMContentLoaded", attach);
      });
    }

    postMessage(data) {
      this.loaded.then((inside) => inside.dispatchEvent(new MessageEvent("message", { data: data })));
    }

    terminate() {
      this.frame.remove();
    }
  }

  function run(page, url) {
    return new Promise((resolve, reject) => {
      const script = page.createElement("script");
      script.src = new URL(url, location.href).href;
      script.onload = resolve;
      script.onerror = reject;
      (page.body || page.documentElement).append(script);
    });
  }

  window.IFrameWorker = window.Worker = IFrameWorker;
})();
